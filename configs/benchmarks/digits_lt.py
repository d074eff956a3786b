"""digits_lt: scikit-learn's 8x8 digits, imbalance 40, ResNet-8. The built-in benchmark; nothing to download.

`ltbench run -b digits_lt`; about 4 seconds per run on one core. ERM reaches about 91 (many 100, few 83).
Groups 1 / 4 / 5: small enough for a laptop, long-tailed enough to show differences between methods. No published rows.
"""

data = dict(type='DigitsLT', imbalance_factor=40, profile='exp', n_max=120, test_per_class=50, split_seed=0)
backbone = dict(type='CIFARResNet', depth=8)
recipe = dict(
    epochs=60,
    batch_size=64,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=dict(type='cosine', warmup_epochs=0),
    augmentation=dict(crop_padding=1, flip=False),
    precision='fp32',
    devices=1,
)
