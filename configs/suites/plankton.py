"""A natural long tail: eight methods on plankton, two seeds, preset short.

`ltbench run plankton`; eight networks, which take 13 minutes of one core each with bfloat16 instructions (Xeon with
AMX, 255 images a second), 27 without, and the second stages that use them.
"""

benchmarks = ['plankton_lt']
methods = ['erm', 'la_posthoc', 'crt', 'lws', 'ncm', 'la_loss', 'nbn', 'nbn+balanced_softmax']
seeds = [0, 1]
preset = 'short'
