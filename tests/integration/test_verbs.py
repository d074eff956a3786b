"""What every verb leaves behind: an exit code that tells what became of it, JSON that is JSON, no open file."""

from __future__ import annotations

import gc
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_records import make_record, write

from ltbench import cli
from ltbench.grid.planning import expand
from ltbench.grid.recording import identity_of
from ltbench.record import read_records
from ltbench.spec import parse_specs
from ltbench.suite import Suite
from ltbench.verbs import contract
from ltbench.verbs.report import report

HOSTILE = """
import atexit, os, subprocess, sys
from ltbench.method import Method
from ltbench.registry import METHODS

print('foreign: imported')
os.write(1, b'foreign: by its number\\n')
sys.__stdout__.write('foreign: by the first name, not flushed')
subprocess.run(['echo', 'foreign: of a child'])
atexit.register(print, 'foreign: at the end')


@METHODS.register_module(name='talks')
class Talks(Method):
    \"\"\"It talks (nobody, 2026).\"\"\"

    def apply(self, plan):
        print('foreign: planned')
        return plan
"""


# ---------------------------------------------------------------------------------------------- exit codes


def in_the_way(variable, *below):
    """A folder that cannot be: a file stands in its way, for the superuser too."""

    def arrange(sandbox, monkeypatch):
        (sandbox / 'file').touch()
        monkeypatch.setenv(variable, str(sandbox.joinpath('file', *below)))

    return arrange


def nothing(sandbox, monkeypatch):
    pass


def with_file(name, contents):
    def arrange(sandbox, monkeypatch):
        (sandbox / name).parent.mkdir(parents=True, exist_ok=True)
        (sandbox / name).write_text(contents)

    return arrange


def recorded_run(sandbox, monkeypatch):
    write(make_record('erm', 0), 'digits')


def report_in_the_way(sandbox, monkeypatch):
    write(make_record('erm', 0), 'digits')
    (sandbox / 'results' / 'digits' / 'leaderboard.csv').mkdir()


def pipe_called(name):
    return lambda sandbox, monkeypatch: os.mkfifo(sandbox / name)


pipe = pipe_called('pipe')


DAMAGED = with_file('results/digits/records/x.json', '{')
BROKEN = with_file('broken.py', 'import nothing_of_that_name')
EVAL = ('eval', '--from', 'nbn', '-b', 'digits_lt', '--checkpoint')
TABLE = [
    (nothing, ('run', 'nowhere.py'), 2),
    (nothing, ('run', '-b', 'digits_lt', '--plugin', 'missing.py'), 2),
    (nothing, ('run', '-b', 'cifar10_lt'), 3),
    (with_file('empty.py', ''), ('run', 'empty.py'), 2),
    (pipe, ('run', '-b', 'digits_lt', '--plugin', 'pipe'), 2),
    (in_the_way('LTBENCH_STORE', 'x'), ('run', '-b', 'digits_lt', '-o', 'epochs=1', '--no-figures'), 4),
    (in_the_way('LTBENCH_CONFIGS'), ('run', 'digits'), 2),
    (nothing, ('status', 'nowhere.py'), 2),
    (nothing, ('status', '-b', 'digits_lt', '--plugin', 'missing.py'), 2),
    (nothing, ('report', 'digits'), 2),
    (nothing, ('report', 'nowhere.py'), 2),
    (DAMAGED, ('report', 'digits'), 4),
    (DAMAGED, ('report', 'digits', '--leave-out'), 2),
    (recorded_run, ('report', 'digits', '--no-figures', '--into', 'missing.md'), 2),
    (recorded_run, ('report', 'digits', '--no-figures', '--ablate', 'erm.nothing'), 2),
    (report_in_the_way, ('report', 'digits', '--no-figures'), 4),
    (nothing, ('eval', 'digits/x'), 2),
    (recorded_run, ('eval', 'digits/x'), 2),
    (DAMAGED, ('eval', 'digits/x'), 4),
    (nothing, ('score', 'missing.npy', '-b', 'digits_lt', '--name', 'mine'), 2),
    (pipe_called('x.npy'), ('score', 'x.npy', '-b', 'digits_lt', '--name', 'mine'), 2),
    (nothing, (*EVAL, 'missing.pth'), 3),
    (with_file('empty.pth', ''), (*EVAL, 'empty.pth'), 3),
    (pipe, (*EVAL, 'pipe'), 3),
    (nothing, (*EVAL, '.'), 3),
    (nothing, (*EVAL, 'missing.pth', '--mean', '0.5'), 2),
    (nothing, (*EVAL, 'missing.pth', '--mean', 'a', '--std', '1'), 2),
    (nothing, ('compare', 'a', 'b'), 2),
    (DAMAGED, ('compare', 'digits/x', 'digits/x'), 4),
    (nothing, ('ls', 'nothing'), 2),
    (BROKEN, ('ls', 'methods', '--plugin', 'broken.py'), 1),
    (DAMAGED, ('ls', 'runs'), 4),
    (in_the_way('LTBENCH_CONFIGS'), ('ls', 'suites'), 2),
    (nothing, ('ls', 'methods', '-m', 'erm'), 2),
    (recorded_run, ('ls', 'runs', '-m', 'ermm'), 2),
    (recorded_run, ('ls', 'runs', 'digitz'), 2),
    (nothing, ('show', 'nothing'), 2),
    (nothing, ('show', 'nbn', '-b', 'nowhere_lt'), 2),
    (nothing, ('show', 'erm', '--plugin', 'missing.py'), 2),
    (nothing, ('show', 'la_loss+ldam'), 2),
    (in_the_way('LTBENCH_CONFIGS'), ('show', 'digits'), 2),
    (nothing, ('check', 'nothing'), 2),
    (nothing, ('check', 'erm', '--plugin', 'missing.py'), 2),
    (nothing, ('run', '--dry-run', '--executor', 'slrum'), 2),
    (nothing, ('bench', 'nothing'), 2),
    (nothing, ('bench', 'data', '--rounds', '0'), 2),
    (with_file('file', ''), ('bench', 'data', '--out', 'file/x.json'), 1),
    (nothing, ('new', 'erm'), 2),
    (nothing, ('new', '../x'), 2),
    (nothing, ('data', 'get', 'nothing'), 2),
    (nothing, ('data', 'get', 'places_lt'), 3),
    (nothing, ('data', 'check', 'cifar10_lt'), 1),
    (in_the_way('LTBENCH_DATA', 'x'), ('data', 'check', 'cifar10_lt'), 1),
    (nothing, ('data', 'prepare', 'digits_lt'), 2),
    (nothing, ('data', 'prepare', 'places_lt'), 3),
    (nothing, ('store', 'ls'), 4),
    (in_the_way('LTBENCH_STORE'), ('store', 'ls'), 4),
    (nothing, ('store', 'verify'), 4),
    (nothing, ('store', 'gc', '--yes'), 4),
    (DAMAGED, ('store', 'gc', '--yes'), 4),
    *((nothing, (*verb, '--nothing'), 2) for verb in (('run',), ('eval',), ('ls', 'runs'), ('store', 'gc'))),
]


