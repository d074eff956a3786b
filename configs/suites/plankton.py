"""A natural long tail: ERM, logit-adjusted loss, cRT and NBN on plankton, one seed, preset short.

`ltbench run plankton`.
"""

benchmarks = ['plankton_lt']
methods = ['erm', 'la_loss', 'crt', 'nbn']
seeds = [0]
preset = 'short'
