"""The question of the NBN paper: which part of BN carries the bias? `ltbench run nbn_ablation`; 1.5 h on two cores.

Weight only, bias only and both, in the last stage and in all layers, from each start of the bias, with and without
balanced softmax, beside the same without NBN; both also with a scalar for each vector in place of a shared one.
Fashion-MNIST-LT at imbalance 100 with a head of 500 images, so that there are few-shot classes; three seeds, quick
preset, 60 epochs.
"""

benchmarks = ['fashion_mnist_lt(imbalance_factor=100, n_max=500, epochs=60)']
methods = [
    'erm',
    'nbn(normalize=weight)',
    'nbn(normalize=weight, scope=all)',
    'nbn(normalize=bias)',
    'nbn(normalize=bias, bias_init=ones)',
    'nbn(normalize=bias, bias_init=normal)',
    'nbn(normalize=bias, scope=all)',
    'nbn(normalize=bias, scope=all, bias_init=ones)',
    'nbn(normalize=bias, scope=all, bias_init=normal)',
    'nbn',
    'nbn(bias_init=ones)',
    'nbn(bias_init=normal)',
    'nbn(scalar=each)',
    'nbn(scope=all)',
    'nbn(scope=all, bias_init=ones)',
    'nbn(scope=all, bias_init=normal)',
    'balanced_softmax',
    'nbn(normalize=weight)+balanced_softmax',
    'nbn(normalize=weight, scope=all)+balanced_softmax',
    'nbn(normalize=bias)+balanced_softmax',
    'nbn(normalize=bias, bias_init=ones)+balanced_softmax',
    'nbn(normalize=bias, bias_init=normal)+balanced_softmax',
    'nbn(normalize=bias, scope=all)+balanced_softmax',
    'nbn(normalize=bias, scope=all, bias_init=ones)+balanced_softmax',
    'nbn(normalize=bias, scope=all, bias_init=normal)+balanced_softmax',
    'nbn+balanced_softmax',
    'nbn(bias_init=ones)+balanced_softmax',
    'nbn(bias_init=normal)+balanced_softmax',
    'nbn(scalar=each)+balanced_softmax',
    'nbn(scope=all)+balanced_softmax',
    'nbn(scope=all, bias_init=ones)+balanced_softmax',
    'nbn(scope=all, bias_init=normal)+balanced_softmax',
]
seeds = [0, 1, 2]
preset = 'quick'
