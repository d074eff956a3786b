"""fashion_mnist_lt: Fashion-MNIST, imbalance 100 (14,886 images, groups 8 / 2 / 0), ResNet-20 on 32x32.

`ltbench run -b fashion_mnist_lt`; real images that an ordinary machine can train on. No published rows.
The few-shot group is empty for n_max 6000; `-b "fashion_mnist_lt(n_max=500)"` has one (groups 3 / 4 / 3).
"""

data = dict(type='FashionMNISTLT', imbalance_factor=100, profile='exp', n_max=6000, split_seed=0)
backbone = dict(type='CIFARResNet', depth=20)
recipe = dict(
    epochs=60,
    batch_size=128,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=dict(type='cosine', warmup_epochs=0),
    augmentation=dict(crop_padding=2, flip=True),
    precision='fp32',
    devices=1,
)
presets = dict(quick=dict(recipe=dict(epochs=12), backbone=dict(depth=8)))
