"""The 18 standard methods on Fashion-MNIST-LT at imbalance 10, 50 and 100, three seeds, quick preset.

`ltbench run fashion_mnist`; about six hours on two cores. With a largest class of 500 images there are few-shot
classes; an epoch is then a twelfth as long, and 12 of them are 120 steps, too few to fit even the training images:
hence 60. Three seeds separate few methods; `--seeds 3,4 -b ...` adds two, as was done for the last benchmark.
"""

_base_ = '../_base_/standard_methods.py'
benchmarks = [
    'fashion_mnist_lt(imbalance_factor=10)',
    'fashion_mnist_lt(imbalance_factor=50)',
    'fashion_mnist_lt(imbalance_factor=100)',
    'fashion_mnist_lt(imbalance_factor=100, n_max=500, epochs=60)',
]
seeds = [0, 1, 2]
preset = 'quick'
