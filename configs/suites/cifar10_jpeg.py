"""All methods of the mission on CIFAR-10 re-encoded as JPEG, imbalance 100, ResNet-32, 30 epochs, two seeds.

`ltbench run cifar10_jpeg`; hours on a GPU's worth of cores, minutes on a GPU. Not comparable with published decimals.
"""

benchmarks = ['cifar10_jpeg_lt']
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
seeds = [0, 1]
preset = 'short'
