"""The page: one file that loads nothing, escapes everything, and says what the records say."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_records import COUNTS, make_record
from PIL import Image

from ltbench.record import IDENTITY
from ltbench.report import tables
from ltbench.report.frame import distinguish
from ltbench.report.page import Contents, page
from ltbench.report.page_data import run_id
from ltbench.report.page_tables import breakable
from ltbench.report.statistics import against

NASTY = ('<script>alert(1)</script>', 'a&b "c"', '</script><img src=x onerror=alert(1)>')
VOID = {'meta', 'link', 'input', 'img', 'br', 'wbr'}


class Document(HTMLParser):
    """Every element with its attributes, the text of tables by row, and the data; fails on what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.data, self.in_data = '', False
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or '' for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        self.in_data = dict(attrs).get('id') == 'data'
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.in_data = False

    def handle_data(self, text):
        if self.in_data:
            self.data += text
        elif self.rows and {'td', 'th'} & set(self.open):
            self.rows[-1][-1] += text

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def contents(records, failures=(), **others) -> Contents:
    frame = tables.runs_frame(records)
    return Contents('made', ['ltbench run made'], records, tables.leaderboard(frame), failures, **others)


def failure(method: str, seed: int, reason: str = 'the loss is nan') -> dict:
    record = make_record(method, seed)
    return {key: record[key] for key in IDENTITY} | {'stage': 'train', 'reason': reason}


@pytest.fixture
def records():
    return [make_record(method, seed) for method in ('erm', 'nbn') for seed in (0, 1, 2)]


def test_nothing_is_loaded(records):
    html = page(contents(records))
    document = Document(html)
    for tag, attributes in document.elements:
        for name in ('src', 'href', 'srcset', 'action', 'data', 'poster'):
            assert attributes.get(name, '#').startswith(('#', 'data:')), (tag, attributes)
    assert 'url(' not in html and '@import' not in html and 'fetch(' not in html


@pytest.mark.parametrize('name', NASTY)
def test_names_are_no_markup(name):
    record = make_record(name) | {'class_names': [name] * len(COUNTS), 'warnings': [name], 'chosen': {name: name}}
    plain = Document(page(contents([make_record()], [failure('x', 0)], left_out=['x'], ranks='x')))
    others = {'left_out': [name], 'ranks': name, 'ablations': {name: pd.DataFrame({name: [name]})}}
    document = Document(page(contents([record], [failure(name, 1, name)], **others)))
    for tag in ('script', 'img'):
        assert len([t for t, _ in document.elements if t == tag]) == len([t for t, _ in plain.elements if t == tag])
    assert not [attributes for _, attributes in document.elements if 'onerror' in attributes]
    data = json.loads(document.data)
    assert data['classes'][0]['names'][0] == name == data['warnings'][0][0]
    assert document.row(name)[0] == name


def test_the_same_bytes_however_the_records_are_ordered(records):
    assert page(contents(records)) == page(contents(records[::-1]))


def test_numbers_are_those_of_the_records(records):
    document = Document(page(contents(records)))
    scores = pd.Series([record['metrics']['few'] for record in records[:3]])
    assert document.row('erm')[5].startswith(f'{scores.mean():.1f} ± {scores.std(ddof=1):.1f}')
    data = json.loads(document.data)
    for run in (dict(zip(data['fields'], values, strict=True)) for values in data['runs']):
        (record,) = [r for r in records if r['fingerprint'] == run['fingerprint']]
        assert (run['seed'], run['method']) == (record['run_seed'], record['method'])
        for name, value in zip(data['metric_names'], run['metrics'], strict=True):
            assert value == pytest.approx(record['metrics'][name], abs=1e-4)
        images = data['images'][run['images']]
        assert [100 * hit / n for hit, n in zip(run['hits'], images, strict=True)] == record['metrics']['per_class']
        _, _, columns = data['curves'][run['curve']]
        assert data['columns'][columns['loss']] == [point['loss'] for point in record['curve']]
        benchmark, stages = run['config']
        assert data['benchmarks'][benchmark] == record['config']['benchmark']
        assert [data['stage_configs'][place] for place, _ in stages] == record['config']['stages']
        assert data['environments'][run['environment']] == record['environment']
    assert [len(data[shared]) for shared in ('environments', 'classes', 'benchmarks')] == [1, 1, 1]