@pytest.mark.parametrize(
    ('arrange', 'words', 'code'), TABLE, ids=[f'{number}-{row[1][0]}' for number, row in enumerate(TABLE)]
)
def test_what_could_not_be_done_is_one_line_and_not_exit_0(main, sandbox, monkeypatch, capsys, arrange, words, code):
    arrange(sandbox, monkeypatch)
    monkeypatch.setenv('NO_COLOR', '1')
    assert main(*words) == code
    printed = capsys.readouterr()
    assert 'Traceback' not in printed.out + printed.err
    if words[-1] != '--nothing' and words[:2] not in (('ls', 'methods'), ('data', 'check'), ('data', 'get')):
        assert printed.err.startswith('ltbench: ')
        assert printed.err.count('\n') <= 2  # of records, a line each and one of advice


@pytest.mark.parametrize('words', [('run', '--dry-run'), ('report',), ('status',)])
def test_a_working_directory_that_is_gone_is_one_line(main, sandbox, monkeypatch, capsys, words):
    gone = sandbox / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(*words) == 2
    assert capsys.readouterr().err == 'ltbench: the working directory no longer exists: cd into another one\n'


def test_the_table_has_every_verb():
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    for group, app in (('data', cli.data_app), ('store', cli.store_app)):
        verbs |= {f'{group} {command.name or command.callback.__name__}' for command in app.registered_commands}
    tried = {' '.join(words[: 2 if words[0] in ('data', 'store') else 1]) for _, words, _ in TABLE}
    assert verbs - tried == {'data ls'}  # it shows what is missing, and that is all it is asked for


@pytest.mark.parametrize('buffered', [True, False])
@pytest.mark.parametrize('words', [('ls', 'suites'), ('ls', 'suites', '--json'), ('data', 'ls'), ('--version',)])
def test_a_full_output_is_not_exit_0(ltbench, sandbox, words, buffered):
    command = [sys.executable, *([] if buffered else ['-u']), '-m', 'ltbench.cli', *words]
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'}
    with Path('/dev/full').open('w') as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    assert done.returncode == 1
    assert done.stderr == ('ltbench: could not write everything to standard output: No space left on device\n')


