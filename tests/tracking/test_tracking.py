"""Each recorded run reaches each tracker once and whole; read back with the trackers' own readers."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import subprocess
import sys
import threading
from collections import Counter
from types import SimpleNamespace

import pytest

from ltbench import sealed
from ltbench.errors import UsageError
from ltbench.record import read_record
from ltbench.tracking import TRACKERS, Tracker, Tracking, check_installed
from ltbench.tracking.trackers import flat, scalars_of, tags_of


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f'{package} is not installed')


CURVE = [{'epoch': e, 'loss': 2.0 - e, 'accuracy': 30.0 + e, 'lr': 0.1, 'bn_scale': None} for e in range(3)]


@pytest.fixture
def path(recorded):
    return recorded('nbn', 1, curve=CURVE)


@pytest.fixture
def fake(monkeypatch):
    """A tracker in memory, called tensorboard; it fails while ``broken`` says so."""

    class Fake(Tracker):
        package = 'json'
        written: Counter[str] = Counter()
        broken: str | None = None

        def knows(self, name):
            return False

        def has(self, name):
            return name in self.written

        def write(self, name, record, path):
            if self.broken:
                raise ConnectionError(self.broken)
            self.written[name] += 1

        def viewer(self):
            return 'view'

    monkeypatch.setitem(TRACKERS, 'tensorboard', Fake)
    return Fake


# ---------------------------------------------------------------------------------------------- what is written


def test_the_curve_by_epoch_and_the_end(path):
    record = read_record(path)
    *curve, (last, final) = scalars_of(record)
    assert [step for step, _ in curve] == [0, 1, 2]
    assert curve[1][1] == {'train/loss': 1.0, 'train/accuracy': 31.0, 'train/lr': 0.1}  # no scale, no scalar
    assert last == 2
    assert final['test/top1'] == record['metrics']['top1']
    assert final['cost/flops'] == record['cost']['flops']
    assert 'test/per_class' not in final


def test_an_empty_group_and_a_run_without_a_curve(recorded):
    record = read_record(recorded(class_counts=[50] * 10, curve=[]))
    ((step, final),) = scalars_of(record)
    assert step == 0
    assert {'test/medium'} == {'test/many', 'test/medium', 'test/few'} & set(final)


def test_tags_and_params(path):
    record = read_record(path)
    tags = tags_of('digits', record)
    assert (tags['suite'], tags['method'], tags['fingerprint']) == ('digits', 'nbn', record['fingerprint'])
    assert tags['imbalance_factor'] == '40'
    assert flat({'a': {'b': 1, 'at': [1, 2]}, 'h': [{'x': None}, {'x': 3}], 'e': []}) == {
        'a.b': 1, 'a.at': [1, 2], 'h.0.x': None, 'h.1.x': 3, 'e': [],
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- before training


def test_an_unknown_tracker_has_near_misses(sandbox):
    with pytest.raises(UsageError, match="unknown tracker 'tensorbord': did you mean tensorboard?"):
        Tracking(['tensorbord'], 'digits')
    assert list(sandbox.iterdir()) == []


@pytest.mark.parametrize('name', ['tensorboard', 'wandb', 'mlflow'])
def test_an_absent_package_is_named_with_its_command(ltbench, sandbox, name):
    """A folder of that name, as wandb leaves it behind, is no package."""
    (sandbox / 'wandb').mkdir()
    hide = (
        'import importlib.util, sys; whole = importlib.util.find_spec\n'
        f'importlib.util.find_spec = lambda name: None if name == {name!r} != "wandb" else whole(name)\n'
    )
    (sandbox / 'sitecustomize.py').write_text(hide)
    if name == 'wandb' and importlib.util.find_spec('wandb'):
        pytest.skip('wandb is installed')
    printed = ltbench('run', '-m', 'erm', '--track', name, code=2, PYTHONPATH=f'{sandbox}:{_home()}')
    assert printed == f'ltbench: --track {name} needs the package {name}: pip install {name}\n'
    assert not (sandbox / 'store').exists()
    assert not (sandbox / 'results').exists()


def _home():
    import ltbench

    return ltbench.__file__.rpartition('/ltbench/')[0]


def test_a_tracker_that_does_not_open_stops_the_run_before_it_begins(sandbox, monkeypatch, fake):
    monkeypatch.setattr(fake, '__init__', lambda self, *_: (_ for _ in ()).throw(OSError('no\nroute.')))
    with pytest.raises(UsageError) as error:
        Tracking(['tensorboard'], 'digits')
    assert str(error.value) == (
        'tensorboard cannot be opened; fix that, or leave out --track tensorboard: OSError: no route'
    )


# ---------------------------------------------------------------------------------------------- once, and for all


def test_a_run_is_written_once(path, fake):
    for _ in range(2):
        tracking = Tracking(['tensorboard', 'tensorboard'], 'digits')
        assert tracking.log(path) == tracking.log(path) == []
    assert fake.written == {path.stem: 1}
    assert tracking.summary() == ['tensorboard: no new run written; look at them with: view']


def test_two_drivers_at_once_write_a_run_once(recorded, fake, monkeypatch):
    """Both have seen that it is not there; the second looks again when the first lets go."""
    paths = [recorded(seed=seed, stored=False) for seed in range(3)]
    write, together = fake.write, threading.Barrier(2)
    entered: list[str] = []

    def slow(self, name, record, path):
        entered.append(name)
        threading.Event().wait(0.1)
        write(self, name, record, path)

    monkeypatch.setattr(fake, 'write', slow)

    def drive():
        tracking = Tracking(['tensorboard'], 'digits')
        together.wait()
        for path in paths:
            tracking.log(path)

    threads = [threading.Thread(target=drive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entered) == sorted(path.stem for path in paths)


def test_a_tracker_that_fails_is_left_out_and_made_up_for(recorded, fake):
    paths = [recorded(seed=seed, stored=False) for seed in range(3)]
    tracking = Tracking(['tensorboard'], 'digits')
    assert tracking.log(paths[0]) == []
    fake.broken = 'server gone'
    (line,) = tracking.log(paths[1])
    assert line == (
        f'--track tensorboard failed at {paths[1].stem} and is not used any more: ConnectionError: server gone'
    )
    fake.broken = None
    assert tracking.log(paths[2]) == []
    assert fake.written == {paths[0].stem: 1}
    assert tracking.failed == {'tensorboard': 'ConnectionError: server gone'}
    assert tracking.summary()[0].startswith('tensorboard: failed after 1 run (ConnectionError: server gone). No record')
    again = Tracking(['tensorboard'], 'digits')
    assert [again.log(path) for path in paths] == [[], [], []]
    assert fake.written == {path.stem: 1 for path in paths}


def test_a_lock_that_is_never_let_go_of_costs_the_tracker_alone(path, fake, sandbox, monkeypatch):
    monkeypatch.setattr(sealed, 'SILENT_SECONDS', 0.02)
    monkeypatch.setattr(sealed, 'PATIENT_SECONDS', 0.1)
    tracking = Tracking(['tensorboard'], 'digits')
    with (sandbox / 'results/digits/tracking/.lock').open('w') as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        (line,) = tracking.log(path)
    assert 'is not used any more: StoreError: another process holds ' in line
    assert fake.written == {}


def test_no_tracker_does_nothing(path, sandbox):
    tracking = Tracking([], 'digits')
    assert tracking.log(path) == tracking.summary() == []
    assert not (sandbox / 'results/digits/tracking').exists()


# ---------------------------------------------------------------------------------------------- the real ones


@needs('tensorboard')
def test_tensorboard_reads_what_was_written(path, sandbox):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    folder = sandbox / 'results/digits/tracking/tensorboard'
    (folder / f'.{path.stem}').mkdir(parents=True)  # of a process that was killed
    (folder / f'.{path.stem}' / 'events.out.tfevents.1').write_bytes(b'cut off')
    tracking = Tracking(['tensorboard'], 'digits')
    assert tracking.log(path) == []
    assert [entry.name for entry in folder.iterdir()] == [path.stem]
    assert len(list((folder / path.stem).iterdir())) == 1
    events = EventAccumulator(str(folder / path.stem)).Reload()
    record = read_record(path)
    assert [(e.step, e.value) for e in events.Scalars('train/loss')] == [(0, 2.0), (1, 1.0), (2, 0.0)]
    assert [e.step for e in events.Scalars('test/top1')] == [2]
    assert events.Scalars('test/top1')[0].value == pytest.approx(record['metrics']['top1'])
    assert 'train/bn_scale' not in events.Tags()['scalars']
    start = HParamsPluginData.FromString(events.summary_metadata['_hparams_/session_start_info'].plugin_data.content)
    assert {key: value.string_value for key, value in start.session_start_info.hparams.items()} == tags_of(
        'digits', record
    )
    config = events.Tensors('config/text_summary')[0].tensor_proto.string_val[0].decode()
    written = json.loads(config)
    assert written['benchmark'] == record['config']['benchmark']
    assert written['options'] == {'nbn': {}}


@pytest.mark.slow
@needs('mlflow')
def test_mlflow_reads_what_was_written(recorded, path, sandbox, monkeypatch, tmp_path):
    for variable in ('MLFLOW_TRACKING_URI', *TRACKERS['mlflow'].unless_set):
        monkeypatch.delenv(variable, raising=False)
    tracking = Tracking(['mlflow'], 'digits')
    from mlflow import MlflowClient

    folder = sandbox / 'results/digits/tracking/mlflow'
    client = MlflowClient(folder.as_uri())
    cut = client.create_run(client.create_experiment('digits'), tags={'record': path.stem})  # of a killed process
    other = recorded('erm')
    assert tracking.log(path) == tracking.log(other) == []
    again = Tracking(['mlflow'], 'digits')
    assert again.log(path) == again.log(other) == []
    assert again.summary()[0].startswith('mlflow: no new run written; look at them with: MLFLOW_ALLOW_FILE_STORE=true')

    experiment = client.get_experiment_by_name('digits')
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {path.stem, other.stem}
    assert cut.info.run_id not in {run.info.run_id for run in runs.values()}
    run, record = runs[path.stem], read_record(path)
    assert run.info.status == 'FINISHED'
    assert tags_of('digits', record).items() <= run.data.tags.items()
    assert run.data.params['benchmark.recipe.epochs'] == '60'
    assert run.data.params['stages.train.normalization.type'] == 'NormalizedBN'
    assert run.data.metrics['test/few'] == record['metrics']['few']
    history = client.get_metric_history(run.info.run_id, 'train/accuracy')
    assert [(point.step, point.value) for point in history] == [(0, 30.0), (1, 31.0), (2, 32.0)]
    artifact = client.download_artifacts(run.info.run_id, path.name, str(tmp_path))
    assert json.loads(open(artifact).read()) == record  # noqa: PTH123, SIM115


def test_wandb_is_told_the_same(path, sandbox, monkeypatch):
    """By a stand-in that takes down the calls: what mmengine's backend and we ask of wandb."""
    calls = []
    stand_in = SimpleNamespace(
        __spec__=importlib.util.spec_from_loader('wandb', None, origin='stand-in'),
        init=lambda **arguments: calls.append(('init', arguments)),
        define_metric=lambda **arguments: calls.append(('define_metric', arguments)),
        log=lambda scalars, commit: calls.append(('log', scalars)),
        finish=lambda: calls.append(('finish', {})),
    )
    monkeypatch.setitem(sys.modules, 'wandb', stand_in)
    for variable in TRACKERS['wandb'].unless_set:
        monkeypatch.delenv(variable, raising=False)
    check_installed(['wandb'])
    for _ in range(2):
        assert Tracking(['wandb'], 'digits').log(path) == []
    record = read_record(path)
    assert [name for name, _ in calls] == ['init', 'define_metric', *['log'] * 4, 'finish']
    init = calls[0][1]
    assert (init['mode'], init['project'], init['group'], init['name']) == ('offline', 'ltbench', 'digits', path.stem)
    assert init['tags'] == ['digits', 'nbn', record['fingerprint']]
    assert init['config']['benchmark'] == record['config']['benchmark']
    assert calls[3][1] == {'epoch': 1, 'train/loss': 1.0, 'train/accuracy': 31.0, 'train/lr': 0.1}
    assert calls[5][1]['test/top1'] == record['metrics']['top1']


