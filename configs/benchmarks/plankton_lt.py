"""plankton_lt: plankton in grey, a natural long tail (24,374 images, 121 classes, groups 51 / 52 / 18), ResNet-10.

`ltbench run -b plankton_lt`; needs a folder `plankton/all` in the data folder, with `CLASS/*.jpg` of the training part
of Kaggle's National Data Science Bowl (PlanktonSet 1.0: 30,336 images of 121 classes, 1,979 to 9 images per class).
They are scaled from 21 to 428 pixels to 64x64. A third of each class, 100 images at most, is held out as test images
(5,962 images), so top-1 gives common classes more weight, and macro all classes the same. Preset `short`: 8 epochs in
bfloat16, about 13 minutes per run on one core with instructions for it.
No published rows.
"""

data = dict(
    type='FolderLT',
    root='plankton/all',
    image_size=64,
    imbalance_factor=None,
    profile='natural',
    n_max=None,
    test_per_class=100,
    split_seed=0,
    skip_unreadable=False,
)
backbone = dict(type='TorchvisionResNet', name='resnet10')
recipe = dict(
    epochs=60,
    batch_size=128,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=dict(type='cosine', warmup_epochs=0),
    augmentation=dict(crop_padding=8, flip=True),
    precision='fp32',
    devices=1,
)
presets = dict(
    short=dict(
        recipe=dict(epochs=8, precision='bf16', schedule=dict(type='step', at=[0.6, 0.8], gamma=0.1, warmup_epochs=0))
    )
)
caveat = 'The test part is unbalanced: top-1 is over its images, macro and the groups are means over classes.'
