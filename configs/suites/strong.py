"""Methods since 2021 under strong augmentation: AutoAugment with Cutout on CIFAR, RandAugment on ImageNet-LT.

`ltbench run strong`; 200 epochs on CIFAR, three seeds; 180 epochs on ImageNet-LT, one seed. `--preset strong_400` is
the longer schedule. On CIFAR, GLMC is published with a network four times as wide: `wide(width=4)+glmc`, next to ERM
with the same width.
"""

methods = [
    'erm',
    'ldam_drw',
    'balanced_softmax',
    'nbn+balanced_softmax',
    'cmo+balanced_softmax',
    'bcl',
    'paco',
    'gpaco',
    'proco',
    'los',
    'sam+balanced_softmax',
    'ncl',
    'sade',
    'mdcs',
]
benchmarks = [
    dict(benchmark='cifar10_lt', methods=[*methods, 'wide(width=4)+glmc', 'wide(width=4)']),
    dict(benchmark='cifar100_lt', methods=[*methods, 'wide(width=4)+glmc', 'wide(width=4)']),
    dict(benchmark='imagenet_lt', seeds=[0]),
]
seeds = [0, 1, 2]
preset = 'strong'
