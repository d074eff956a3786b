"""How Sphinx builds these pages: `sphinx-build -W docs docs/_build`. Those of methods and suites are generated."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generate import write_pages

from ltbench import __version__

project = 'ltbench'
author = 'The ltbench authors'
version = release = __version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = 'ltbench'
myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 3
autodoc_typehints = 'none'  # the signatures have them
autodoc_member_order = 'bysource'
napoleon_custom_sections = [('Slots', 'params_style')]

write_pages(Path(__file__).parent)
