"""Records: what leaves a table, what may share a row, and what is mended by the same command."""

from __future__ import annotations

import csv
import json

import pytest

pytestmark = pytest.mark.slow

PLUGIN = '''
from ltbench.method import Method
from ltbench.models.losses import CrossEntropyLoss
from ltbench.registry import METHODS, MODELS
from helper import FACTOR


@MODELS.register_module()
class ScaledLoss(CrossEntropyLoss):
    def per_sample(self, logits, labels):
        return super().per_sample(logits * FACTOR, labels)


@METHODS.register_module(name='scaled')
class Scaled(Method):
    """A plug-in."""

    def apply(self, plan):
        return plan.replace(loss=dict(type='ScaledLoss'))
'''


def rows(sandbox):
    with (sandbox / 'results/digits/leaderboard.csv').open() as file:
        return [(row['setting'], row['method'], row['n_seeds']) for row in csv.DictReader(file)]


def test_runs_of_other_settings_stay_in_the_leaderboard(ltbench, sandbox):
    for epochs in ('1', '2'):
        ltbench('run', '-m', 'erm', '--seeds', '0', '-o', f'epochs={epochs}')
    assert rows(sandbox) == [('paper, epochs=1', 'erm', '1'), ('paper, epochs=2', 'erm', '1')]
    assert not (sandbox / 'results/digits/superseded').exists()


def test_other_code_never_shares_a_row(ltbench, sandbox):
    """Here a helper that the plug-in imports is edited between two runs."""
    (sandbox / 'helper.py').write_text('FACTOR = 2.0\n')
    (sandbox / 'plug.py').write_text(PLUGIN)
    run = ('run', '-m', 'scaled', '-o', 'epochs=1', '--plugin', 'plug.py')
    ltbench(*run, '--seeds', '0,1', PYTHONPATH=str(sandbox))
    assert rows(sandbox) == [('paper, epochs=1', 'scaled', '2')]
    (sandbox / 'helper.py').write_text('FACTOR = 3.0\n')
    printed = ltbench(*run, '--seeds', '0', PYTHONPATH=str(sandbox))
    assert printed.count('was made by other code: moved to') == 2
    assert rows(sandbox) == [('paper, epochs=1', 'scaled', '1')]
    for kind in ('*.json', '*.predictions.npz'):
        assert len(list((sandbox / 'results/digits/superseded').glob(kind))) == 2


def test_an_installed_plug_in_is_part_of_what_it_computes(ltbench, sandbox):
    """Found by its entry point; edited where it is installed; its distribution and version are in the record."""
    site = sandbox / 'lib' / 'site-packages'
    info = site / 'tail_methods-1.2.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: tail-methods\nVersion: 1.2\n')
    (info / 'entry_points.txt').write_text('[ltbench.methods]\nscaled = tail_methods\n')
    (site / 'helper.py').write_text('FACTOR = 2.0\n')
    (site / 'tail_methods.py').write_text(PLUGIN)
    run = ('run', '-m', 'scaled', '-o', 'epochs=1', '--seeds', '0')
    assert '1 runs, 1 stages to do' in ltbench(*run, PYTHONPATH=str(site))
    assert 'Everything is found' in ltbench(*run, PYTHONPATH=str(site))
    (path,) = sandbox.glob('results/digits/records/*.json')
    record = json.loads(path.read_text())
    assert record['environment']['plugins'] == [{'plugin': 'scaled', 'distribution': 'tail-methods', 'version': '1.2'}]
    (site / 'helper.py').write_text('FACTOR = 3.0\n')
    assert '1 runs, 1 stages to do' in ltbench(*run, PYTHONPATH=str(site))


def test_damage_is_mended_by_the_same_command(ltbench, sandbox):
    run = ('run', '-m', 'erm', '-m', 'la_posthoc', '-m', 'drw', '--seeds', '0', '-o', 'epochs=5')
    ltbench(*run)
    records = {path.name: json.loads(path.read_text()) for path in sandbox.glob('results/digits/records/*.json')}
    for record in sandbox.glob('results/digits/records/*.json'):
        record.write_text(record.read_text()[:100])  # cut off
    for stored in sandbox.glob('store/artifacts/*/*/test.npz'):
        stored.write_bytes(stored.read_bytes()[:-10])
    printed = ltbench(*run)
    assert printed.count('it is rebuilt') == 3
    again = {path.name: json.loads(path.read_text()) for path in sandbox.glob('results/digits/records/*.json')}
    assert {name: r['metrics'] for name, r in again.items()} == {name: r['metrics'] for name, r in records.items()}


def test_a_run_is_charged_for_what_it_was_made_from(ltbench, sandbox):
    """Whatever else is in the grid when its record is written."""
    ltbench('run', '-m', 'erm', '--seeds', '0', '-o', 'epochs=5')
    (path,) = sandbox.glob('results/digits/records/*-erm-*.json')
    alone = path.read_text()
    path.unlink()
    ltbench('run', '-m', 'erm', '-m', 'ce_drw', '--seeds', '0', '-o', 'epochs=5')
    assert path.read_text() == alone
    assert [stage['epochs'] for stage in json.loads(alone)['stages']] == [5]
    (late,) = sandbox.glob('results/digits/records/*-ce_drw-*.json')
    assert [stage['epochs'] for stage in json.loads(late.read_text())['stages']] == [4, 1]


def test_a_cut_at_the_very_end_is_said(ltbench, sandbox):
    printed = ltbench('run', '-m', 'drw', '--seeds', '0', '-o', 'epochs=2')
    assert 'class_weights would change after the last of 2 epochs, so nothing changes' in printed


def test_what_is_recorded_can_be_left_alone_without_the_store(ltbench, sandbox):
    """As on another machine that has the results, not the store."""
    ltbench('run', '-m', 'erm', '--seeds', '0', '-o', 'epochs=1')
    (record,) = sandbox.glob('results/digits/records/*.json')
    before = record.read_bytes()
    (sandbox / 'store').rename(sandbox / 'elsewhere')
    selected = ('-m', 'erm', '-m', 'la_posthoc', '--seeds', '0', '-o', 'epochs=1')
    states = [row['state'] for row in json.loads(ltbench('status', *selected, '--json'))]
    assert states == ['recorded', 'pending']
    run = ('run', *selected, '--skip-recorded')
    assert '1 of 2 runs already have a record and are skipped' in ltbench(*run)
    assert record.read_bytes() == before
    assert len(list(sandbox.glob('results/digits/records/*.json'))) == 2
    printed = ltbench(*run)
    assert '2 of 2 runs already have a record' in printed
    assert 'nothing to train' in printed
