"""Names stand for contents: what the same command finds again, and what it keeps apart."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDER = 'folder_lt(root={}, image_size=8, test_per_class=4, imbalance_factor=2, depth=8, epochs=1, batch_size=8)'


def rows(suite):
    with (suite / 'leaderboard.csv').open() as file:
        return [(row['setting'], row['method'], row['n_seeds'], row['rank']) for row in csv.DictReader(file)]


def make(folder, seed):
    """Two classes of 12 images; equal class counts whatever the seed."""
    random = np.random.default_rng(seed)
    for name in ('a', 'b'):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / f'{number:02d}.png')


def test_an_edited_benchmark_has_a_table_of_its_own(ltbench, sandbox):
    shutil.copytree(CONFIGS, sandbox / 'configs')
    file = sandbox / 'configs/benchmarks/digits_lt.py'
    file.write_text(file.read_text().replace('epochs=60', 'epochs=2'))
    edited = {'LTBENCH_CONFIGS': str(sandbox / 'configs')}
    ltbench('run', '-m', 'erm', '--seeds', '0', **edited)
    file.write_text(file.read_text().replace('lr=0.1', 'lr=0.05').replace('epochs=2', 'epochs=1'))
    (state,) = json.loads(ltbench('status', '-m', 'erm', '--seeds', '0', '--json', **edited))
    assert (state['state'], state['detail']) == (
        'pending',
        '1 record was made with another backbone or recipe; it stays in a separate table',
    )
    printed = ltbench('run', '-m', 'erm', '-m', 'la_loss', '--seeds', '0', **edited)
    assert 'note: 1 record was made with another backbone or recipe; it stays in a separate table' in printed
    before, after = (f'paper, recipe.epochs={epochs}, recipe.optimizer.lr={lr}' for epochs, lr in ((2, 0.1), (1, 0.05)))
    found = rows(sandbox / 'results/digits')
    assert {(setting, method) for setting, method, _, _ in found} == {
        (before, 'erm'), (after, 'erm'), (after, 'la_loss'),
    }  # fmt: skip
    shown = ' '.join(printed.split())  # as the terminal breaks its lines
    assert f'digits_lt, imbalance factor 40 ({after}); accuracy in %' in shown
    assert f'({before})' not in shown and '1 other table of this suite: ' in shown
    assert not (sandbox / 'results/digits/superseded').exists()
    assert 'separate table' not in ltbench('run', '-m', 'erm', '--seeds', '0', **edited)


def test_folders_are_what_they_hold(ltbench, sandbox):
    """Two of one name, and one that is moved and renamed."""
    for seed, name in enumerate(('birds', 'fish')):
        make(sandbox / name / 'images', seed)
    run = ('run', '-m', 'erm', '--seeds', '0')
    ltbench(*run, '-b', FOLDER.format('birds/images'))
    suite = sandbox / 'results/folder_lt'
    (birds,) = (json.loads(path.read_text()) for path in suite.glob('records/*.json'))
    assert birds['setting'] == 'paper, depth=8, image_size=8, test_per_class=4, batch_size=8, epochs=1'
    printed = ltbench(*run, '-b', FOLDER.format('fish/images'))
    assert f'note: 1 record was made with other data ({birds["data"][:6]}); it stays in a separate table' in printed
    assert 'moved to' not in printed
    assert [(method, n, rank) for _, method, n, rank in rows(suite)] == [('erm', '1', '1')] * 2
    assert {setting.rpartition(', ')[2][:5] for setting, *_ in rows(suite)} == {'data '}
    before = rows(suite)
    (sandbox / 'birds/images').rename(sandbox / 'sparrows')
    for root in ('sparrows', './sparrows/', str(sandbox / 'sparrows')):
        assert 'nothing to train' in ltbench(*run, '-b', FOLDER.format(root))
    assert rows(suite) == before
    both = ('-b', FOLDER.format('sparrows'), '-b', FOLDER.format('fish/images'), '-m', 'erm', '--seeds', '0')
    told = ltbench('status', *both)
    assert told.count('folder_lt IF 2 (table ') == 2
