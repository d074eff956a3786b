"""The whole grid: the field's four benchmarks, 18 standard methods, three seeds.

`ltbench run full`; 216 runs, 177 networks. `--dry-run` shows their cost, even without any data: about 40 exaFLOP,
four fifths of it on iNaturalist 2018. `--skip-missing` skips benchmarks whose data are missing.
"""

_base_ = '../_base_/standard_methods.py'
benchmarks = ['cifar10_lt', 'cifar100_lt', 'imagenet_lt', 'inat2018']
seeds = [0, 1, 2]
