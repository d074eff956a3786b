"""The page of all suites: what its data say, and whose data it keeps."""

from __future__ import annotations

import errno
import fcntl
import json
import re

import pandas as pd
import pytest
from made_records import COUNTS, IMAGES, make_record, write

from ltbench.errors import UsageError
from ltbench.record import write_failure
from ltbench.report.families import FAMILIES
from ltbench.report.page import CHUNK, write_page
from ltbench.verbs.report import report

SCRIPT = re.compile(
    r'<script type="application/json" (?:data-format="\d+" )?data-(suite|runs)="([^"]*)">(.*?)</script>'
)


def page_of(results) -> str:
    return (results / 'index.html').read_text(encoding='utf-8')


def data_of(results, kind: str = 'suite') -> dict[str, dict]:
    return {suite: json.loads(text) for what, suite, text in SCRIPT.findall(page_of(results)) if what == kind}


def test_what_a_row_says(results):
    for seed in (0, 1, 2):
        write(make_record('erm', seed, hits=[30 + seed] * len(COUNTS)))
        write(make_record('nbn', seed, hits=[40 + seed] * len(COUNTS), options={'scope': 'all'}))
    write_failure('made', make_record('crt', 4), 'train', 'out of memory')
    report('made', figures=False)
    (table,) = data_of(results)['made']['tables']
    assert (table['title'], table['groups']) == (
        'cifar10_lt, imbalance factor 100 (paper)',
        dict(many=4, medium=2, few=2),
    )
    best, erm, failed = table['rows']
    assert (best['method'], best['name'], best['standing'], best['rank'], best['n']) == ('nbn', 'NBN', 'best', 1, 3)
    assert best['scores']['top1'][:2] == [100 * 41 / IMAGES, 2.0]
    assert best['versus']['few'][0] == pytest.approx(20.0) and best['versus']['few'][2] < 0.05
    tests = pd.read_csv(results / 'made' / 'statistics.csv').query("reference == 'erm' and score == 'top1'")
    told = tests[['difference', 'noise', 'p']].iloc[0].tolist()  # to four digits: what is printed is rounded once
    assert best['versus']['top1'] == pytest.approx(told, abs=1e-4)
    assert best['cost'] == erm['cost'] == 1.0 and 'erm' not in erm['versus']
    assert (best['family'], erm['family'], failed['family']) == ('BN', 'baseline', 'two-stage')
    assert failed['failed'] == 1 and failed['n'] == 0
    assert table['failures'] == [['cRT', 4, 'train', 'out of memory']]


def test_costs_that_are_not_known_have_no_ratio(results):
    free = make_record('erm')
    write(free | {'cost': {**free['cost'], 'cpu_seconds': 0.0}})
    write(make_record('crt'))
    report('made', figures=False)
    assert [row['cost'] for row in data_of(results)['made']['tables'][0]['rows']] == [None, None]


def test_runs_belong_to_the_rows_of_the_tables(results):
    for method in ('erm', 'nbn'):
        for seed in (1, 0):
            write(make_record(method, seed))
    write(make_record('erm', 0, factor=10))
    report('made', figures=False)
    rows = {
        row['row']: (table['factor'], row['method'])
        for table in data_of(results)['made']['tables']
        for row in table['rows']
    }
    runs = data_of(results, 'runs')['made']
    told = [dict(zip(runs['fields'], values, strict=True)) for values in runs['runs']]
    assert sorted((*rows[run['row']], run['seed']) for run in told) == [
        (10.0, 'erm', 0), (100.0, 'erm', 0), (100.0, 'erm', 1), (100.0, 'nbn', 0), (100.0, 'nbn', 1),
    ]  # fmt: skip
    first = next(run for run in told if (rows[run['row']], run['seed']) == ((100.0, 'erm'), 1))
    assert first['hits'] == [max(IMAGES - 4 * c - 1, 0) for c in range(len(COUNTS))]
    assert len(runs['classes']) == 1, 'shared by all runs'


def test_equal_computations_are_one_row_whose_runs_are_shown_once(results):
    for method in ('la_loss', 'balanced_softmax'):
        write(make_record(method, 0, computation='ab' * 32, fingerprint='cd' * 32))
    report('made', figures=False)
    (row,) = data_of(results)['made']['tables'][0]['rows']
    assert {row['method'], *row['also']} == {'la_loss', 'balanced_softmax'}
    assert len(data_of(results, 'runs')['made']['runs']) == 1


