"""How Sphinx builds these pages: `sphinx-build -W docs docs/_build`. Those of methods and suites are generated."""

import re
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


LINKS = {
    r'\.\./results/(\w+)/README\.md': r'reproduce/\1.md',
    r'\.\./results/README\.md': 'reproduce/index.md',
    r'\.\./methods': 'methods/index.md',
    r'\.\./ltbench/record_schema\.py': 'record_fields.md',
}
"""Where links lead to that a reader of the repository follows, and the generated pages that tell the same here."""


def setup(app):
    """Change sources before they are read."""
    app.connect('source-read', lead_to_pages)


def lead_to_pages(app, page, source):
    """Links into the repository become links to generated pages."""
    for link, generated in LINKS.items():
        source[0] = re.sub(rf'\]\({link}\)', f']({generated})', source[0])
