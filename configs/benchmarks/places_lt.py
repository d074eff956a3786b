"""places_lt: Places-LT (62,500 images of 365 classes, groups 131 / 163 / 71), ResNet-50 from scratch, 90 epochs.

`ltbench run -b places_lt`. Published rows fine-tune a ResNet-152 that was pre-trained on ImageNet; these are trained
from scratch and not comparable with them. A run is 5.6 million images, or 0.14 exaFLOP; not timed here.
Data: `ltbench data get places_lt` says what to put where.
"""

_base_ = '../_base_/large_recipe.py'
has_validation = True
data = dict(type='PlacesLT', root='', verify=True)
presets = dict(quick=dict(recipe=dict(epochs=30), backbone=dict(name='resnet10')))
