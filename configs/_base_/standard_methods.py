"""The methods of the large suites: re-sampling, re-weighting, margins, decoupling, adjusted logits, NBN."""

methods = [
    'erm',
    'resample_class_balanced',
    'resample_sqrt',
    'resample_progressive',
    'resample_repeat_factor',
    'deferred_resampling',
    'ce_drw',
    'ldam',
    'ldam_drw',
    'crt',
    'lws',
    'tau_norm',
    'ncm',
    'la_loss',
    'la_posthoc',
    'balanced_softmax',
    'nbn',
    'nbn+balanced_softmax',
]