def test_a_report_changes_its_own_suite_alone(results):
    write(make_record('erm'), 'first')
    write(make_record('erm'), 'second')
    report('first', figures=False)
    report('second', figures=False)
    before = {suite: found for found in CHUNK.findall(page_of(results).encode()) for suite in [found.decode()]}
    assert list(before) == ['first', 'second']
    write(make_record('nbn'), 'first')
    report('second', figures=False)
    assert len(data_of(results)['first']['tables'][0]['rows']) == 1, 'of its last report'
    page = page_of(results)
    report('second', figures=False)
    assert page_of(results) == page, 'the same bytes'
    report('first', figures=False)
    assert len(data_of(results)['first']['tables'][0]['rows']) == 2


def test_a_suite_that_is_gone_leaves_the_page(results):
    import shutil

    for suite in ('first', 'second'):
        write(make_record('erm'), suite)
        report(suite, figures=False)
    shutil.rmtree(results / 'first')
    report('second', figures=False)
    assert list(data_of(results)) == ['second']


@pytest.mark.parametrize('name', ['first/', './first', 'second/../first'])
def test_a_path_is_no_second_suite(results, name):
    for suite in ('first', 'second'):
        write(make_record('erm'), suite)
    report('first//', figures=False)
    assert list(data_of(results)) == ['first']
    page = results / 'index.html'
    page.write_text(page_of(results).replace('="first"', f'="{name}"'))  # of an earlier version
    report('second', figures=False)
    assert list(data_of(results)) == ['second']
    if not name.endswith('/'):
        with pytest.raises(UsageError, match=f"without a path; got '{name}'"):
            report(name, figures=False)


def test_a_page_is_written_where_the_disk_has_no_flock_and_a_lock_file_was_left(results, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, 'Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', flock)
    write(make_record('erm'), 'first')
    (results / '.index.lock').touch()
    report('first', figures=False)
    assert list(data_of(results)) == ['first']


def test_a_page_of_another_format_or_an_empty_one_is_rebuilt(results):
    write(make_record('erm'), 'first')
    report('first', figures=False)
    whole = page_of(results)
    for other in (whole.replace('data-format="2"', 'data-format="1"'), ''):
        (results / 'index.html').write_text(other)
        report('first', figures=False)
        assert page_of(results) == whole


def test_no_text_of_a_record_is_markup(results):
    foreign = '</script><img src=x onerror=alert(1)>\u2028"'
    record = make_record('erm', warnings=[foreign])
    record['class_names'] = [f'{foreign}{number}' for number in range(len(COUNTS))]
    write(record)
    report('made', figures=False)
    page = page_of(results)
    assert '<img' not in page and page.count('</script>') == 4, 'to do, tables, runs and the script'
    assert data_of(results, 'runs')['made']['classes'][0]['names'][3] == f'{foreign}3'


def test_a_suite_may_be_called_anything(results):
    (results / 'a"<b>' / 'records').mkdir(parents=True)
    for _ in range(2):
        write_page(results, 'a"<b>', {'tables': []}, {'runs': []})
        assert page_of(results).count('data-suite="a&quot;&lt;b&gt;"') == 1


def test_benchmarks_of_the_mission_are_named_whether_they_were_run_or_not(results):
    write(make_record('erm'))
    report('made', figures=False)
    todo = json.loads(re.search(r'id="todo">(.*?)</script>', page_of(results))[1])
    assert [table['benchmark'] for table in todo['tables']] == ['cifar10_lt', 'cifar100_lt', 'imagenet_lt', 'inat2018']
    assert {'method': 'nbn', 'name': 'NBN', 'family': 'BN'} in todo['methods']
    assert [family['name'] for family in todo['families']] == [*FAMILIES, '']


def test_runs_that_score_alike_in_every_image_have_a_page(results):
    """As of networks that were trained for a minute: all images are right or all are wrong."""
    for method in ('erm', 'nbn', 'crt'):
        write(make_record(method, hits=[0] * (len(COUNTS) - 1) + [IMAGES]))
    report('made', figures=False)
    rows = data_of(results)['made']['tables'][0]['rows']
    outcomes = [row['versus'][score] for row in rows if row['method'] != 'erm' for score in ('top1', 'few')]
    assert [(difference, p) for difference, _, p in outcomes] == [(0.0, 1.0)] * 4


def test_an_ablation_has_one_row_a_method_as_in_the_leaderboard(results):
    for seed in (0, 1, 2):
        write(make_record('erm', seed))
        write(make_record('nbn', seed, hits=[40 + seed] * len(COUNTS), options={'normalize': 'both', 'scope': 'all'}))
    report('made', figures=False)
    (ablation,) = [each for each in data_of(results)['made']['tables'][0]['beside'] if 'Ablation' in each['title']]
    assert ablation['title'] == 'Ablation of NBN' and ablation['columns'][2] == 'top-1'
    assert [row[0] for row in ablation['rows']] == ['ERM', 'NBN']
    text = (results / 'made' / 'leaderboard.md').read_text()
    assert f'| nbn | {" | ".join(ablation["rows"][1][1:])} |' in text