def test_a_long_curve_is_thinned_to_its_last_epoch():
    document = Document(page(contents([make_record(epochs=200)])))
    data = json.loads(document.data)
    total, epochs, _ = data['curves'][0]
    kept = data['columns'][epochs]
    assert (total, kept[-1], len(kept)) == (200, 199, 67)


@pytest.mark.parametrize('every', [3, 6, 50])
def test_no_score_on_the_way_is_left_out_of_a_long_curve(every):
    record = make_record(epochs=200)
    for point in record['curve']:
        if (point['epoch'] + 1) % every == 0:
            point['test_top1'] = float(point['epoch'])
    data = json.loads(Document(page(contents([record]))).data)
    _, epochs, columns = data['curves'][0]
    shown = [value for value in data['columns'][columns['test_top1']] if value is not None]
    assert shown == list(range(every - 1, 200, every))
    assert len(data['columns'][epochs]) < 140


def test_what_does_not_exist_is_a_dash_and_a_single_seed_has_no_deviation():
    document = Document(page(contents([make_record(counts=(5000, 1500, 400, 120))])))
    row = document.row('erm')
    assert row[1] == '1' and '±' not in row[2]
    assert document.row('method')[2:5] == ['top-1', 'geom.', 'NLL']  # all classes are many: macro and many are top-1


def test_failed_runs_are_shown(records):
    failures = [failure('nbn', 3), failure('ride', 0, 'out of memory'), failure('ride', 1)]
    html = page(contents(records, failures, left_out=['records/x.json is no valid record']))
    document = Document(html)
    assert document.row('nbn')[1] == '3 1 failed'
    assert document.row('ride')[1:] == [' 2 failed', 'seed 0, train: out of memory; seed 1, train: the loss is nan']
    assert '6 recorded, 3 failed, 1 file left out' in html
    assert 'records/x.json is no valid record' in html


def test_the_best_and_what_is_within_noise_of_it(records):
    records += [make_record('crt', seed, hits=[0] * len(COUNTS)) for seed in (0, 1, 2)]
    wanted = contents(records)
    wanted.leaderboard['best'] = wanted.leaderboard['method'].map({'erm': 'best', 'nbn': 'within noise', 'crt': ''})
    document = Document(page(wanted))
    told = [document.row(method)[2].partition(', ')[2] for method in ('erm', 'nbn', 'crt')]
    assert told == ['best', 'within noise of the best', '']


def test_other_recipes_are_apart(records):
    row = {'method': 'erm', 'published': 70.0, 'measured': 71.0, 'difference': 1.0, 'low': 0.5, 'high': 1.5}
    published = pd.DataFrame([row | {'verdict': 'agrees', 'differs': ''}, row | {'verdict': '', 'differs': 'epochs'}])
    same, other = page(contents(records, published=published)).split('Another recipe than published')
    assert 'agrees' in same and '+1.00' in same and 'epochs</td>' not in same
    assert 'epochs</td>' in other and '+1.00' not in other


def test_records_of_an_older_protocol_are_a_group_of_their_own():
    both = [make_record(seed=0, protocol=0), make_record(seed=1)]
    frame = tables.runs_frame(both)
    settings = [one['setting'] for one in distinguish(both)]
    html = page(Contents('made', [], both, tables.leaderboard(frame), settings=settings))
    assert html.count('<small>(paper, protocol ') == 2
    data = json.loads(Document(html).data)
    assert len({values[data['fields'].index('row')] for values in data['runs']}) == 2
    assert {values[data['fields'].index('id')] for values in data['runs']} == {run_id(record) for record in both}


