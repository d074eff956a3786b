"""Checkpoints that are damaged, odd or hostile: each is scored properly or refused in one line; none is a traceback.

The fast form tries 60 files of a fixed seed. The long form tries as many as you say (900 take a minute) and prints
how many were scored and refused; `ODD_CHECKPOINTS_SEED=1` chooses others:

    ODD_CHECKPOINTS=900 python -m pytest -n 0 tests/verbs/test_odd_checkpoints.py
"""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import random
import resource
import sys
import tarfile
import traceback
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from ltbench.benchmark import load_benchmark
from ltbench.errors import LTBenchError
from ltbench.models.resnet_cifar import CIFARResNet
from ltbench.record import read_records
from ltbench.verbs.imported import SOURCES, score_checkpoint

COUNT = int(os.environ.get('ODD_CHECKPOINTS', '60'))
SEED = int(os.environ.get('ODD_CHECKPOINTS_SEED', '0'))
MEMORY = 40 << 30  # of addresses, beyond what the process has: a file that asks for more must not get it
ODD_NAMES = [
    '',
    'a\nb',
    '\ud800',
    'x' * 9999,
    '../../etc',
    '[red]x[/red]',
    'имя',
    '\x1b[2J',
    'module.',
    'state_dict',
    '=1+1',
]
ODD_VALUES = [None, 7, -1.5, 'text', b'bytes', [1, 2], (), {}, {'a': 1}, True, 10**30, {1, 2}, 1j, float('nan')]


# ---------------------------------------------------------------------------------------------- what a file holds


def plain_content():
    """A trained digits network in the form of LDAM-DRW, linear."""
    torch.manual_seed(0)
    network = CIFARResNet(8, 1)
    state = OrderedDict(network.state_dict())
    state['linear.weight'], state['linear.bias'] = torch.randn(10, 64), torch.randn(10)
    return {'epoch': 3, 'state_dict': state, 'best_acc1': torch.tensor(9.0), 'optimizer': {'state': {}}}


def sparse(value):
    return value.reshape(len(value) if value.dim() else 1, -1).to_sparse()


def quantised(value):
    return torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)


def filled(number, dtype=torch.float32):
    return lambda value: torch.full(value.shape, number, dtype=dtype)


def spoilt(number):
    def spoil(value):
        value = value.float().clone()
        value.reshape(-1)[:1] = number
        return value

    return spoil


TENSORS = {
    'nan': spoilt(torch.nan),
    'inf': spoilt(torch.inf),
    'huge': spoilt(1e38),
    'all huge': filled(3e38),
    'all large': filled(1e20),
    'tiny': filled(1e-45),
    'zero': filled(0.0),
    'negative': lambda value: -value.float().abs() - 1,
    'float64 beyond float32': filled(1e300, torch.float64),
    'float64': lambda value: value.double(),
    'float16': lambda value: value.half(),
    'bfloat16': lambda value: value.bfloat16(),
    'float8': lambda value: value.float().to(torch.float8_e4m3fn),
    'int64': lambda value: value.long(),
    'int8': lambda value: value.to(torch.int8),
    'uint16': lambda value: value.abs().to(torch.uint16),
    'bool': lambda value: value > 0,
    'complex': lambda value: value.float().to(torch.complex64),
    'sparse': sparse,
    'sparse csr': lambda value: sparse(value).to_sparse_csr(),
    'quantised': quantised,
    'meta': lambda value: value.to('meta'),
    'nested': lambda value: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    'empty': lambda value: value[:0] if value.dim() else value.reshape(1)[:0],
    'no axis': lambda value: torch.tensor(1.0),
    'one axis more': lambda value: value[None],
    'flat': lambda value: value.reshape(-1),
    'turned': lambda value: value.permute(tuple(reversed(range(value.dim())))),
    'longer': lambda value: torch.cat([value.reshape(-1), value.reshape(-1)]),
    'view': lambda value: torch.cat([value.reshape(-1), torch.zeros(7)])[: value.numel()].view(value.shape),
    'expanded': lambda value: torch.zeros(1).expand(value.shape or (1,)),
    'expanded beyond memory': lambda value: torch.zeros(1).expand(10**7, 10**7),
    'parameter': lambda value: torch.nn.Parameter(value.float()),
    'storage': lambda value: value.untyped_storage(),
    'list': lambda value: value.tolist(),
    'array': lambda value: value.numpy(),
}


