"""CIFAR-10-LT and CIFAR-100-LT at imbalance 10, 50, 100 and 200: the 18 standard methods, three seeds.

`ltbench run cifar_lt`; 432 runs of at most 200 epochs of ResNet-32, about 0.13 exaFLOP.
"""

_base_ = '../_base_/standard_methods.py'
benchmarks = [
    'cifar10_lt(imbalance_factor=10)',
    'cifar10_lt(imbalance_factor=50)',
    'cifar10_lt',
    'cifar10_lt(imbalance_factor=200)',
    'cifar100_lt(imbalance_factor=10)',
    'cifar100_lt(imbalance_factor=50)',
    'cifar100_lt',
    'cifar100_lt(imbalance_factor=200)',
]
seeds = [0, 1, 2]
