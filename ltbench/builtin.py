"""Importing this module registers every built-in method and the parts that live beside methods.

The registries do so by themselves at the first name they do not know, so ``MODELS.build(dict(type='LDAMLoss', ...))``
works without further ado.
"""

from ltbench import plugins

plugins.load()
