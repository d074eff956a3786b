"""ResNet-32 as LDAM trains it (kaidic/LDAM-DRW@2536330): 200 epochs, warm-up 5, times 0.01 at epochs 160 and 180."""

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
