"""inat2018: iNaturalist 2018 (437,513 images of 8,142 classes, groups 842 / 4076 / 3224), ResNet-50, 90 epochs.

`ltbench run -b inat2018`; ERM 61.7 (Decoupling, as quoted by DisAlign, table 3: many 72.2, medium 63.0, few 57.2); with
`--preset long`, 200 epochs, 65.8. The recipe is that of Decoupling, without colour jitter. There is no separate
test set: results are on validation images, and nothing is selected on them. A run is 39 million images, or 0.97 exaFLOP
(87 million and 2.1 with `long`); not timed here.
`--preset strong` has RandAugment (see `_base_/large_recipe.py`), colour jitter and 100 epochs by BCL's optimizer (batch
256, lr 0.2; FlamieZhu/Balanced-Contrastive-Learning@f72d070).
Data: `ltbench data get inat2018` (120 GB).
"""

_base_ = '../_base_/large_recipe.py'
data = dict(type='INaturalist2018', root='', verify=True)
recipe = dict(optimizer=dict(weight_decay=1e-4), augmentation=dict(color_jitter=None))
presets = dict(
    long=dict(recipe=dict(epochs=200)),
    quick=dict(recipe=dict(epochs=30)),
    strong=dict(
        recipe=dict(
            epochs=100,
            batch_size=256,
            augmentation=dict(
                color_jitter=[0.4, 0.4, 0.4, 0.0],
                policies=[dict(type='RandAugment', operations=2, strength=30, probability=0.5)],
            ),
        ),
    ),
)