# ---------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    'words',
    [
        ('ls', 'methods', '--json'),
        ('show', 'talks', '--json'),
        ('status', '-b', 'digits_lt', '-m', 'talks', '-o', 'epochs=1', '--json'),
    ],
)
def test_json_stays_json_whatever_a_plug_in_prints(sandbox, words):
    (sandbox / 'talks.py').write_text(HOSTILE)
    done = subprocess.run(
        [sys.executable, '-m', 'ltbench.cli', *words, '--plugin', 'talks.py'], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert any('talks' in (row.get('method'), row.get('name')) for row in rows)
    said = ('imported', 'by its number', 'by the first name', 'of a child', 'at the end', 'planned')
    for what in said:
        assert f'foreign: {what}' in done.stderr
    assert 'foreign' not in done.stdout


# ---------------------------------------------------------------------------------------------- status


def test_status_knows_every_option_of_run_that_chooses_runs():
    """A new option of `run` has to be put on one side."""
    how = 'executor workers timeout gpus_per_stage slurm track eval_every figures dry_run'  # not which runs
    of_run, of_status = (set(inspect.signature(verb).parameters) for verb in (cli.run, cli.status))
    assert of_run - set(how.split()) == of_status - {'watch', 'as_json'}
    assert set(how.split()) <= of_run


@pytest.mark.parametrize(
    'options',
    [
        ('-o', 'batch_size=32', '--scale-lr'),
        ('-o', 'devices=2'),
        ('--preset', 'paper', '-o', 'la_loss.tau=2', '--seeds', '1-2'),
    ],
)
def test_status_and_run_mean_the_same_runs(main, capsys, options):
    words = ['-b', 'digits_lt', '-m', 'la_loss', *options]
    assert main('run', *words, '--dry-run', '--executor', 'slurm') == 0
    planned = capsys.readouterr().out
    assert main('status', *words, '--json') == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    for row in rows:
        assert row['fingerprint'][:10] in planned


def test_status_leaves_recorded_runs_alone_when_it_is_asked_to(main, capsys):
    run = expand(Suite('digits_lt', ('digits_lt',), (parse_specs('erm'),), (0,))).graph.runs[0]
    write(make_record('erm', 0) | identity_of(run) | {'data': run.data}, 'digits_lt')
    words = ['status', '-b', 'digits_lt', '-m', 'erm', '-m', 'nbn', '--json']
    assert main(*words) == 0
    assert [row['method'] for row in json.loads(capsys.readouterr().out)] == ['erm', 'nbn']
    assert main(*words, '--skip-recorded') == 0
    assert [row['method'] for row in json.loads(capsys.readouterr().out)] == ['nbn']


@pytest.mark.usefixtures('sandbox')
def test_where_a_grid_stands_is_shown_without_its_data(main, capsys):
    words = ['-b', 'cifar10_lt', '-m', 'erm', '-m', 'nbn']
    write(make_record('erm', 0), 'cifar10_lt_runs')
    assert main('status', *words, '--json') == 0
    assert {row['method']: row['state'] for row in json.loads(capsys.readouterr().out)} == {
        'erm': 'recorded', 'nbn': 'pending',
    }  # fmt: skip
    for verb in (('status', *words), ('run', *words, '--dry-run')):
        assert main(*verb) == 0
        shown = capsys.readouterr().out
        assert shown.count('without its data') == 1
        assert 'ltbench data get cifar10_lt' in shown
    assert main('run', *words) == 3


# ---------------------------------------------------------------------------------------------- open files


def open_files() -> list[str]:
    gc.collect()
    links = []
    for entry in Path('/proc/self/fd').iterdir():
        try:
            links.append(str(entry.readlink()))
        except OSError:  # that of the listing itself
            continue
    return sorted(links)


@pytest.mark.filterwarnings('error::ResourceWarning')
def test_planning_carrying_out_reporting_and_scoring_leave_no_file_open(sandbox, main, capsys, monkeypatch):
    from ltbench.models.resnet_cifar import CIFARResNet

    def everything(number: int) -> None:
        run = contract._run('crt', data={'n_max': 12})
        contract._logits(run)
        expand(Suite('digits_lt', ('digits_lt',), (parse_specs('erm'), parse_specs('crt')), (0, 1)))
        write(make_record('erm', number), 'digits')
        report('digits', figures=False)
        assert main('status', '-b', 'digits_lt', '--json') == 0
        assert main('ls', 'runs') == 0
        assert main('eval', '--checkpoint', 'model.pth', '--from', 'ldam-drw', '-b', 'digits_lt', '-o', 'depth=8') == 0
        assert main('eval', '--checkpoint', 'cut.pth', '--from', 'ldam-drw', '-b', 'digits_lt') == 3

    state = CIFARResNet(8, 1).state_dict() | {'linear.weight': torch.randn(10, 64), 'linear.bias': torch.zeros(10)}
    torch.save({'state_dict': state}, 'model.pth')
    Path('cut.pth').write_bytes(Path('model.pth').read_bytes()[:9000])
    everything(0)  # what is opened once a process
    before = open_files()
    everything(1)
    assert open_files() == before
    assert len(read_records('imported')[0]) == 1


@pytest.mark.parametrize(
    'words', [(), ('data',), ('store',), ('run', '-h'), ('eval', '-h'), ('ls', '-h'), ('show', '-h')]
)
def test_help_is_whole_at_80_columns(main, monkeypatch, capsys, words):
    monkeypatch.setenv('COLUMNS', '80')
    main(*words)
    shown = ''.join(capsys.readouterr())
    assert 'Usage' in shown
    assert '...\n' not in shown.partition('\n')[2].replace('[ARGS]...', '').replace('ME, ...', '')
    assert '…' not in shown
    assert max(map(len, shown.splitlines())) <= 80