@pytest.mark.slow
@needs('wandb')
def test_wandb_takes_an_offline_run(path, sandbox):
    code = 'from ltbench.tracking import Tracking; from pathlib import Path; t = Tracking(["wandb"], "digits")\n'
    code += f'assert t.log(Path({str(path)!r})) == [], t.failed'
    subprocess.run([sys.executable, '-c', code], check=True)
    (run,) = sandbox.glob('results/digits/tracking/wandb/wandb/offline-run-*/*.wandb')
    assert run.stat().st_size > 1000


# ---------------------------------------------------------------------------------------------- the command


@pytest.mark.slow
@needs('tensorboard')
def test_run_tracks_what_it_trains_and_what_it_finds(ltbench, sandbox):
    """cRT rests on the stage of ERM; both have the whole curve, and a later command adds what was never tracked."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = ('run', '--seeds', '0', '-o', 'epochs=3')
    ltbench(*arguments, '-m', 'la_posthoc')
    assert not (sandbox / 'results/digits/tracking').exists()
    methods = ('-m', 'erm', '-m', 'crt', '-m', 'la_posthoc', '--track', 'tensorboard')
    assert 'tensorboard: 3 runs written' in ltbench(*arguments, *methods)
    assert 'tensorboard: no new run written' in ltbench(*arguments, *methods)
    folder = sandbox / 'results/digits/tracking/tensorboard'
    names = sorted(path.stem for path in sandbox.glob('results/digits/records/*.json'))
    assert sorted(run.name for run in folder.iterdir()) == names
    curves = [EventAccumulator(str(run)).Reload().Scalars('train/loss') for run in folder.iterdir()]
    assert [[event.step for event in curve] for curve in curves] == [[0, 1, 2]] * 3


@pytest.mark.slow
@needs('tensorboard')
def test_a_tracker_that_fails_in_the_middle_costs_no_run(ltbench, sandbox):
    tracker = 'import ltbench.tracking.trackers as t\n\n\ndef write(*_):\n    raise RuntimeError("quota")\n\n\n'
    part = 'from ltbench.registry import MODELS\n\n\n@MODELS.register_module()\nclass Nothing:\n    pass\n'
    (sandbox / 'plug.py').write_text(f'{tracker}t.TensorBoard.write = write\n{part}')
    run = ('run', '-m', 'erm', '--seeds', '0,1', '-o', 'epochs=2', '--track', 'tensorboard')
    printed = ltbench(*run, '--plugin', 'plug.py', code=1)
    assert printed.count('is not used any more: RuntimeError: quota') == 1
    assert 'tensorboard: failed after no new run (RuntimeError: quota). No record is lost' in printed
    assert len(list(sandbox.glob('results/digits/records/*.json'))) == 2
    assert 'tensorboard: 2 runs written' in ltbench(*run)
