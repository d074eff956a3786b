"""The NBN paper's ablation on its benchmarks: weight only, bias only and both, at the published recipes.

`ltbench run nbn_paper`; by scope, initial bias and scalar, with and without balanced softmax; three seeds on
CIFAR, one on the large sets: 256 runs, no two of which share a network.
"""

_base_ = '../_base_/nbn_methods.py'
benchmarks = [
    'cifar10_lt',
    'cifar100_lt',
    dict(benchmark='imagenet_lt', seeds=[0]),
    dict(benchmark='inat2018', seeds=[0]),
]
seeds = [0, 1, 2]
