"""A natural long tail: ERM, logit-adjusted loss, cRT and NBN on plankton, one seed, preset short.

`ltbench run plankton`; three trainings of about 13 minutes on one core with bfloat16 instructions (Xeon with AMX, 255
images a second), for four rows.
"""

benchmarks = ['plankton_lt']
methods = ['erm', 'la_loss', 'crt', 'nbn']
seeds = [0]
preset = 'short'
