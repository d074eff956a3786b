"""cifar10_lt: CIFAR-10-LT, imbalance 100 (12,406 images, groups 8 / 2 / 0), ResNet-32, 200 epochs.

`ltbench run -b cifar10_lt`; ERM 70.4 to 73.2 (LDAM paper table 2 and re-runs of it; see results/published.csv).
The recipe is that of LDAM (kaidic/LDAM-DRW@2536330): warm-up 5, times 0.01 at epochs 160 and 180. The few-shot group is
empty at every published imbalance. A run takes 1.7 to 5 hours of one core, 1.4 to 2.1 with `-o precision=bf16` if
the core has instructions for it.
Data: `ltbench data get cifar10_lt`.
"""

_base_ = '../_base_/cifar_recipe.py'
data = dict(type='CIFAR10LT', imbalance_factor=100, profile='exp', split_seed=0)
presets = dict(
    quick=dict(recipe=dict(epochs=30, schedule=dict(type='cosine', warmup_epochs=0)), backbone=dict(depth=20))
)
