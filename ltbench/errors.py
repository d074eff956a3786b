"""Errors a user can mend. The command line prints them as one line and exits with their code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

_T = TypeVar('_T')

EXIT_FAILED = 1
"""At least one stage failed."""
EXIT_CLAIMED = 75
"""A worker's: another process is making this artifact, or it was told to leave; ask again (sysexits' EX_TEMPFAIL)."""


class LTBenchError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code = EXIT_FAILED


class UsageError(LTBenchError):
    """What was asked for does not exist or does not fit together."""

    exit_code = 2


class DataError(LTBenchError):
    """A data file is missing or is not what it should be."""

    exit_code = 3


class StoreError(LTBenchError):
    """The store cannot be read or written, or holds something damaged."""

    exit_code = 4


class MethodWarning(UserWarning):
    """Something about a run that its user should know; kept in the record and shown at the end."""


class InterruptedRunError(LTBenchError):
    """Ctrl-C."""

    exit_code = 130


class FailedRunsError(LTBenchError):
    """Of the runs that were asked for in Python, some failed.

    Attributes:
        records: The data frame of those that did not, as :func:`ltbench.run` returns it where all is well.
    """

    def __init__(self, message: str, records: Any) -> None:
        super().__init__(message)
        self.records = records


def given(value: _T | None) -> _T:
    """A value that is there unless ltbench itself is wrong, for which ``python -O`` would leave an assertion out."""
    if value is None:
        raise RuntimeError('a value that has to be there is missing: a fault of ltbench')
    return value


def unknown(noun: str, name: str, known: Iterable[str], hint: str = '') -> UsageError:
    """The error for a name that is not known, with its near misses."""
    known = sorted(known)
    if near := near_misses(name, known):
        advice = f'did you mean {" or ".join(near)}?'
    else:
        advice = f'known: {", ".join(known)}' if known else 'none is known'
    return UsageError(f'unknown {noun} {name!r}: {advice}{hint}')


def near_misses(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are most like one, or contain it, whatever the case; three at most."""
    known = sorted(known)
    wanted, lower = name.lower(), {k.lower(): k for k in known}
    near = [lower[k] for k in get_close_matches(wanted, lower, n=3, cutoff=0.5)]
    return near or [k for k in known if wanted and wanted in k.lower()][:3]
