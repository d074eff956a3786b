"""imagenet_lt: ImageNet-LT (115,846 images, groups 385 / 479 / 136), ResNet-50, 90 epochs.

`ltbench run -b imagenet_lt`; ERM 41.6 (DisAlign, table 10: many 64.0, medium 33.8, few 5.8).
The recipe is that of Decoupling (facebookresearch/classifier-balancing@f162ade): batch 512, lr 0.2, cosine. Values are
chosen on the official validation list, results are on the test list. A run is 10.4 million images, forward and
backward, or 0.26 exaFLOP; not timed here. `-o devices=N` divides each batch among GPUs; `-o prepared=256`
trains on images that are decoded once (49 GB). Data: `ltbench data get imagenet_lt` says what to put where.
With RandAugment (see `_base_/large_recipe.py`): `--preset strong`, 180 epochs by BCL's optimizer (batch 256, lr 0.1;
FlamieZhu/Balanced-Contrastive-Learning@f72d070), and `strong_400`, PaCo's recipe (batch 128, lr 0.02, warm-up 10;
dvlab-research/Parametric-Contrastive-Learning@fe56535), under which balanced softmax has 55.0 and PaCo 57.0.
"""

_base_ = '../_base_/large_recipe.py'
has_validation = True
data = dict(type='ImageNetLT', root='', verify=True)
presets = dict(
    quick=dict(recipe=dict(epochs=30), backbone=dict(name='resnet10')),
    strong=dict(
        recipe=dict(
            epochs=180,
            batch_size=256,
            optimizer=dict(lr=0.1),
            augmentation=dict(policies=[dict(type='RandAugment', operations=2, strength=30, probability=0.5)]),
        ),
    ),
    strong_400=dict(
        recipe=dict(
            epochs=400,
            batch_size=128,
            optimizer=dict(lr=0.02),
            schedule=dict(warmup_epochs=10),
            augmentation=dict(policies=[dict(type='RandAugment', operations=2, strength=30, probability=0.5)]),
        ),
    ),
)
