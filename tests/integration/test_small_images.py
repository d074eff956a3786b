"""CIFAR-10-LT from the official pickles and a folder of JPEGs, through the command line."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

JPEGS = os.environ.get('CIFAR10_JPEG', '')

# what the made files hash to takes the place of what the published ones do
PLUGIN = """
import json
from dataclasses import replace
from pathlib import Path
from ltbench.data.cifar import CIFAR10LT
from ltbench.registry import DATASETS

md5 = json.loads((Path(__file__).parent / 'md5.json').read_text())
CIFAR10LT.pickles = replace(
    CIFAR10LT.pickles,
    train={name: value for name, value in md5.items() if name.startswith('data')},
    test={'test_batch': md5['test_batch']},
    meta={'batches.meta': md5['batches.meta']},
)

@DATASETS.register_module()
class MadeHere(CIFAR10LT):  # a plug-in registers something
    pass
"""


@pytest.fixture
def cifar10(sandbox):
    """Sixty thousand images that a network can tell apart: a grey level and a stripe of their own for each class."""
    folder = sandbox / 'data' / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    md5 = {}
    for name in [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']:
        labels = random.permutation(np.repeat(np.arange(10), 1000))
        images = random.integers(0, 120, (10_000, 3, 32, 32), dtype=np.uint8)
        images += (10 * labels).astype(np.uint8)[:, None, None, None]
        for label in range(10):
            images[labels == label, :, 3 * label : 3 * label + 3] |= 128
        content = {'data': images.reshape(10_000, -1), 'labels': labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    names = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': names}))
    md5['batches.meta'] = hashlib.md5((folder / 'batches.meta').read_bytes()).hexdigest()
    (sandbox / 'md5.json').write_text(json.dumps(md5))
    (sandbox / 'made_here.py').write_text(PLUGIN)
    return folder


def the_record(sandbox: Path) -> dict:
    (path,) = sandbox.glob('results/*/records/*.json')
    return json.loads(path.read_text())


@pytest.mark.slow
def test_cifar10_lt_from_the_official_pickles(cifar10, sandbox, ltbench):
    run = ['run', '-b', 'cifar10_lt', '-o', 'depth=8', '-o', 'epochs=1', '--plugin', 'made_here.py']
    printed = ltbench(*run)
    assert 'cifar10_lt IF 100 / erm / seed 0  top-1' in printed
    record = the_record(sandbox)
    assert record['class_counts'] == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert sum(record['class_counts']) == 12_406
    assert record['groups'] == {'many': 8, 'medium': 2, 'few': 0}
    assert record['metrics']['few'] is None
    assert record['metrics']['top1'] > 30  # 10 for a network that has learnt the prior alone
    assert record['class_names'][0] == 'airplane'

    caches = {path.name: path.stat().st_mtime_ns for path in (cifar10 / '.ltbench-cache').glob('*.npy')}
    assert len(caches) == 2
    assert 'Everything is found' in ltbench(*run)
    assert {path.name: path.stat().st_mtime_ns for path in (cifar10 / '.ltbench-cache').glob('*.npy')} == caches

    batch = cifar10 / 'data_batch_2'
    content = pickle.loads(batch.read_bytes())
    content['data'][content['labels'].index(0), 0] ^= 1  # all images of class 0 are in the long tail's head
    batch.write_bytes(pickle.dumps(content))
    assert f'{batch.relative_to(sandbox)} is damaged' in ltbench(*run, code=3).replace(str(sandbox) + '/', '')
    md5 = json.loads((sandbox / 'md5.json').read_text())
    md5['data_batch_2'] = hashlib.md5(batch.read_bytes()).hexdigest()
    (sandbox / 'md5.json').write_text(json.dumps(md5))
    assert '1 runs, 1 stages to do' in ltbench(*run)  # other data are another computation
    after = {path.name for path in (cifar10 / '.ltbench-cache').glob('*.npy')}
    assert len(after) == 2
    assert len(after & caches.keys()) == 1  # the test part is as it was
    assert not (sandbox / 'results/cifar10_lt_runs/superseded').exists()  # other data have a table of their own
    assert len(list((sandbox / 'results/cifar10_lt_runs/records').glob('*.json'))) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    not JPEGS, reason='CIFAR10_JPEG does not name the folder of CIFAR-10 as JPEG: train|test/CLASS/*.jpg'
)
def test_folder_lt_on_cifar10_as_jpeg(sandbox, ltbench):
    ltbench('run', '-b', f'folder_lt(root={JPEGS})', '-o', 'depth=8', '-o', 'epochs=2')
    record = the_record(sandbox)
    assert sum(record['class_counts']) == 12_406
    assert record['groups'] == {'many': 8, 'medium': 2, 'few': 0}
    first, second = record['curve']
    assert math.log(10) > first['loss'] > second['loss']
