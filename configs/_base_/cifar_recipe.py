"""ResNet-32 as LDAM trains it (kaidic/LDAM-DRW@2536330): 200 epochs, warm-up 5, times 0.01 at epochs 160 and 180.

Preset `strong` has the AutoAugment and Cutout that papers since 2021 use for comparisons: 200 epochs, cosine, batch 64.
On CIFAR-100-LT, imbalance 100: ERM 44.6, LDAM-DRW 49.0, balanced softmax 49.4 (as quoted by DBM, AAAI 2025).
`strong_400` is near the recipe of NCL (Bazinga699/NCL@f64fddb): 400 epochs, times 0.1 at epochs 320 and 360 (there an
epoch earlier, with Nesterov momentum, warm-up from a third of the rate, and without the last, shorter batch). Pixels
that a move leaves empty are black here and grey in their code.
"""

backbone = dict(type='CIFARResNet', depth=32)
recipe = dict(
    epochs=200,
    batch_size=128,
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=2e-4),
    schedule=dict(type='step', at=[0.8, 0.9], gamma=0.01, warmup_epochs=5),
    augmentation=dict(crop_padding=4, flip=True),
    precision='fp32',
    devices=1,
)

presets = dict(
    strong=dict(
        recipe=dict(
            batch_size=64,
            schedule=dict(type='cosine', warmup_epochs=5),
            augmentation=dict(policies=[dict(type='AutoAugment', table='cifar10'), dict(type='Cutout', side=16)]),
        ),
    ),
    strong_400=dict(
        recipe=dict(
            epochs=400,
            batch_size=64,
            schedule=dict(type='step', at=[0.8, 0.9], gamma=0.1, warmup_epochs=5),
            augmentation=dict(policies=[dict(type='AutoAugment', table='cifar10'), dict(type='Cutout', side=16)]),
        ),
    ),
)
