"""Eight methods on Fashion-MNIST-LT at imbalance 10, 50 and 100, three seeds, quick preset.

`ltbench run fashion_mnist`; about two hours on two cores.
"""

benchmarks = [
    'fashion_mnist_lt(imbalance_factor=10)',
    'fashion_mnist_lt(imbalance_factor=50)',
    'fashion_mnist_lt(imbalance_factor=100)',
]
methods = ['erm', 'resample_class_balanced', 'la_loss', 'la_posthoc', 'ldam_drw', 'crt', 'lws', 'nbn']
seeds = [0, 1, 2]
preset = 'quick'
