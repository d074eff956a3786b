"""ResNet-50 as Decoupling trains it on ImageNet-LT (facebookresearch/classifier-balancing@f162ade): cosine, lr 0.2.

RandAugment in presets `strong` is what BCL and PaCo call `rand-n2-m10`: their 10 is the largest strength, 30 here, and
each of the two operations is applied to half of the images. Operations and scales are torchvision's; theirs also have
Invert and SolarizeAdd, and at full strength only increase brightness, colour, contrast and sharpness.
"""

backbone = dict(type='TorchvisionResNet', name='resnet50')
recipe = dict(
    epochs=90,
    batch_size=512,
    optimizer=dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=5e-4),
    schedule=dict(type='cosine', warmup_epochs=0),
    augmentation=dict(
        random_resized_crop=224,
        flip=True,
        color_jitter=[0.4, 0.4, 0.4, 0.0],
        resize=256,
        center_crop=224,
        pre_resize=None,
    ),
    precision='fp32',
    devices=1,
)
