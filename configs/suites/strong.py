"""What is compared since 2021, under strong augmentation: AutoAugment with Cutout on CIFAR, RandAugment on ImageNet-LT.

`ltbench run strong`; 200 epochs on CIFAR, three seeds; 180 epochs on ImageNet-LT, one seed. `--preset strong_400` is
the longer schedule. `glmc` is four times as wide on CIFAR, and `wide(width=4)` is ERM as wide as that.
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
    dict(benchmark='cifar10_lt', methods=[*methods, 'glmc', 'wide(width=4)']),
    dict(benchmark='cifar100_lt', methods=[*methods, 'glmc', 'wide(width=4)']),
    dict(benchmark='imagenet_lt', seeds=[0]),
]
seeds = [0, 1, 2]
preset = 'strong'
