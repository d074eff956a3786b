"""places_lt: Places-LT (62,500 images of 365 classes, groups 131 / 163 / 71), ResNet-50 from scratch, 90 epochs.

`ltbench run -b places_lt`. Trained from scratch, unlike all published rows. A run is 5.6 million images, or 0.14
exaFLOP; not timed here.
`--preset pretrained` is what published rows do: ResNet-152 with pre-trained weights of ImageNet, 30 epochs, at
a tenth of the head's learning rate; batch, rates, cosine and weight decay of Decoupling's files for Places-LT
(facebookresearch/classifier-balancing@f162ade, which do not include the first stage itself). The weights are
torchvision's `IMAGENET1K_V1` (https://download.pytorch.org/models/resnet152-394f9c45.pth), expected in
`$TORCH_HOME/hub`; `-o weights.file=PATH` names another place. NCL starts from the same (Bazinga699/NCL@f64fddb); OLTR
and Decoupling from weights converted from Caffe, which `-o weights.sha256=...` allows. A run is 1.9 million images, or
0.13 exaFLOP; not timed here.
Data: `ltbench data get places_lt` says what to put where.
"""

_base_ = '../_base_/large_recipe.py'
has_validation = True
data = dict(type='PlacesLT', root='', verify=True)
presets = dict(
    quick=dict(recipe=dict(epochs=30), backbone=dict(name='resnet10')),
    pretrained=dict(
        backbone=dict(type='TorchvisionResNet', name='resnet152', weights=dict(sha256='394f9c45', file='')),
        recipe=dict(
            epochs=30,
            batch_size=256,
            optimizer=dict(
                type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4, paramwise={'head': dict(lr_mult=10.0)}
            ),
        ),
    ),
)
