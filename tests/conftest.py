"""Shared by all tests: one torch thread, every method loaded, hypothesis without chance; a web server for files.

Also a sandbox with a store and results of its own, the command line in a process of its own, and records that took no
training.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from ltbench import plugins
from ltbench.benchmark import Benchmark
from ltbench.evaluation import evaluate
from ltbench.evaluation.metrics import describe_groups
from ltbench.evaluation.predictions import Predictions, write_with_predictions
from ltbench.fingerprint import fingerprint
from ltbench.record import record_path, write_record
from ltbench.store import Store

# the same examples on every machine, so that a red test is red for everyone; a slow machine is no failure
settings.register_profile('ltbench', max_examples=40, deadline=None, derandomize=True)
settings.load_profile('ltbench')


SMOKE = (
    'tests/test_config.py', 'tests/test_floors.py', 'tests/test_method.py', 'tests/test_recipe.py',
    'tests/test_registry.py', 'tests/test_sealed.py', 'tests/test_store.py', 'tests/data/test_base.py',
    'tests/data/test_profiles.py', 'tests/data/test_samplers.py', 'tests/engine/test_optim.py',
    'tests/engine/test_outputs.py', 'tests/evaluation/test_metrics.py', 'tests/grid/test_selection.py',
    'tests/grid/executors/test_base.py', 'tests/methods/test_hand_values.py', 'tests/methods/test_identities.py',
    'tests/models/test_losses.py', 'tests/models/test_normalization.py', 'tests/report/test_statistics.py',
)  # fmt: skip
"""Files of `pytest -m smoke`: a broken name, config, value, seed, claim or rank shows here, within a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what one runs after each edit: what is not slow in the files above, and one method's golden numbers."""
    home = Path(__file__).parents[1]
    for item in items:
        is_golden = item.nodeid.endswith('test_golden_holds[digits, constant/erm]')
        listed = item.path.relative_to(home).as_posix() in SMOKE
        if is_golden or (listed and not item.get_closest_marker('slow')):
            item.add_marker(pytest.mark.smoke)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what unpacks archives where ``ltbench data get`` refuses to."""
    if item.get_closest_marker('unpacks') and not hasattr(tarfile, 'data_filter'):
        pytest.skip('this Python cannot unpack archives safely')


@pytest.fixture(scope='session', autouse=True)
def methods_loaded() -> Iterator[None]:
    """Register the built-in methods, whatever the developer's own environment names."""
    torch.set_num_threads(1)
    # started in the background by a shell, this process ignores Ctrl-C, and so would all that the tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith('LTBENCH_')]:
            patch.delenv(name)
        broken = plugins.load()
        assert not broken, broken
        for registry in plugins.REGISTRIES:  # a test may replace one by a copy: what is imported then is lost with it
            registry.import_from_location()
        yield


