"""places_lt: Places-LT (62,500 images of 365 classes, groups 131 / 163 / 71), ResNet-50 from scratch, 90 epochs.

`ltbench run -b places_lt`. Published rows fine-tune a ResNet-152 that was pre-trained on ImageNet; these are trained
from scratch and not comparable with them. A run is 5.6 million images, or 0.14 exaFLOP; not timed here.
Data: `ltbench data get places_lt` says what to put where.
"""

has_validation = True
data = dict(type='PlacesLT', root='', verify=True)
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
presets = dict(quick=dict(recipe=dict(epochs=30), backbone=dict(name='resnet10')))