def change_tensor(random_, content):
    state = content['state_dict']
    name, kind = random_.choice(list(state)), random_.choice(list(TENSORS))
    state[name] = TENSORS[kind](state[name])
    return f'{name} {kind}'


def change_value(random_, content):
    where = random_.choice([content, content['state_dict']])
    name, value = random_.choice(list(where)), random_.choice(ODD_VALUES)
    where[name] = value
    return f'{name} = {value!r}'


def change_keys(random_, content):
    state = content['state_dict']
    name, odd = random_.choice(list(state)), random_.choice([*ODD_NAMES, 5, None, (1, 2), 1.5, b'x'])
    how = random_.choice(
        ['delete', 'rename', 'add', 'add above', 'module', 'mixed', 'wrap', 'container', 'alone', 'cycle']
    )
    if how == 'delete':
        del state[name]
    elif how == 'rename':
        state[odd] = state.pop(name)
    elif how == 'add':
        state[odd] = torch.zeros(2)
    elif how == 'add above':
        content[odd] = random_.choice([1, {}, torch.zeros(2)])
    elif how == 'module':
        content['state_dict'] = {f'module.{key}': value for key, value in state.items()}
    elif how == 'mixed':
        state[f'module.{name}'] = state[name]
    elif how == 'wrap':
        content['state_dict'] = {'state_dict': state}
    elif how == 'container':
        content[random_.choice(['model', 'net', 'weights', 'ema'])] = content.pop('state_dict')
    elif how == 'alone':
        for key in list(content):
            del content[key]
        content.update(state)
    else:
        state['self'] = content
    return f'{how} {name} {odd!r:.20}'


def change_arch(random_, content):
    content['arch'] = random_.choice([*ODD_NAMES, *ODD_VALUES, 'resnet32', 'resnet50', 'resnet20', 'resnet50_ride_NBN'])
    return f'arch = {content["arch"]!r:.20}'


def change_nothing(random_, content):
    return 'as it was'


CONTENTS = [change_tensor] * 6 + [change_value] * 2 + [change_keys] * 4 + [change_arch, change_nothing]


# ---------------------------------------------------------------------------------------------- how it is written


class Code:
    def __reduce__(self):
        return Path.touch, (Path('executed'),)


def other_files(random_, content):
    """Files that are no checkpoints at all, or hold something else than a dict of tensors."""
    plain = {'state_dict': {'conv1.weight': [[0.1]]}, 'epoch': 3}
    kinds = {
        'nothing': b'',
        'bytes': random_.randbytes(5000),
        'text': b'<html>Sign in</html>',
        'json': json.dumps(plain).encode(),
        'zip without a pickle': zipped({'readme.txt': b'hello'}),
        'zip of a pickle': zipped({'archive/data.pkl': pickle.dumps(plain), 'archive/version': b'3'}),
        'tar': tarred({'pickle': b'x', 'storages': b'', 'tensors': b''}),
        'code': saved(content | {'optimizer': Code()}),
        'code in an old file': saved(content | {'optimizer': Code()}, legacy=True),
        'code in a pickle': pickle.dumps(Code()),
        'bytearray of a terabyte': b'\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.',
        'a tensor of a terabyte': b'\x80\x02ctorch\nTensor\nJ\x00\x00\x00\x40J\x00\x01\x00\x00\x86R.',
        'a module': saved(torch.nn.Linear(2, 2)),
        'a tensor': saved(torch.zeros(3)),
        'a list': saved([content]),
        'counter': saved(Counter(a=1)),
        'defaultdict': saved(collections.defaultdict(list, content)),
        'numpy': npz(),
        'deep': b'\x80\x02' + b']' * 3000 + b'a' * 2999 + b'.',
        **{f'pickle {protocol}': pickle.dumps(plain, protocol) for protocol in range(6)},
    }
    kind = random_.choice(list(kinds))
    return kind, kinds[kind]


