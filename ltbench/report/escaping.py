"""Foreign text in reports, escaped by one function for each format; only this module knows these rules.

Text of methods, class folders, machines and errors is shown as it is, and is never markup, a formula or a command. HTML
is left to jinja, whose templates escape all that is not marked as HTML.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ltbench.console import printable

LATEX = {
    '\\': r'\textbackslash{}', '&': r'\&', '%': r'\%', '$': r'\$', '#': r'\#', '_': r'\_', '{': r'\{', '}': r'\}',
    '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '<': r'\textless{}',
    '>': r'\textgreater{}', '|': r'\textbar{}', '†': r'\textdagger{}', '‡': r'\textdaggerdbl{}', '§': r'\S{}',
    '¶': r'\P{}', '‖': r'$\|$', '[': '{[}', ']': '{]}', '*': '{*}',
}  # fmt: skip
"""Characters that mean something to LaTeX; ``[`` and ``*`` only after the ``\\\\`` of the row before."""

MARKDOWN = re.compile(r'([\\`*|<~$&]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:]))')
"""Emphasis, code, cells, HTML, strikethrough, formulas, entities, and what turns words in brackets into a link."""

BLOCK = re.compile(r'^(\d*)(>|[#+.)-](?=[# ]|$))')
"""What turns a line into a heading, a list or a quotation."""

FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠')
"""First characters of cells that a spreadsheet computes."""

NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?', re.IGNORECASE)

NO_XML = re.compile(rb'[\x00-\x08\x0b\x0c\x0e-\x1f]')
"""Bytes that no XML may hold, not even as a reference."""


def in_markdown(text: str) -> str:
    """Text on one line of Markdown, also in a table."""
    return BLOCK.sub(r'\1\\\2', MARKDOWN.sub(r'\\\1', _on_one_line(text)))


def in_latex(text: str) -> str:
    """Text on one line of LaTeX, also as the first cell of a row."""
    return ''.join(LATEX.get(character, character) for character in _on_one_line(text))


def in_csv(text: str) -> str:
    """A cell that a spreadsheet shows and does not compute: a formula gets an apostrophe; a number stays a number."""
    is_formula = text.startswith(FORMULA) and not NUMBER.fullmatch(text)
    return "'" * is_formula + '\n'.join(map(printable, text.split('\n')))


def in_script(value: Any) -> str:
    """Plain data as JSON that can stand in a script element, whatever the strings in it are."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(',', ':'))
    return text.replace('<', '\\u003c').replace('\u2028', '\\u2028').replace('\u2029', '\\u2029')


def in_svg(drawn: bytes) -> bytes:
    """An SVG of matplotlib, which escapes markup in texts, without control characters."""
    return NO_XML.sub(b'', drawn)


def in_file_name(text: str) -> str:
    """A part of a file name."""
    return ''.join(character if character.isalnum() or character in '-_.=' else '_' for character in text)


def _on_one_line(text: str) -> str:
    return printable(' '.join(text.split()))
