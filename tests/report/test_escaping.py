"""Foreign text in each format: shown as it is, and never markup, a formula or a command."""

from __future__ import annotations

import csv
import json

import pytest
from made_records import make_record, write

from ltbench.record import write_failure
from ltbench.report.escaping import in_csv, in_file_name, in_latex, in_markdown, in_script, in_svg
from ltbench.report.frame import TableKey
from ltbench.verbs.report import report


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('nbn(bias_init=zeros)+drw', 'nbn(bias_init=zeros)+drw'),
        ('a|b\n\nc', r'a\|b c'),
        ('<script>x</script>', r'\<script>x\</script>'),
        ('`rm` **b** _i_ ~~s~~', r'\`rm\` \*\*b\*\* \_i\_ \~\~s\~\~'),
        ('[x](javascript:a) ![y](z) [q][r]', r'[x\](javascript:a) ![y\](z) [q\][r]'),
        ('[x]: javascript:a', r'[x\]: javascript:a'),
        ('sampler=[1, 2]', 'sampler=[1, 2]'),
        ('$x$ &lt;', r'\$x\$ \&lt;'),
        ('__x__ a_b _', r'\_\_x\_\_ a_b \_'),
        ('# heading', r'\# heading'),
        ('1. item', r'1\. item'),
        ('> quoted', r'\> quoted'),
        ('-0.5', '-0.5'),
        ('\x1b[31mred\x00', r'\\x1b[31mred\\x00'),
        ('C:\\new', r'C:\\new'),
    ],
)
def test_markdown(text, said):
    assert in_markdown(text) == said


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('\\input{/etc/passwd}', r'\textbackslash{}input\{/etc/passwd\}'),
        ('50 % of $x_1$ & #2~^', r'50 \% of \$x\_1\$ \& \#2\textasciitilde{}\textasciicircum{}'),
        ('[2cm]*', '{[}2cm{]}{*}'),
        ('a\n\nb', 'a b'),
        ('<a|b>', r'\textless{}a\textbar{}b\textgreater{}'),
    ],
)
def test_latex(text, said):
    assert in_latex(text) == said


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ('@SUM(A1)', "'@SUM(A1)"),
        ('+1+1', "'+1+1"),
        ('-2+3', "'-2+3"),
        ('\t=1', "'\\t=1"),
        ('\r=1', "'\\r=1"),
        ('＝1', "'＝1"),
        ('-2.5', '-2.5'),
        ('+1e-07', '+1e-07'),
        ('-', "'-"),
        ('a=1', 'a=1'),
        ('', ''),
    ],
)
def test_csv(text, said):
    assert in_csv(text) == said


def test_script():
    odd = {'a': '</script><!--', 'b': '\u2028'}
    assert in_script(odd) == '{"a":"\\u003c/script>\\u003c!--","b":"\\u2028"}'
    assert json.loads(in_script(odd)) == odd


def test_svg_and_file_names():
    assert in_svg(b'<text>a\x1b\x00b\n</text>') == b'<text>ab\n</text>'
    assert in_file_name('../a b/ç=1') == '.._a_b_ç=1'


def test_a_name_of_a_table_fits_into_a_file_name():
    names = [TableKey('b', 100.0, f'paper, {"長" * 300}{end}', '').slug for end in 'xy']
    assert all(len(name.encode()) <= 120 for name in names)
    assert names[0] != names[1]
    assert TableKey('cifar10_lt', 100.0, 'quick, epochs=2', '').slug == 'cifar10_lt-if100-quick__epochs=2'


FOREIGN = '<script>|`=x`\\input{y}[z](javascript:q)'


def test_foreign_text_everywhere(results):
    """Machines, classes, warnings, caveats, settings, values and errors."""
    environment = {'processor': FOREIGN, 'instructions': FOREIGN, 'torch': FOREIGN, 'git_commit': FOREIGN}
    for method, seed in (('erm', 0), ('a(x="=1|<script>")', 0)):
        record = make_record(method, seed, environment=environment if method == 'erm' else {}, warnings=[FOREIGN])
        record['class_names'] = [f'{FOREIGN}{number}' for number in range(8)]
        record['setting'] = FOREIGN
        record['config']['benchmark'] |= {'caveat': FOREIGN}
        record['config']['benchmark']['data']['root'] = FOREIGN
        record['chosen'] = {FOREIGN: FOREIGN}
        write(record)
    write_failure('made', make_record('=failed()', 4), '<script>', f'=1{FOREIGN}\n# x')
    report('made', figures=False, latex=True)
    made = {path.name: path.read_text() for path in results.glob('made/*') if path.is_file()}
    assert (results / 'index.html').read_text().count('<script>') == 1  # the page's own; its data stand in others
    for name in ('README.md', 'leaderboard.md'):
        shown = in_markdown(FOREIGN)
        assert shown in made[name], name
        assert FOREIGN not in made[name], name
        assert '<script>' not in made[name].replace('\\<script>', '')
    assert f'- =failed(), seed 4, stage \\<script>: =1{in_markdown(FOREIGN)} # x' in made['leaderboard.md']
    rows = list(csv.DictReader(made['leaderboard.csv'].splitlines()))
    assert [row['method'] for row in rows] == ['a(x="=1|<script>")', 'erm', "'=failed()"]
    assert rows[1]['top1_mean'] == '72.0000'
    tables = [text for name, text in made.items() if name.endswith('.tex')]
    assert len(tables) == 2
    assert all('\\input{' not in text for text in tables)
    assert all(in_latex(FOREIGN) in text for text in tables)  # the caveat stands at both
