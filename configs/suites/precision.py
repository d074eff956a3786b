"""Does bfloat16 cost accuracy? ERM on Fashion-MNIST-LT, imbalance 100, five seeds, quick preset, in both precisions.

`ltbench run precision`; about 20 minutes on one core of a processor with bfloat16 (Zen 4).
"""

benchmarks = ['fashion_mnist_lt', 'fashion_mnist_lt(precision=bf16)']
methods = ['erm']
seeds = [0, 1, 2, 3, 4]
preset = 'quick'
ablate = ['recipe.precision']
