"""folder_lt: any folder of class folders, small images, with the counts of the folder, ResNet-32, 200 epochs.

`ltbench run -b "folder_lt(root=/path/to/images)"`, with ROOT/train/CLASS/* and ROOT/test/CLASS/* (or ROOT/val/CLASS/*),
or ROOT/CLASS/*, where up to `test_per_class` images of each class, at most a third, are held out as test images.
`imbalance_factor=100` re-samples the classes (profile exp, or step). Images of another size than `image_size` are
scaled to it. The recipe, and the cost per image, are those of cifar10_lt. No published rows.
"""

_base_ = '../_base_/cifar_recipe.py'
data = dict(
    type='FolderLT',
    root='',
    image_size=32,
    imbalance_factor=None,
    profile='natural',
    n_max=None,
    test_per_class=100,
    split_seed=0,
    skip_unreadable=False,
)
presets = dict(
    quick=dict(recipe=dict(epochs=30, schedule=dict(type='cosine', warmup_epochs=0)), backbone=dict(depth=20))
)