@pytest.fixture
def benchmark() -> Benchmark:
    """A benchmark with the CIFAR recipe of Cao et al. (2019), as a method sees it: 200 epochs, imbalance 100."""
    return Benchmark(
        name='toy_lt',
        preset='paper',
        data={'type': 'DigitsLT', 'imbalance_factor': 100, 'profile': 'exp', 'split_seed': 0},
        backbone={'type': 'CIFARResNet', 'depth': 32},
        recipe={
            'epochs': 200,
            'batch_size': 128,
            'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 2e-4},
            'schedule': {'type': 'step', 'warmup_epochs': 5, 'at': [0.8, 0.9], 'gamma': 0.01},
            'augmentation': {'crop_padding': 4, 'flip': True},
            'precision': 'fp32',
            'devices': 1,
        },
    )


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    for name, folder in {'LTBENCH_STORE': 'store', 'LTBENCH_RESULTS': 'results', 'LTBENCH_DATA': 'data'}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / '.cache'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ltbench(sandbox):
    def call(*arguments: str, code: int = 0, figures: bool = False, **env: str) -> str:
        """Run `ltbench ARGUMENTS`; return what it prints, after comparing its exit code.

        `ltbench run` draws its figures only when asked to: they take longer than most trainings of the tests.
        """
        if arguments[:1] == ('run',) and not figures:
            arguments = (*arguments, '--no-figures')
        result = subprocess.run(
            [sys.executable, '-m', 'ltbench.cli', *arguments],
            cwd=sandbox, env={**os.environ, **env}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert result.returncode == code, result.stdout + result.stderr
        assert 'Traceback' not in result.stdout + result.stderr
        return result.stdout + result.stderr

    return call


@pytest.fixture
def main(sandbox, monkeypatch):
    """The command line in this process; returns the exit code."""
    from ltbench import cli, plugins

    monkeypatch.setattr(plugins, '_broken', {})  # those of other tests

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, 'argv', ['ltbench', *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0

    return call


@pytest.fixture
def shadowing():
    def write(folder: Path) -> None:
        """Put files into ``folder`` that are called like packages; an import of one leaves ``imported``."""
        line = f'from pathlib import Path\nPath({str(folder / "imported")!r}).touch()\n'
        for name in ('typing_extensions.py', 'mmengine.py', 'json.py', 'torch.py', 'submitit.py', 'ray.py'):
            (folder / name).write_text(line)
        (folder / 'ltbench').mkdir()
        (folder / 'ltbench' / '__init__.py').write_text(line + 'raise SystemExit("another ltbench")\n')

    return write


@pytest.fixture
def logits_files():
    def read(store: Path) -> dict[str, bytes]:
        """Test logits of every artifact of a store, by fingerprint."""
        return {path.parent.name: path.read_bytes() for path in store.glob('artifacts/*/*/test.npz')}

    return read


@pytest.fixture
def recorded(sandbox):
    """Records of runs that nobody trained, with logits in the store; see ``make``."""
    template = json.loads((Path(__file__).parent / 'record.json').read_text())

    def make(
        method: str = 'erm',
        seed: int = 0,
        suite: str = 'digits',
        logits: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        stored: bool = True,
        kept: bool = True,
        key: str | None = None,
        **changed: Any,
    ) -> Path:
        """Write a record of ten digits and, unless told otherwise, its predictions, and store its logits.

        Returns:
            The record's path.
        """
        record = copy.deepcopy(template) | {'method': method, 'run_seed': seed} | changed
        record['methods'] = [{'name': name.partition('(')[0], 'options': {}} for name in method.split('+')]
        record['fingerprint'] = key or fingerprint([suite, method, seed])
        labels = np.arange(200) % 10 if labels is None else labels
        if logits is None:
            logits = np.random.default_rng(seed).normal(size=(len(labels), 10)).astype(np.float32)
            logits[np.arange(len(labels)), labels] += 1
        record['metrics'] = evaluate(logits, labels, record['class_counts'])
        record['groups'] = describe_groups(record['class_counts'])
        if stored:
            Store().publish(
                record['fingerprint'], {}, lambda folder: np.savez(folder / 'test.npz', logits=logits, labels=labels)
            )
        path = record_path(suite, record)
        if kept:
            write_with_predictions(path, record, Predictions.of_logits(logits, labels))
        else:
            write_record(path, record)
        return path

    return make


class FileServer(ThreadingHTTPServer):
    """Files by name, as a web server gives them: with ranges, or as badly as a test wants it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _FileHandler)
        self.url = f'http://127.0.0.1:{self.server_port}'
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.cuts: list[int] = []  # bytes after which the next answers end
        self.errors: list[int] = []  # status codes of the next answers
        self.asked: list[tuple[str, str | None]] = []  # name and range of every request
        self.sent = 0


class _FileHandler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        name, wanted = self.path.rpartition('/')[2], self.headers.get('Range')
        self.server.asked.append((name, wanted))
        contents = self.server.files.get(name)
        if self.server.errors or contents is None:
            self.send_error(self.server.errors.pop(0) if self.server.errors else 404)
            return
        first = int(wanted.removeprefix('bytes=').removesuffix('-')) if wanted and self.server.ranges else 0
        if first and first >= len(contents):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(contents)}')
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header('Content-Range', f'bytes {first}-{len(contents) - 1}/{len(contents)}')
        self.send_header('Content-Length', str(len(contents) - first))
        self.end_headers()
        part = contents[first:][: self.server.cuts.pop(0) if self.server.cuts else None]
        self.server.sent += len(part)
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A web server on this machine."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def small_network():
    from ltbench.models.classifier import LongTailClassifier

    def build(normalization: dict[str, Any] | None = None) -> LongTailClassifier:
        """ResNet-8 for 4 classes of grey images."""
        config = {
            'backbone': {'type': 'CIFARResNet', 'depth': 8},
            'head': {'type': 'LinearHead'},
            'normalization': normalization,
            'rectification': None,
            'recipe': {'precision': 'fp32'},
        }
        torch.manual_seed(0)
        return LongTailClassifier(config, num_classes=4, in_channels=1)

    return build
