"""iNaturalist 2018: the 18 standard methods with ResNet-50, 90 epochs, one seed.

`ltbench run inat2018`; 18 runs. `--preset quick` is 30 epochs, `--preset long` is 200.
"""

_base_ = '../_base_/standard_methods.py'
benchmarks = ['inat2018']
seeds = [0]
