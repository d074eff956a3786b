"""The built-in suite: eight methods on digits_lt, three seeds. `ltbench run`; about two minutes on two cores."""

benchmarks = ['digits_lt']
methods = ['erm', 'resample_class_balanced', 'la_loss', 'la_posthoc', 'ldam_drw', 'crt', 'lws', 'nbn']
seeds = [0, 1, 2]
