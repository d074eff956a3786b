"""Where text for people goes."""

from __future__ import annotations

from rich.console import Console

WIDTH_ELSEWHERE = 300  # of pipes and files, which have none of their own


def make_console(stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for every table where there is none."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH_ELSEWHERE)
