"""cifar100_lt: CIFAR-100-LT, imbalance 100 (10,847 images, groups 35 / 35 / 30), ResNet-32, 200 epochs.

`ltbench run -b cifar100_lt`; ERM 38.3 (LDAM paper, table 2), LDAM-DRW 42.0.
The recipe is that of LDAM (kaidic/LDAM-DRW@2536330): warm-up 5, times 0.01 at epochs 160 and 180.
An epoch has 7/8 of the images of CIFAR-10-LT, and takes 7/8 of its time. Data: `ltbench data get cifar100_lt`.
"""

_base_ = '../_base_/cifar_recipe.py'
data = dict(type='CIFAR100LT', imbalance_factor=100, profile='exp', split_seed=0)
presets = dict(
    quick=dict(recipe=dict(epochs=30, schedule=dict(type='cosine', warmup_epochs=0)), backbone=dict(depth=20))
)
