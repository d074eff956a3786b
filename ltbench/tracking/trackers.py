"""The trackers: how each is opened, how it is checked for a run, and how a run is written to it."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ltbench.fingerprint import fingerprint

TAGS = ('benchmark', 'imbalance_factor', 'setting', 'table', 'method', 'run_seed', 'fingerprint')
"""Fields of a record that become tags of its run, in addition to the suite."""
SHOWN = ('test/top1', 'test/many', 'test/medium', 'test/few')
"""Columns of TensorBoard's table of runs."""

Record = Mapping[str, Any]


class Tracker(ABC):
    """A place that runs are written to.

    Args:
        suite: The suite that all runs belong to.
        folder: Where it may write.
    """

    package: ClassVar[str]
    """What must be installed."""
    unless_set: ClassVar[Mapping[str, str]] = {}
    """Environment variables to set for the package, unless the user has set them."""

    def __init__(self, suite: str, folder: Path) -> None:
        self.suite, self.folder = suite, folder
        for variable, value in self.unless_set.items():
            os.environ.setdefault(variable, value)

    @abstractmethod
    def knows(self, name: str) -> bool:
        """Whether a run is known to be complete there, without asking a server."""

    def has(self, name: str) -> bool:
        """Whether a run is complete there; called while nobody else writes. An incomplete copy of it is removed."""
        return self.knows(name)

    @abstractmethod
    def write(self, name: str, record: Record, path: Path) -> None:
        """Write a run.

        Args:
            name: Of the run: its record's file name without ``.json``.
            record: Its record.
            path: The record's file.
        """

    @abstractmethod
    def viewer(self) -> str:
        """The command that shows what was written."""


class TensorBoard(Tracker):
    """A folder of event files a run, with the tags as hyper-parameters."""

    package = 'tensorboard'

    def knows(self, name: str) -> bool:
        """Whether its folder exists, which appears only when it is complete."""
        return (self.folder / name).is_dir()

    def write(self, name: str, record: Record, path: Path) -> None:
        """Write a folder of event files under a temporary name, and rename it when it is complete."""
        from mmengine.visualization import TensorboardVisBackend
        from torch.utils.tensorboard.summary import hparams

        unfinished = self.folder / f'.{name}'
        shutil.rmtree(unfinished, ignore_errors=True)
        backend = TensorboardVisBackend(str(unfinished))
        tags = tags_of(self.suite, record)
        for step, scalars in scalars_of(record):
            backend.add_scalars(scalars, step)
        writer = backend.experiment
        text = json.dumps(config_of(record), indent=1)
        writer.add_text('config', ''.join(f'    {line}\n' for line in text.splitlines()))  # as code, in Markdown
        table = ''.join(f'| {key} | {value} |\n' for key, value in tags.items())
        writer.add_text('tags', f'| tag | value |\n|---|---|\n{table}')
        for summary in hparams(dict(tags), dict.fromkeys(SHOWN, 0.0)):  # declares columns; add_hparams adds a run
            writer.file_writer.add_summary(summary)
        backend.close()
        unfinished.rename(self.folder / name)

    def viewer(self) -> str:
        """The command ``tensorboard`` for the folder."""
        return shlex.join(['tensorboard', '--logdir', _near(self.folder)])


class MLflow(Tracker):
    """One MLflow run per record, in an experiment named after the suite.

    In ``$MLFLOW_TRACKING_URI``, else in a file store in the folder.
    """

    package = 'mlflow'
    unless_set: ClassVar[Mapping[str, str]] = {
        'MLFLOW_ALLOW_FILE_STORE': 'true',  # otherwise MLflow 3.17 opens no file store
        'MLFLOW_DISABLE_TELEMETRY': 'true',  # otherwise it reports every use to its makers
        'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '3',  # a server that is down is noticed in 15 seconds, not in 4 minutes
        'MLFLOW_HTTP_REQUEST_TIMEOUT': '20',
    }

    def __init__(self, suite: str, folder: Path) -> None:
        super().__init__(suite, folder)
        from mlflow import MlflowClient

        self.uri = os.environ.get('MLFLOW_TRACKING_URI')
        self.client = MlflowClient(self.uri or folder.as_uri())
        self.complete = {run.data.tags['record'] for run in self._search("tags.complete = 'yes'")}

    def knows(self, name: str) -> bool:
        """Whether it was complete when the tracker was opened, or was written since."""
        return name in self.complete

    def has(self, name: str) -> bool:
        """Search the experiment for complete runs of that record, and delete incomplete ones."""
        is_complete = False
        for run in self._search(f"tags.record = '{name}'"):
            if run.data.tags.get('complete') == 'yes':
                is_complete = True
            else:
                self.client.delete_run(run.info.run_id)
        return is_complete

    def write(self, name: str, record: Record, path: Path) -> None:
        """Write an MLflow run with the record attached; the tag ``complete`` is set last."""
        from mmengine.logging import MMLogger
        from mmengine.visualization import MLflowVisBackend

        backend = MLflowVisBackend(
            str(self.folder),
            exp_name=self.suite,
            run_name=name,
            tags={**tags_of(self.suite, record), 'record': name},
            params=flat(config_of(record)),
            tracking_uri=self.uri,
        )
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns that the server must be running, whether it runs or not
        try:
            mlflow = backend.experiment
        finally:
            logger.setLevel(level)
            if self.uri is None:
                os.environ.pop('MLFLOW_TRACKING_URI', None)  # set by MLflow for child processes, not by the user
        for step, scalars in scalars_of(record):
            backend.add_scalars(scalars, step)
        mlflow.log_artifact(str(path))
        mlflow.set_tag('complete', 'yes')
        mlflow.end_run()  # backend.close() would attach a whole work_dir, which does not exist
        self.complete.add(name)

    def viewer(self) -> str:
        """The command ``mlflow ui`` for the server or the folder."""
        command = ['mlflow', 'ui', '--backend-store-uri', self.uri or _near(self.folder)]
        return ('' if self.uri else 'MLFLOW_ALLOW_FILE_STORE=true ') + shlex.join(command)

    def _search(self, condition: str) -> list[Any]:
        experiment = self.client.get_experiment_by_name(self.suite)
        if experiment is None:
            return []
        return list(self.client.search_runs([experiment.experiment_id], condition, max_results=50_000))


