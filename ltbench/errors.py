"""Errors that a user can fix. The command line prints them as one line and exits with their code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

_T = TypeVar('_T')

EXIT_FAILED = 1
"""At least one stage failed."""
EXIT_CLAIMED = 75
"""Of a worker: another process makes this artifact, or it was asked to stop; try again (sysexits' EX_TEMPFAIL)."""


class LTBenchError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code = EXIT_FAILED


class UsageError(LTBenchError):
    """The request names something unknown, or contradicts itself."""

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
    """Some of the runs that were started from Python failed.

    Attributes:
        records: The data frame of the other runs, as :func:`ltbench.run` returns it.
    """

    def __init__(self, message: str, records: Any) -> None:
        super().__init__(message)
        self.records = records


def given(value: _T | None) -> _T:
    """``value``, or RuntimeError if it is None: an ``assert`` that ``python -O`` keeps."""
    if value is None:
        raise RuntimeError('a required value is missing: a bug in ltbench')
    return value


def unknown(noun: str, name: str, known: Iterable[str], hint: str = '') -> UsageError:
    """The error for an unknown name, with similar names."""
    known = sorted(known)
    if near := near_misses(name, known):
        advice = f'did you mean {" or ".join(near)}?'
    else:
        advice = f'known: {", ".join(known)}' if known else 'none is known'
    return UsageError(f'unknown {noun} {name!r}: {advice}{hint}')


def near_misses(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are most similar to ``name``, or contain it, ignoring case; three at most."""
    known = sorted(known)
    wanted, lower = name.lower(), {k.lower(): k for k in known}
    near = [lower[k] for k in get_close_matches(wanted, lower, n=3, cutoff=0.5)]
    return near or [k for k in known if wanted and wanted in k.lower()][:3]
