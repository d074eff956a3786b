"""What `status` and `run` say of records that are not of the runs that they seem to be of."""

from __future__ import annotations

from types import SimpleNamespace

from ltbench.fingerprint import PROTOCOL_VERSION
from ltbench.verbs.status import _table_names, other_tables_note

RUN = SimpleNamespace(data='a' * 64)
OTHER_DATA = {'table': '1', 'data': 'b' * 64, 'protocol': PROTOCOL_VERSION}
OLDER = {'table': '2', 'data': 'a' * 64, 'protocol': 0}
OTHER_RECIPE = {'table': '3', 'data': 'a' * 64, 'protocol': PROTOCOL_VERSION}


def test_what_keeps_a_record_apart_is_named():
    assert other_tables_note([]) == ''
    assert (
        other_tables_note([(RUN, OTHER_DATA)])
        == '1 record was made with other data (bbbbbb); it stays in a separate table'
    )
    assert other_tables_note([(RUN, OLDER)] * 2) == '2 records were made with protocol 0; they stay in a separate table'
    unknown = OTHER_DATA | {'data': None, 'table': '4'}
    assert other_tables_note([(RUN, unknown), (RUN, OTHER_RECIPE), (RUN, OTHER_RECIPE)]) == (
        '2 records were made with another backbone or recipe, 1 record was made with other data (unknown); '
        'they stay in separate tables'
    )


def test_rows_say_as_much_as_tells_their_tables_apart():
    def rows(*tables):
        return [dict(zip(('benchmark', 'imbalance_factor', 'setting', 'table'), one, strict=True)) for one in tables]

    plain, quick, fish = ('b', 10, 'paper', 'a' * 16), ('b', 10, 'quick', 'c' * 16), ('b', 10, 'paper', 'f' * 16)
    assert _table_names(rows(plain, plain)) == {plain: 'b IF 10'}
    assert _table_names(rows(plain, quick)) == {plain: 'b IF 10 (paper)', quick: 'b IF 10 (quick)'}
    assert _table_names(rows(plain, fish)) == {plain: 'b IF 10 (table aaaaaa)', fish: 'b IF 10 (table ffffff)'}
    other = ('other', None, 'paper', 'a' * 16)
    assert _table_names(rows(plain, other))[other] == 'other'
