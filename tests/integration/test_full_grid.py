"""The mission's grid, `ltbench run full`, on tiny trees of all four benchmarks; and what of it is shown without any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_trees import MAKERS

from ltbench.benchmark import load_benchmark
from ltbench.suite import load_suite

HOME = Path(__file__).parents[2]
SMALL = {
    'cifar_recipe.py': {"depth=32": 'depth=8', 'epochs=200': 'epochs=2', 'batch_size=128': 'batch_size=64'},
    'standard_methods.py': {
        "'crt'": "'crt(epochs=1)'", "'lws'": "'lws(epochs=1)'",
        "'resample_repeat_factor'": "'resample_repeat_factor(threshold=1.0)'",  # no class is rarer than a thousandth
    },
    'large_recipe.py': {
        "name='resnet50'": "name='resnet10', width=0.125",
        'epochs=90': 'epochs=2', 'batch_size=512': 'batch_size=8', 'lr=0.2': 'lr=0.02',
        'random_resized_crop=224': 'random_resized_crop=32', 'resize=256': 'resize=36',
        'center_crop=224': 'center_crop=32',
    },
}  # fmt: skip
ANY_FILES = """
from ltbench.data import cifar
from ltbench.registry import DATASETS

for kind in (cifar.CIFAR10LT, cifar.CIFAR100LT):
    kind._nearest = classmethod(lambda cls: (cls.pickles, []))

@DATASETS.register_module()
class AnyFiles(cifar.CIFAR10LT):  # a plug-in registers something
    pass
"""
RUN = ('run', 'full', '--seeds', '0', '--plugin', 'any_files.py')


@pytest.fixture
def small_configs(sandbox) -> Path:
    """Our configs with small networks and few epochs; data of one's own in the official layouts."""
    configs = sandbox / 'configs'
    shutil.copytree(HOME / 'configs', configs)
    for name, changes in SMALL.items():
        text = (configs / '_base_' / name).read_text()
        for old, new in changes.items():
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (configs / '_base_' / name).write_text(text)
    for name in load_suite('full').benchmarks:
        data = load_benchmark(name).data
        MAKERS[data['type']](sandbox / 'data' / name, data, np.random.default_rng(0))
        path = configs / 'benchmarks' / f'{name}.py'
        factor = 4 if name == 'cifar10_lt' else 2
        text = path.read_text().replace('verify=True', 'verify=False')
        path.write_text(text.replace('imbalance_factor=100', f'imbalance_factor={factor}'))
    (sandbox / 'any_files.py').write_text(ANY_FILES)
    return configs


@pytest.mark.slow
def test_every_cell_is_recorded_and_one_without_data_is_told(ltbench, sandbox, small_configs):
    configs = {'LTBENCH_CONFIGS': str(small_configs)}
    ltbench(*RUN, **configs)
    methods = len(load_suite('full').methods)
    runs = pd.read_csv(sandbox / 'results/full/runs.csv')
    assert runs.groupby('benchmark')['method'].nunique().to_dict() == dict.fromkeys(
        load_suite('full').benchmarks, methods
    )
    board = pd.read_csv(sandbox / 'results/full/leaderboard.csv')
    assert board[['top1_mean', 'nll_mean']].notna().all(axis=None)
    readme = (sandbox / 'results/full/README.md').read_text()
    assert f'- inat2018 (paper): {methods} of {3 * methods} runs.' in readme

    (sandbox / 'data/imagenet_lt').rename(sandbox / 'data/elsewhere')
    shutil.rmtree(sandbox / 'results')
    said = ltbench(*RUN, code=3, **configs)
    assert 'data get imagenet_lt' in said
    assert not (sandbox / 'results').exists()
    said = ltbench(*RUN, '--skip-missing', **configs)
    assert said.count('imagenet_lt is left out') == 1
    assert '- imagenet_lt (paper): not run.' in (sandbox / 'results/full/README.md').read_text()
    assert '- imagenet_lt (paper): not run.' in (sandbox / 'results/full/leaderboard.md').read_text()
    assert len(pd.read_csv(sandbox / 'results/full/runs.csv')) == 3 * methods


def test_what_the_grid_takes_is_known_without_any_data(main, sandbox, capsys):
    assert main('run', 'full', '--dry-run') == 0
    shown = capsys.readouterr().out
    assert '216 runs' in shown
    assert 'cannot be estimated in hours: no recorded run' in shown
    assert 'GFLOP/s' not in shown
    table = {line.split()[0]: line.split()[-6:] for line in shown.splitlines() if '(paper)' in line}
    # ERM's 90 epochs of 115,846 images, and of ResNet-50 4.1 GFLOP of multiply-adds, three times forward: 0.26 exaFLOP
    runs, networks, epochs, images, operations, _ = (float(cell.replace(',', '')) for cell in table['imagenet_lt'])
    assert (runs, networks) == (54, 42)
    of_training = images * 1e6 * 3 * 2 * 4.09e9 / 1e18
    assert operations == pytest.approx(of_training, rel=0.03)
    assert images == pytest.approx(epochs * 0.115846, rel=0.05)
    assert main('status', 'full', '--json') == 0
    assert {row['state'] for row in json.loads(capsys.readouterr().out)} == {'pending'}
    assert main('run', 'cifar10_lt', '--dry-run') == 0  # in bfloat16
    assert 'exaFLOP' in capsys.readouterr().out
    assert not (sandbox / 'store').exists()
