"""plankton_lt: plankton in grey, a natural long tail (24,374 images of 121 classes, groups 51 / 52 / 18), 64x64 pixels."""

version = 1
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
backbone = dict(type='CIFARResNet', depth=20, width=1.0)
recipe = dict(
    epochs=60,
    batch_size=128,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=dict(type='cosine', warmup_epochs=0),
    augmentation=dict(crop_padding=8, flip=True),
    precision='fp32',
    devices=1,
)