def test_a_caveat_stands_at_every_table_of_its_benchmark(records):
    said = 'Not <comparable>.'
    for record in records:
        record['config']['benchmark']['caveat'] = said
    others = [make_record(method, benchmark='other_lt') for method in ('erm', 'nbn')]
    rows = [{key: r[key] for key in tables.GROUP} for r in (*records, *others)]
    ablations = {'a': pd.DataFrame([row | {'method': 'erm', 'p': 0.5} for row in rows])}
    statistics = against(tables.runs_frame([*records, *others]))
    html = page(contents([*records, *others], statistics=statistics, ablations=ablations))
    assert html.count('class="caveat">Not &lt;comparable&gt;.</p>') == 3  # leaderboard, statistics, ablation


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('nbn(scope=all, bias_init=ones)+crt', ['nbn(', 'scope=all,', ' bias_init=ones)+', 'crt']),
        ('balanced_softmax', ['balanced_softmax']),
        ('resample_class_balanced', ['resample_', 'class_', 'balanced']),
        ('x (paper) <b>', ['x (paper) &lt;b&gt;']),
    ],
)
def test_names_break_where_they_have_parts(name, parts):
    assert str(breakable(name)) == '<wbr>'.join(parts)


@pytest.mark.parametrize(('rows', 'folded'), [(40, 0), (41, 1)])
def test_a_long_table_is_folded_and_counted(records, rows, folded):
    html = page(contents(records, mean_ranks=pd.DataFrame({'method': [f'm{n}' for n in range(rows)]})))
    assert html.count('<details class="long">') == html.count(f'({rows} rows)') == folded


def test_an_ablation_has_a_row_a_method(records):
    group = {'benchmark': 'b', 'imbalance_factor': 10.0, 'setting': 'paper', 'table': 'a'}
    numbers = {'mean': 70.0, 'std': 1.0, 'n': 3, 'difference': 2.0, 'difference_std': 0.5, 'p_holm': 0.25}
    reference = {'mean': 68.0, 'std': 1.0, 'n': 3}
    frame = pd.DataFrame(
        [
            group | {'method': method, 'scope': 'all', 'is_reference': first, 'score': score} | scored
            for method, first, scored in (('erm', True, reference), ('nbn', False, numbers))
            for score in ('top1', 'few')
        ]
    )
    document = Document(page(contents(records, ablations={'nbn': frame})))
    wanted = ['method', 'reference', 'top-1', 'Δ top-1', 'p (Holm)', 'seeds', 'few', 'Δ few']  # scope does not vary
    assert wanted in document.rows
    assert ['nbn', 'no', '70.00 ± 1.00', '+2.00 ± 0.50', '0.250', '3', '70.00', '+2.00'] in document.rows
    assert ['erm', 'yes', '68.00 ± 1.00', '–none', '–none', '3', '68.00', '–none'] in document.rows


def test_an_ablation_of_one_option_says_its_values(records):
    """With two values only the rows that are no reference have one and the same."""
    group = {'benchmark': 'b', 'imbalance_factor': 10.0, 'setting': 'quick', 'table': 'a'}
    frame = pd.DataFrame(
        [
            group | {'method': 'erm', 'option': 'recipe.precision', 'value': value, 'is_reference': value == 'fp32'}
            | {'score': 'top1', 'mean': 70.0, 'std': 1.0, 'n': 3, 'difference': 0.0, 'difference_std': 0.5, 'p_holm': 1}
            for value in ('fp32', 'bf16')
        ]
    )  # fmt: skip
    document = Document(page(contents(records, ablations={'recipe.precision': frame})))
    assert ['erm', 'fp32', 'yes'] in [row[:3] for row in document.rows]
    assert ['erm', 'bf16', 'no'] in [row[:3] for row in document.rows]


def test_a_figure_is_embedded_with_the_title_of_its_table_and_its_size(records, results):
    folder = results / 'made' / 'figures'
    folder.mkdir(parents=True)
    path = folder / 'groups-cifar10_lt-if100.png'
    Image.new('L', (1250, 625)).save(path)
    figures = [Path('figures', path.name)]
    document = Document(page(contents(records, figures=figures, captions={'groups': 'By group'})))
    (image,) = [attributes for tag, attributes in document.elements if tag == 'img']
    assert image['src'] == 'data:image/png;base64,' + base64.b64encode(path.read_bytes()).decode()
    assert image['alt'] == 'By group (cifar10_lt, imbalance factor 100 (paper))'
    assert (image['width'], image['height']) == ('800', '400')