def saved(content, legacy=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(files, how=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', how) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return buffer.getvalue()


def tarred(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.zeros(3))
    return buffer.getvalue()


def damaged(random_, whole):
    """A few bytes that are others, fewer or more."""
    spot, length = random_.randrange(len(whole)), random_.choice([1, 2, 16, 500])
    how = random_.choice(['flip', 'flip', 'flip', 'cut', 'blank', 'insert', 'remove', 'append', 'twice'])
    changed = bytearray(whole)
    if how == 'flip':
        for _ in range(random_.choice([1, 1, 4])):
            changed[random_.randrange(len(whole))] ^= 1 << random_.randrange(8)
    elif how == 'cut':
        del changed[spot:]
    elif how == 'blank':
        changed[spot : spot + length] = bytes(len(changed[spot : spot + length]))
    elif how == 'insert':
        changed[spot:spot] = random_.randbytes(length)
    elif how == 'remove':
        del changed[spot : spot + length]
    elif how == 'append':
        changed += random_.randbytes(length)
    else:
        changed += whole
    return how, bytes(changed)


def rezipped(random_, whole):
    """One entry of the archive changed, under checksums that fit again; or all of them compressed."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = random_.choice([*files, *[name for name in files if name.endswith('.pkl')] * len(files)])
    how = random_.choice(['damage', 'damage', 'damage', 'drop', 'empty', 'compress'])
    if how == 'damage' and files[name]:
        how, files[name] = damaged(random_, files[name])
    elif how == 'drop':
        del files[name]
    elif how == 'empty':
        files[name] = b''
    return f'{how} in {name}', zipped(files, zipfile.ZIP_DEFLATED if how == 'compress' else zipfile.ZIP_STORED)


def odd_file(random_):
    """What was done, the bytes, the source, and whether it can only be the undisturbed network if it is scored."""
    content, form = plain_content(), random_.choice(['content'] * 5 + ['damage'] * 3 + ['rezip'] * 2 + ['old', 'other'])
    source = random_.choice([*SOURCES, *['ldam-drw'] * 9])
    if form == 'content':
        done = random_.choice(CONTENTS)(random_, content)
        try:
            return done, saved(content, legacy=random_.random() < 0.2), source, False
        except (TypeError, RuntimeError, NotImplementedError, UnicodeEncodeError):  # torch cannot save it
            return 'not saved', b'', source, False
    if form == 'other':
        return *other_files(random_, content), source, False
    whole = saved(content, legacy=form == 'old')
    done, changed = (rezipped if form == 'rezip' else damaged)(random_, whole)
    return f'{form}: {done}', changed, source, form == 'damage'


# ---------------------------------------------------------------------------------------------- the test


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    monkeypatch.setenv('LTBENCH_RESULTS', str(tmp_path / 'results'))
    monkeypatch.chdir(tmp_path)
    small = {'depth': 8, 'n_max': 30, 'imbalance_factor': 10, 'test_per_class': 10}
    return load_benchmark('digits_lt', overrides=small)


@pytest.fixture
def bounded_memory():
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(path, source, benchmark):
    """The metrics, or in how many words it was refused; anything else is raised."""
    try:
        list(score_checkpoint(path, source, benchmark, path.stem))
    except LTBenchError as error:
        assert len(str(error).splitlines()) == 1, repr(str(error))
        assert str(error).isprintable(), repr(str(error))
        assert len(str(error)) < 2500, str(error)
        return str(error)
    ((record,), wrong) = (read_records(path.stem)[0].values(), read_records(path.stem)[1])
    assert not wrong
    return record['metrics']


@pytest.mark.filterwarnings('ignore')  # torch's, on what it thinks of odd tensors
def test_odd_checkpoints_are_scored_or_refused(tmp_path, benchmark, bounded_memory, capsys):
    (tmp_path / 'whole.pth').write_bytes(saved(plain_content()))
    undisturbed = outcome(tmp_path / 'whole.pth', 'ldam-drw', benchmark)
    counts, trouble = Counter(), []
    for number in range(COUNT):
        random_ = random.Random(f'{SEED} {number}')
        done, contents, source, alike = odd_file(random_)
        path = tmp_path / f'odd{number}.pth'
        path.write_bytes(contents)
        try:
            found = outcome(path, source, benchmark)
        except Exception:  # noqa: BLE001 - each of them is what this test looks for
            trouble.append(f'{number}: {done} ({source})\n{traceback.format_exc()}')
            continue
        finally:
            path.unlink()
        counts['refused' if isinstance(found, str) else 'scored'] += 1
        if alike and not isinstance(found, str) and found != undisturbed:
            trouble.append(f'{number}: {done} ({source}): scored, but as another network')
    with capsys.disabled():
        sys.stdout.write(f'\n{COUNT} odd checkpoints: {dict(counts)}, {len(trouble)} in trouble\n')
    assert not trouble, '\n'.join(trouble)
    assert not (tmp_path / 'executed').exists()
    assert counts['scored'] >= COUNT / 20
    assert counts['refused'] >= COUNT / 3
