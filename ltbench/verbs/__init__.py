"""The verbs of the command line, one file each; :mod:`ltbench.cli` parses their arguments."""
