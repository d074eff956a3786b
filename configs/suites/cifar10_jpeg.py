"""All methods of the mission on CIFAR-10 re-encoded as JPEG: imbalance 100, ResNet-32, 20 epochs, bfloat16, two seeds.

`ltbench run cifar10_jpeg`; on two cores three and a half hours, eight without bfloat16 instructions.
Not comparable with published decimals.
NBN also with a bias that can learn: as released it switches the last stage of this network off (results/README.md).
"""

_base_ = '../_base_/mission_methods.py'
benchmarks = ['cifar10_jpeg_lt']
methods = [*_base_.methods, 'nbn(bias_init=normal)', 'nbn(bias_init=normal)+balanced_softmax']
seeds = [0, 1]
preset = 'short'