class WandB(Tracker):
    """One run of Weights & Biases per record, grouped by suite in the project ``$WANDB_PROJECT``, default ltbench.

    Offline unless ``$WANDB_MODE`` says otherwise: without the user's decision nothing leaves the machine, and nobody
    needs an account. A run's id is computed from suite and record, so that uploading it twice makes no duplicate.
    """

    package = 'wandb'
    unless_set: ClassVar[Mapping[str, str]] = {
        'WANDB_MODE': 'offline',
        'WANDB_PROJECT': 'ltbench',
        'WANDB_SILENT': 'true',  # otherwise it prints thirty lines per run
        'WANDB_CONSOLE': 'off',  # and stores the terminal output of all runs
    }

    def __init__(self, suite: str, folder: Path) -> None:
        super().__init__(suite, folder)
        if os.environ['WANDB_MODE'] == 'online':
            import wandb

            wandb.login()  # asks for a missing key now, not in the middle of training
        self.written = folder / 'written'
        self.written.mkdir(exist_ok=True)

    def knows(self, name: str) -> bool:
        """Whether it is in our own list of written runs; an offline run cannot be searched for."""
        return (self.written / name).exists()

    def write(self, name: str, record: Record, path: Path) -> None:
        """Write a run of Weights & Biases, then add it to our own list."""
        from mmengine.visualization import WandbVisBackend

        tags = tags_of(self.suite, record)
        backend = WandbVisBackend(
            str(self.folder),
            init_kwargs={
                'project': os.environ['WANDB_PROJECT'],
                'group': self.suite,
                'name': name,
                'id': fingerprint([self.suite, name])[:16],
                'tags': [tags[key][:64] for key in ('suite', 'method', 'fingerprint')],  # longer ones are not allowed
                'config': {**tags, **config_of(record)},  # add_config would upload the code of the folder too
                'mode': os.environ['WANDB_MODE'],
            },
            define_metric_cfg=[{'name': 'train/*', 'step_metric': 'epoch'}],
        )
        for step, scalars in scalars_of(record):
            backend.add_scalars({'epoch': step, **scalars}, step)
        backend.experiment.finish()  # backend.close() calls what newer versions no longer have
        (self.written / name).touch()

    def viewer(self) -> str:
        """The command that uploads offline runs; online, the name of the project."""
        if os.environ['WANDB_MODE'] == 'offline':
            return f'wandb sync {shlex.quote(_near(self.folder))}/wandb/offline-run-*, which uploads them'
        return f'the project {os.environ["WANDB_PROJECT"]} of your account'


TRACKERS: dict[str, type[Tracker]] = {'tensorboard': TensorBoard, 'wandb': WandB, 'mlflow': MLflow}
"""By the name after ``--track``."""


def tags_of(suite: str, record: Record) -> dict[str, str]:
    """Suite, method, fingerprint and what else identifies a run, as text."""
    return {'suite': suite} | {key: str(record[key]) for key in TAGS if record[key] is not None}


def config_of(record: Record) -> dict[str, Any]:
    """Options of the methods, the resolved benchmark and the configs of all stages, by kind."""
    stages: dict[str, Any] = {}
    for stage in record['config']['stages']:
        same = sum(key.split('_')[0] == stage['kind'] for key in stages)
        stages[stage['kind'] + (f'_{same + 1}' if same else '')] = stage
    options = {part['name']: part['options'] for part in record['methods']}
    return {'options': options, 'benchmark': record['config']['benchmark'], 'stages': stages}


def scalars_of(record: Record) -> Iterator[tuple[int, dict[str, float]]]:
    """Epoch and scalars, in order: the training curve under ``train/``; then ``test/`` and ``cost/`` at its last epoch.

    Missing values (of an empty group) are left out.
    """
    last = 0
    for row in record['curve']:
        last = row['epoch']
        yield last, {f'train/{key}': value for key, value in row.items() if key != 'epoch' and _is_number(value)}
    final = {f'test/{key}': value for key, value in record['metrics'].items() if _is_number(value)}
    yield last, final | {f'cost/{key}': value for key, value in record['cost'].items() if _is_number(value)}


def flat(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Dotted key -> value; the dicts of a list are numbered."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        leaves |= flat(value, f'{prefix}{key}.') if isinstance(value, Mapping) else {f'{prefix}{key}': value}
    return leaves


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(folder: Path) -> str:
    """A path as typed from the working directory: relative if it is inside."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)
