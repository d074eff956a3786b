"""What a suite asks for and what of it is recorded."""

from __future__ import annotations

from made_records import make_record, write

from ltbench.benchmark import load_benchmark
from ltbench.record import write_failure
from ltbench.report import Report, read_suite
from ltbench.verbs.report import report

SUITE = """
benchmarks = ['cifar10_lt', dict(benchmark='inat2018', methods=['erm'], seeds=[3]), 'imagenet_lt']
methods = ['erm', 'nbn(scope=all)']
seeds = [0, 1]
"""


def test_what_was_not_run_is_told(results, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(SUITE)
    for method, seed in (('erm', 0), ('erm', 1), ('erm', 2), ('nbn', 0), ('nbn(scope=all)', 0)):
        write(make_record(method, seed), 'mine')  # one beyond the seeds, one of other options
    write(make_record('erm', 3, benchmark='inat2018', factor=None), 'mine')
    write_failure('mine', make_record('erm', 1, benchmark='imagenet_lt', factor=None), 'train', 'the loss is nan')
    assert [tuple(each) for each in Report(read_suite(str(path))).coverage] == [
        ('cifar10_lt, imbalance factor 100 (paper)', 4, 3, 0),
        ('inat2018 (paper)', 1, 1, 0),
        ('imagenet_lt (paper)', 4, 0, 1),
    ]
    report(str(path), figures=False)
    for name in ('README.md', 'leaderboard.md'):
        text = (results / 'mine' / name).read_text()
        assert '- cifar10_lt, imbalance factor 100 (paper): 3 of 4 runs.\n' in text
        assert '- imagenet_lt (paper): not run, 1 failed.\n' in text


def test_a_suite_without_a_file_asks_for_nothing(results):
    write(make_record(), 'made')
    assert Report(read_suite('made')).coverage == []
    assert load_benchmark('cifar10_lt').setting == 'paper'  # as made records have it
