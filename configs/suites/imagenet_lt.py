"""ImageNet-LT: the 18 standard methods with ResNet-50, 90 epochs, three seeds.

`ltbench run imagenet_lt`; 54 runs. `--preset quick` is 30 epochs of ResNet-10.
"""

_base_ = '../_base_/standard_methods.py'
benchmarks = ['imagenet_lt']
seeds = [0, 1, 2]
