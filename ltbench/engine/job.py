"""The job of a worker, and the context that it needs to run the stage."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ltbench.data import LongTailData, load_data
from ltbench.data.batches import ALONE, Share
from ltbench.engine.environment import compute_exactly, describe, peak_memory_mb
from ltbench.errors import StoreError
from ltbench.stage import Stage, train_stage_of
from ltbench.store import Artifact, Store

LOG = 'log.txt'
PROGRESS_SECONDS = 0.5
"""Between two reports: each waits for the disk, which could take longer than a short epoch."""


class StoppedError(Exception):
    """The worker was asked to stop and has saved its state."""


@dataclass(frozen=True)
class Runtime:
    """How a stage is run; nothing here changes what it computes, so nothing here is fingerprinted.

    The number of threads changes the last bits of sums, so it is set and recorded, never left to the machine's load.
    """

    threads: int = 1
    device: str = 'auto'  # a CUDA GPU if there is one
    plugins: tuple[str, ...] = ()
    loader_workers: int | None = None  # processes that decode large images; None: one per thread
    checkpoint_seconds: float = 1.0  # shortest time between two checkpoints
    eval_every: int | None = None  # epochs between scores for curves; None: only the last epoch is scored
    slots: tuple[int, ...] = (0,)  # of the executor, one per process; slot i uses GPU i, modulo their number


@dataclass(frozen=True)
class Job:
    """One stage for one worker; plain data, so that it can travel to another process or machine."""

    stage: Stage
    store: str
    runtime: Runtime = field(default_factory=Runtime)

    def on(self, **places: Any) -> Job:
        """The same stage with other values of the runtime, such as the slots that it got."""
        return replace(self, runtime=replace(self.runtime, **places))

    def to_json(self) -> dict[str, Any]:
        """Plain data; :meth:`from_json` is the way back."""
        return {
            'fingerprint': self.stage.fingerprint,
            'stage': self.stage.to_json(),
            'store': self.store,
            'runtime': asdict(self.runtime),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Read what :meth:`to_json` wrote."""
        options = data['runtime']
        runtime = Runtime(**{**options, 'plugins': tuple(options['plugins']), 'slots': tuple(options['slots'])})
        return cls(Stage.from_json(data['stage']), data['store'], runtime)


class StageContext:
    """The stage being run: its data, device, folder, parent artifact, and a way to report progress.

    Args:
        stage: The stage.
        store: Where its parents are and its artifact goes.
        runtime: How it is run.
        share: Which of several processes this is.
        stop_requested: Set when the worker should save and stop; training does so after the current epoch.
    """

    def __init__(
        self,
        stage: Stage,
        store: Store,
        runtime: Runtime,
        share: Share = ALONE,
        stop_requested: threading.Event | None = None,
    ) -> None:
        self.stage, self.store, self.runtime, self.share = stage, store, runtime, share
        self.stop_requested = stop_requested or threading.Event()
        self.config = stage.config
        self.train_config = train_stage_of(stage).config
        device = ('cuda' if torch.cuda.is_available() else 'cpu') if runtime.device == 'auto' else runtime.device
        if device == 'cuda':
            device = f'cuda:{runtime.slots[share.rank] % torch.cuda.device_count()}'
            torch.cuda.set_device(device)
            compute_exactly()
        self.device = torch.device(device)
        self.folder: Path = store.work(stage.fingerprint)
        self.warnings: list[str] = []
        self.first_epoch = 0  # of this session
        self._started = time.time()
        self._last_report = 0.0

    @property
    def precision(self) -> str:
        """What the network computes in, see :mod:`ltbench.models.precision`."""
        return self.train_config['recipe']['precision']

    @property
    def loader_workers(self) -> int:
        """Processes that decode large images."""
        return self.runtime.threads if self.runtime.loader_workers is None else self.runtime.loader_workers

    @property
    def data(self) -> LongTailData:
        """The data set; its contents are compared with those that the plan was made for.

        Raises:
            StoreError: If they differ.
        """
        data = load_data(self.train_config['data'])
        if data.fingerprint != self.train_config['data']['fingerprint']:
            raise StoreError(f'{data.title} has changed on disk since this run was planned; run the command again')
        return data

    @property
    def parent(self) -> Artifact:
        """The parent's artifact.

        Raises:
            StoreError: If it is not in the store.
        """
        return self.artifact_of(self.stage.parents[0])

    def artifact_of(self, stage: Stage) -> Artifact:
        """The artifact of an earlier stage."""
        artifact = self.store.find(stage.fingerprint)
        if artifact is None:
            raise StoreError(f'the {stage.kind} stage {stage.fingerprint[:12]} is not in {self.store.root}')
        return artifact

    def progress(self, done: int, total: int, **values: float) -> None:
        """Report how many epochs are done and what was measured in the last one; at most twice a second."""
        now = time.time()
        if self.share.rank > 0 or (done < total and now - self._last_report < PROGRESS_SECONDS):
            return
        self._last_report = now
        times = {'first': self.first_epoch, 'started': self._started, 'updated': now}
        self.store.write(self.stage.fingerprint, 'progress', {'done': done, 'total': total, **times, **values})

    def publish(
        self,
        cost: Mapping[str, Any],
        write: Callable[[Path], None],
        model: Mapping[str, Any] | None = None,
        **meta: Any,
    ) -> Artifact:
        """Put the stage's files into the store, with its config, cost, environment, log and lineage.

        Args:
            cost: Seconds; the peak memory is added.
            write: Fills a folder with the files.
            model: ``parameters``, ``flops``, ``curve``, ``analysis`` and ``images_per_second``, where this stage
                changes them; the rest is copied from the stage it needs.
            meta: Further entries of this kind of stage.
        """

        def write_all(folder: Path) -> None:
            write(folder)
            if (self.folder / LOG).is_file():
                shutil.copy(self.folder / LOG, folder / LOG)

        cost = {**cost, 'peak_memory_mb': peak_memory_mb(self.device)}
        lineage = {row['fingerprint']: row for stage in self.stage.parents for row in self._meta_of(stage)['lineage']}
        key = self.stage.fingerprint
        lineage[key] = {
            'kind': self.stage.kind, 'fingerprint': key, 'epochs': meta.get('epochs', 0), 'cost': cost,
            'warnings': self.warnings,
        }  # fmt: skip
        inherited = self._meta_of(self.stage.needs)['model'] if self.stage.needs else {}
        return self.store.publish(
            key,
            {
                'kind': self.stage.kind,
                'config': self.config,
                'cost': cost,
                'model': {**inherited, **(model or {})},
                'lineage': list(lineage.values()),  # this stage and the stages before it, first to last
                'environment': describe(self.device, torch.get_num_threads()),
                **meta,
            },
            write_all,
        )

    def _meta_of(self, stage: Stage) -> Mapping[str, Any]:
        return self.artifact_of(stage).meta
