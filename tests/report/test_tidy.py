"""The frame for a user's own tables and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_records import make_record

from ltbench.report.tidy import COLUMNS, COSTS, METRICS, tidy


def frame_of(*records):
    return tidy({Path(f'results/mine/records/{number}.json'): record for number, record in enumerate(records)})


def test_columns_types_and_order():
    frame = frame_of(make_record('nbn', 0), make_record('erm', 1, factor=None), make_record('erm', 0))
    assert tuple(frame.columns) == COLUMNS
    assert list(frame['method']) == ['erm', 'nbn', 'erm']  # no imbalance factor comes last
    assert list(frame['path']) == [f'results/mine/records/{n}.json' for n in (2, 0, 1)]
    assert set(frame['suite']) == {'mine'}
    assert all(frame[name].dtype == float for name in (*METRICS, *COSTS, 'imbalance_factor'))
    assert frame['seed'].dtype == int
    assert np.isnan(frame['imbalance_factor'].iloc[2])


def test_values_are_those_of_the_record_and_an_empty_group_is_nan():
    record = make_record('erm', 0, counts=(5000, 1500, 400), hits=(50, 25, 0))
    (row,) = frame_of(record).to_dict('records')
    assert (row['top1'], row['many'], row['macro'], row['geometric_mean']) == (50.0, 50.0, 50.0, 0.0)
    assert np.isnan(row['few'])
    for name in METRICS:
        assert row[name] == record['metrics'][name] or record['metrics'][name] is None
    assert all(row[name] == record['cost'][name] for name in COSTS)


def test_what_training_an_imported_checkpoint_took_is_not_known():
    record = make_record('erm', 0)
    record['config']['imported'] = {'source': 'nbn'}
    (row,) = frame_of(record).to_dict('records')
    assert all(np.isnan(row[name]) for name in ('wall_seconds', 'cpu_seconds', 'images_per_second'))
    assert row['parameters'] == record['cost']['parameters']


def test_tables_of_one_setting_are_told_apart_in_words():
    frame = frame_of(make_record('erm', 0), make_record('erm', 0, recipe={'epochs': 100}))
    assert frame['setting'].nunique() == 2
    assert len(frame_of()) == 0
    assert tuple(frame_of().columns) == COLUMNS
