"""The Python face: the checks and messages of the command line, raised; no training."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_records import make_record, write

import ltbench
from ltbench import face
from ltbench.errors import DataError, LTBenchError, StoreError, UsageError
from ltbench.evaluation import evaluate


def test_functions_keep_their_names_whatever_is_imported():
    """`ltbench.plan` and `ltbench.report` are modules, too, which an import would put in their place."""
    code = (
        'import ltbench.plan, ltbench.report\n'
        'from ltbench.plan import Plan\n'
        'import ltbench, inspect\n'
        "assert all(inspect.isfunction(getattr(ltbench, name)) for name in ltbench.__all__ if name != 'LTBenchError')\n"
        "assert inspect.isclass(Plan) and ltbench.__version__ and 'plan' in dir(ltbench)\n"
        'from ltbench import *\n'
        'assert plan is ltbench.plan and issubclass(LTBenchError, Exception)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'rum'"):
        ltbench.rum  # noqa: B018


@pytest.mark.parametrize('name', ['run', 'plan', 'records', 'evaluate', 'report'])
def test_each_function_says_what_it_takes_gives_and_raises_and_has_an_example(name):
    function = getattr(ltbench, name)
    doc = inspect.getdoc(function)
    assert all(part in doc for part in ('Example::', 'Args:', 'Returns:', 'Raises:'))
    arguments = doc.partition('Args:')[2].partition('Returns:')[0]
    for parameter in inspect.signature(function).parameters:
        assert f'    {parameter}: ' in arguments, parameter
    assert 'return' in function.__annotations__


def test_run_takes_what_the_command_line_takes():
    from ltbench import cli

    renamed = {'method': 'methods', 'option': 'options', 'plugin': 'plugins'}
    of_words = {renamed.get(name, name) for name in inspect.signature(cli.run).parameters}
    assert of_words - {'dry_run'} == set(inspect.signature(face.run).parameters)
    renamed = {'option': 'options'}
    of_words = set(inspect.signature(cli.report).parameters)
    assert of_words == set(inspect.signature(face.report).parameters)


# ---------------------------------------------------------------------------------------------- run


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(suite='digitz'), "unknown suite 'digitz': did you mean digits?"),
        (dict(benchmark='digit_lt'), "unknown benchmark 'digit_lt': did you mean digits_lt"),
        (dict(methods=['la_los']), "unknown method 'la_los': did you mean la_loss"),
        (dict(methods='la_loss(tau=-1)'), 'option tau of la_loss lies between 0 and 10, got -1'),
        (dict(methods=dict(type='nbn', normalise='weight')), "unknown option of method nbn 'normalise'"),
        (dict(methods=[dict(type='la_loss'), 'la_loss+ldam']), 'la_loss and ldam cannot be combined'),
        (dict(options={'epoch': 3}), "unknown option of digits_lt 'epoch': did you mean epochs"),
        (dict(options={'lr': float('nan')}), 'got nan'),
        (dict(options=['epochs=3']), "options are a dict, as {'epochs': 5}, got"),
        (dict(preset='quick'), "unknown preset of digits_lt 'quick': known: paper"),
        (dict(executor='slrum'), "unknown executor 'slrum'"),
        (dict(track='tensorbord'), "unknown tracker 'tensorbord': did you mean tensorboard?"),
        (dict(seeds=[0, 1.5]), r'cannot read seeds \[0, 1.5\]: expected whole numbers'),
        (dict(seeds=-1), 'cannot read seeds -1'),
        (dict(seeds=True), 'cannot read seeds True'),
        (dict(seeds=[0, 2**63]), r'cannot read seeds \[0, 9223372036854775808\]: expected whole numbers from 0 to'),
        (dict(seeds=10**5000), 'cannot read seeds a value too long to print: expected whole numbers'),
        (dict(seeds='0,1'), "cannot read seeds '0,1'"),
        (dict(seeds=[]), r'cannot read seeds \[\]'),
        (dict(methods=[]), 'methods is empty: name at least one, or leave it out'),
        (dict(benchmark=3), 'benchmark is a name or a list of names, got 3'),
        (dict(methods=[3]), 'cannot read 3: expected a name'),
        (dict(workers=0), 'workers is a whole number, 1 or larger, got 0'),
        (dict(eval_every=1.5), 'eval_every is a whole number, 1 or larger, got 1.5'),
        (dict(timeout=0), '--timeout 0 would end every stage at once'),
        (dict(timeout=-1), 'timeout is a number of minutes, more than 0, got -1'),
        (dict(gpus_per_stage=0.5), '--gpus-per-stage is for --executor ray, not local'),
        (dict(gpus_per_stage=2, executor='ray'), 'gpus_per_stage is a number, 0 to 1, got 2'),
        (dict(slurm={'mem': '1G'}), '--slurm is for --executor slurm, not local'),
        (dict(plugins='missing.py'), 'plug-in file not found'),
    ],
)
def test_what_is_wrong_is_raised_before_anything_is_written(sandbox, monkeypatch, arguments, message):
    monkeypatch.setattr('ltbench.grid.executors.fork_server.fork_server', lambda: None)
    with pytest.raises(UsageError, match=message):
        ltbench.run(**arguments)
    assert list(sandbox.iterdir()) == []


def test_missing_data_are_a_data_error(sandbox, monkeypatch):
    monkeypatch.setattr('ltbench.grid.executors.fork_server.fork_server', lambda: None)
    with pytest.raises(DataError, match='ltbench data get cifar10_lt'):
        ltbench.run(benchmark='cifar10_lt')


def test_an_error_comes_with_the_plug_ins_that_did_not_load(sandbox, monkeypatch):
    from ltbench import plugins

    monkeypatch.setattr(plugins, '_broken', {})
    Path('broken.py').write_text('import nothing_of_that_name')
    with pytest.raises(UsageError, match='unknown method') as raised:
        ltbench.plan('mine_of_broken', plugins='broken.py')
    (note,) = raised.value.__notes__
    assert 'broken.py: ModuleNotFoundError' in note


def test_options_and_seeds_may_come_from_numpy(sandbox):
    changed = ltbench.plan('la_loss', options={'la_loss.tau': np.float64(0.5), 'epochs': np.int64(7)})
    assert changed.plan.settings['loss'] == {'type': 'LogitAdjustedLoss', 'tau': 0.5}
    assert changed.steps[0].what == 'epochs 1 to 7'
    assert face._seeds(np.arange(3)) == (0, 1, 2)
    assert face._seeds(range(2, 0, -1)) == (2, 1)


# ---------------------------------------------------------------------------------------------- plan


def test_a_plan_is_text_for_people_and_needs_no_data(sandbox):
    assert repr(ltbench.plan('nbn+la_loss', 'cifar100_lt')) == (
        'nbn+la_loss on cifar100_lt (imbalance factor 100, paper)\n'
        '\n'
        'stages\n'
        '  1. train: epochs 1 to 200\n'
        '\n'
        'differs from erm\n'
        '  normalization: NormalizedBN(normalize=both, scope=last_stage, scalar=network,\n'
        '      bias_init=zeros); erm: none\n'
        '  loss: LogitAdjustedLoss(tau=1.0); erm: CrossEntropyLoss'
    )
    with pytest.raises(UsageError, match="unknown method 'nbm': did you mean ncm or nbn?"):
        ltbench.plan('nbm')
    with pytest.raises(UsageError, match='depth of CIFARResNet is 6n'):
        ltbench.plan('erm', options={'depth': 9})
    with pytest.raises(UsageError, match='method is one name, got '):
        ltbench.plan(['erm', 'nbn'])


# ---------------------------------------------------------------------------------------------- records


def test_records_are_one_row_a_run(sandbox):
    runs = [('nbn', 1), ('erm', 1), ('erm', 0)]
    paths = {(method, seed): write(make_record(method, seed), 'digits') for method, seed in runs}
    frame = ltbench.records('digits')
    assert list(zip(frame['method'], frame['seed'], strict=True)) == [('erm', 0), ('erm', 1), ('nbn', 1)]
    expected = make_record('erm', 1)
    row = frame.iloc[1]
    assert row['suite'] == 'digits'
    assert row['fingerprint'] == expected['fingerprint']
    assert row['geometric_mean'] == expected['metrics']['geometric_mean']
    assert row['wall_seconds'] == expected['cost']['wall_seconds']
    assert Path(row['path']) == paths['erm', 1]


def test_records_that_are_missing_or_damaged_are_named(sandbox, capsys):
    with pytest.raises(UsageError, match='no records in'):
        ltbench.records('digits')
    write(make_record('erm', 0), 'digits')
    Path('results/digits/records/x.json').write_text('{')
    with pytest.raises(StoreError, match=r'x\.json is no valid record'):
        ltbench.records('digits')
    assert len(ltbench.records('digits', leave_out=True)) == 1
    assert 'left out: ' in capsys.readouterr().err
    assert issubclass(StoreError, LTBenchError)


# ---------------------------------------------------------------------------------------------- evaluate


LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
LABELS = [0, 1, 2, 2]
COUNTS = [500, 50, 5]


@pytest.mark.parametrize(
    'convert',
    [
        np.asarray,
        lambda values: np.asarray(values).tolist(),
        torch.tensor,
        lambda values: torch.tensor(values).half() if np.asarray(values).dtype.kind == 'f' else torch.tensor(values),
        lambda values: (
            torch.tensor(values).bfloat16() if np.asarray(values).dtype.kind == 'f' else torch.tensor(values)
        ),
        lambda values: torch.tensor(values).requires_grad_() if np.asarray(values).dtype.kind == 'f' else values,
    ],
    ids=['array', 'list', 'tensor', 'half', 'bfloat16', 'needs gradient'],
)
def test_scores_of_arrays_and_tensors_are_those_of_a_record(convert):
    scores = ltbench.evaluate(convert(LOGITS), convert(LABELS), convert(COUNTS))
    assert scores == evaluate(LOGITS, LABELS, COUNTS)
    assert (scores['top1'], scores['many'], scores['medium'], scores['few']) == (75.0, 100.0, 100.0, 50.0)
    assert scores.keys() == make_record('erm', 0)['metrics'].keys()


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(logits=LOGITS * np.nan), 'not all finite'),
        (dict(logits=LOGITS + np.inf), 'not all finite'),
        (dict(logits=LOGITS[0]), r'logits are real numbers \[N, C\]'),
        (dict(logits=LOGITS * 1j), r'logits are real numbers \[N, C\]'),
        (dict(logits=LOGITS[:, :2]), '2 columns of logits for 3 class counts'),
        (dict(labels=LABELS[:2]), '4 rows of logits for 2 labels'),
        (dict(labels=[0, 1, 2, 3]), 'labels are 0 to 2, got 0 to 3'),
        (dict(labels=[0, 1, 2, -1]), 'labels are 0 to 2, got -1 to 2'),
        (dict(labels=[0.0, 1.0, 2.0, 2.0]), 'labels are whole numbers, got float64'),
        (dict(labels=np.eye(4, 3, dtype=int)), r'labels are \[N\], got \[4, 3\]'),
        (dict(class_counts=[500.5, 50, 5]), 'class_counts are whole numbers'),
        (dict(class_counts=[500, 50, -5]), 'class_counts are whole numbers'),
        (dict(class_counts=500), 'class_counts are whole numbers'),
        (dict(class_counts=[True, True, False]), 'class_counts are whole numbers'),
        (dict(logits=[[1.0], [1.0, 2.0]]), 'inhomogeneous'),
    ],
)
def test_what_cannot_be_scored_is_refused(changed, message):
    arguments = dict(logits=LOGITS, labels=LABELS, class_counts=COUNTS) | changed
    with pytest.raises(UsageError, match=message):
        ltbench.evaluate(**arguments)


# ---------------------------------------------------------------------------------------------- report


def test_a_report_gives_its_files_and_raises_what_is_wrong(sandbox):
    write(make_record('erm', 0), 'digits')
    files = ltbench.report('digits', figures=False)
    assert files[0].name == 'leaderboard.csv'
    assert all(path.is_file() for path in files)
    with pytest.raises(UsageError, match='no records in'):
        ltbench.report('nothing')
    with pytest.raises(UsageError, match='unknown option of erm in these records'):
        ltbench.report('digits', figures=False, ablate='erm.nothing')
