"""What was asked for, on the command line or in Python, and how it is to be carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ltbench.errors import UsageError


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


@dataclass(frozen=True)
class Execution:
    """How a selection is carried out; nothing of it changes a result.

    Args:
        executor: Who carries the stages out, by name.
        workers: Devices that stages take up at once, 1 or more; None is the executor's default.
        timeout: Minutes that a stage may take, more than 0; None is no limit.
        gpus_per_stage: With Ray alone: share of a GPU that a stage takes, 0 to 1.
        slurm: With Slurm alone: partition, time, mem, account and so on.
        track: Where records go too, by name; runs that were recorded before go there as well, if they are missing.
        eval_every: Epochs between scores on the way, 1 or more; None: the last epoch alone is scored.
        plugins: Files with methods.
        figures: Whether the report at the end has figures.

    Raises:
        UsageError: If a value is out of range, or belongs to another executor.
    """

    executor: str = 'local'
    workers: int | None = None
    timeout: float | None = None
    gpus_per_stage: float | None = None
    slurm: Mapping[str, Any] | None = None
    track: tuple[str, ...] = ()
    eval_every: int | None = None
    plugins: tuple[str, ...] = ()
    figures: bool = True

    def __post_init__(self) -> None:
        for name, count in (('workers', self.workers), ('eval_every', self.eval_every)):
            if count is not None and not (isinstance(count, int) and not isinstance(count, bool) and count >= 1):
                raise UsageError(f'{name} is a whole number, 1 or larger, got {count!r}')
        if self.timeout == 0:
            raise UsageError('--timeout 0 would end every stage at once; leave it out for no limit')
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            raise UsageError(f'timeout is a number of minutes, more than 0, got {self.timeout!r}')
        share = self.gpus_per_stage
        if share is not None and not (_is_number(share) and 0 <= share <= 1):
            raise UsageError(f'gpus_per_stage is a number, 0 to 1, got {share!r}')
        if share is not None and self.executor != 'ray':
            raise UsageError(f'--gpus-per-stage is for --executor ray, not {self.executor}')
        if self.slurm and self.executor != 'slurm':
            raise UsageError(f'--slurm is for --executor slurm, not {self.executor}')
        if self.track:
            from ltbench.tracking import check_installed

            check_installed(self.track)

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that the executor alone takes."""
        of_ray = {} if self.gpus_per_stage is None else {'gpus_per_stage': self.gpus_per_stage}
        return of_ray | ({'options': dict(self.slurm)} if self.slurm else {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
