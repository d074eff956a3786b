"""Probes of other people, through the command line: asked for, recorded, added later; never a reason to train."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = pytest.mark.slow

PLUG_IN = """
from ltbench.method import Method
from ltbench.probes import Probe
from ltbench.registry import METHODS, PROBES

@PROBES.register_module(name='norms_of_mine')
class NormsOfMine(Probe):
    def measure(self, seen):
        {body}

@METHODS.register_module(name='asking')
class Asking(Method):
    '''Asks (a test).'''
    probes = ('norms_of_mine', 'bn_vectors')
    def apply(self, plan):
        return plan
"""
BY_CLASS = (
    "return {'largest': [float(seen.features[seen.labels == c].norm(dim=1).max()) "
    'for c in range(len(seen.class_counts))]}'
)
SUITE = """
benchmarks = ['digits_lt(epochs=1)']
methods = {methods}
seeds = [0]
{probes}
"""


@pytest.fixture
def run(ltbench, sandbox):
    def call(methods, probes='', body=BY_CLASS, code=0):
        """What is printed, and the records by method."""
        (sandbox / 'mine.py').write_text(PLUG_IN.format(body=body))
        (sandbox / 'few.py').write_text(SUITE.format(methods=methods, probes=probes))
        printed = ltbench('run', 'few.py', '--plugin', 'mine.py', code=code)
        records = [json.loads(path.read_text()) for path in sandbox.glob('results/few/records/*.json')]
        return printed, {record['method']: record for record in records}

    return call


def stages_of(record):
    return [stage['kind'] for stage in record['stages']]


def test_a_method_asks_for_a_probe_of_a_plug_in_and_others_do_not_have_it(run):
    printed, records = run(['erm', 'asking', 'la_posthoc'])
    assert '3 runs, 3 stages to do' in printed  # a network that they share, a step on its outputs, a probe
    assert set(records['asking']['analysis']) == {'bn', 'strength', 'norms_of_mine'}
    largest = records['asking']['analysis']['norms_of_mine']['largest']
    assert len(largest) == 10 and min(largest) > 0
    assert set(records['erm']['analysis']) == set(records['la_posthoc']['analysis']) == {'bn', 'strength'}
    assert stages_of(records['asking']) == ['train', 'probe'] and stages_of(records['erm']) == ['train']
    assert records['asking']['config']['probes'] == ['norms_of_mine', 'bn_vectors']
    assert 'probes' not in records['erm']['config']
    # it costs no second of training, and the network is that of erm
    for name in ('parameters', 'wall_seconds', 'peak_memory_mb'):
        assert records['asking']['cost'][name] == records['erm']['cost'][name]
    assert records['asking']['fingerprint'] == records['erm']['fingerprint']


def test_a_probe_that_is_added_to_finished_runs_trains_nothing(run, sandbox, logits_files):
    _, before = run(['erm', 'crt(epochs=1)'])
    logits = logits_files(sandbox / 'store')
    printed, records = run(['erm', 'crt(epochs=1)'], "probes = ['norms_of_mine', 'feature_norms']")
    assert '2 runs, 4 stages to do' in printed
    assert logits_files(sandbox / 'store') == logits
    for method, record in records.items():
        assert set(record['analysis']) == {'bn', 'strength', 'norms_of_mine', 'feature_norms'}
        for name in ('metrics', 'curve', 'cost', 'fingerprint', 'computation'):
            assert record[name] == before[method][name]
        assert stages_of(record) == [*stages_of(before[method]), 'probe', 'probe']
    # features are of the same backbone, whatever head there is
    first, second = (record['analysis']['feature_norms'] for record in records.values())
    assert first == second and len(first['mean']) == 10
    assert 'Everything is found' in run(['erm', 'crt(epochs=1)'], "probes = ['norms_of_mine', 'feature_norms']")[0]
    # another code is another measurement, and still trains nothing
    printed, records = run(['erm'], "probes = ['norms_of_mine']", "return {'largest': [1.0]}")
    assert '1 runs, 1 stages to do' in printed
    assert records['erm']['analysis']['norms_of_mine'] == {'largest': [1.0]}


def test_a_measurement_whose_record_was_never_written_is_recorded_by_the_next_run(run, sandbox):
    _, records = run(['erm'])
    [path] = sandbox.glob('results/few/records/*.json')
    plain = path.read_text()
    run(['erm'], "probes = ['norms_of_mine']")
    path.write_text(plain)  # as if killed between the two
    printed, records = run(['erm'], "probes = ['norms_of_mine']")
    assert 'nothing to train' in printed
    assert 'norms_of_mine' in records['erm']['analysis']


def test_a_probe_that_raises_fails_nothing_but_itself(run):
    code = 'raise KeyError("no such thing")'
    others = ('import sys; sys.exit(3)', 'return seen.features')
    for name, body in zip(('second', 'third'), others, strict=True):
        more = f"\n@PROBES.register_module(name='{name}')\nclass {name}(Probe):\n    def measure(self, seen):\n"
        code += f'\n{more}        {body}'
    probes = "probes = ['second', 'third']"
    printed, records = run(['asking'], probes, code)
    for name in ('norms_of_mine', 'second', 'third'):
        [warning] = [text for text in records['asking']['warnings'] if f'probe {name}' in text]
        assert warning.startswith(f'the probe {name} measured nothing: ')
        assert warning in ' '.join(printed.split())
    assert set(records['asking']['analysis']) == {'bn', 'strength'}
    assert 'Everything is found' in run(['asking'], probes, code)[0]


def test_a_probe_that_ends_its_process_leaves_the_run_and_is_named(run):
    _, records = run(['asking'], body='import os; os._exit(9)', code=1)
    assert any('the probe norms_of_mine measured nothing' in text for text in records['asking']['warnings'])
    assert records['asking']['metrics']['top1'] > 0
    assert stages_of(records['asking']) == ['train']
    records = run(['asking'])[1]
    assert 'norms_of_mine' in records['asking']['analysis']
    assert records['asking']['warnings'] == []


def test_a_plug_in_that_breaks_takes_no_probe_of_ours_along(ltbench, sandbox):
    """It may be the first to import them."""
    (sandbox / 'broken.py').write_text('from ltbench.probes import Probe\nraise ValueError("not today")\n')
    (sandbox / 'empty.py').write_text('from ltbench.probes import Probe\n')
    plug_ins = os.pathsep.join(('broken.py', 'empty.py'))
    printed = ltbench('run', '-b', 'digits_lt', '-m', 'nbn', '-o', 'epochs=1', LTBENCH_PLUGINS=plug_ins)
    assert 'not today' in printed and 'empty.py: LTBenchError: it registers nothing' in printed
    [path] = sandbox.glob('results/digits_lt/records/*.json')
    record = json.loads(path.read_text())
    assert set(record['analysis']) == {'bn', 'strength'} and record['warnings'] == []
