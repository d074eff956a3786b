"""What was asked for on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Selection:
    """A suite, narrowed or changed; or benchmarks without one."""

    suite: str | None = None
    benchmarks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    preset: str | None = None
    options: Mapping[str, Any] | None = None
    scale_lr: bool = False
    skip_recorded: bool = False
