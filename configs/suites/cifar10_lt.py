"""CIFAR-10-LT at the published recipe: imbalance 100, ResNet-32, 200 epochs, bfloat16 convolutions, three seeds.

`ltbench run cifar10_lt`; 24 networks of 200 epochs and what rests on them. A network takes about 2 hours of one core
with bfloat16 instructions (Xeon with AMX, 330 images/s), so the suite takes a day on two cores.
"""

benchmarks = ['cifar10_lt(precision=bf16)']
methods = [
    'erm',
    'ce_drw',
    'deferred_resampling',
    'crt',
    'lws',
    'tau_norm',
    'ncm',
    'la_posthoc',
    'ldam',
    'ldam_drw',
    'balanced_softmax',
    'la_loss',
    'nbn',
    'nbn+balanced_softmax',
    'nbn(bias_init=normal)',
    'nbn(bias_init=normal)+balanced_softmax',
]
seeds = [0, 1, 2]
