"""The question of the NBN paper: which part of BN carries the bias? `ltbench run nbn_ablation`; 1.5 h on two cores.

Weight only, bias only and both, in the last stage and in all layers, for each initial bias, with and without balanced
softmax, compared with training without NBN; "both" also with a scalar for each vector instead of a shared one.
Fashion-MNIST-LT at imbalance 100 with a largest class of 500 images, so that there are few-shot classes; three seeds,
quick preset, 60 epochs.
"""

_base_ = '../_base_/nbn_methods.py'
benchmarks = ['fashion_mnist_lt(imbalance_factor=100, n_max=500, epochs=60)']
seeds = [0, 1, 2]
preset = 'quick'
