"""The command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

QUICK = ('-o', 'epochs=3')
FASHION_MNIST = Path('/usr/share/datasets/fashion-mnist')
NO_NETWORK = {f'{scheme}_proxy': 'http://127.0.0.1:9' for scheme in ('http', 'https')}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['run', 'digitz'], "unknown suite 'digitz': did you mean digits?"),
        (['run', '-b', 'digit_lt'], "unknown benchmark 'digit_lt': did you mean digits_lt"),
        (['run', '-m', 'la_los'], "unknown method 'la_los': did you mean la_loss"),
        (['run', '-m', 'nbn(normalise=weight)'], "unknown option of method nbn 'normalise': did you mean normalize?"),
        (['run', '-m', 'la_loss(tau=-1)'], 'option tau of la_loss lies between 0 and 10, got -1'),
        (['run', '-m', 'la_loss+ldam'], 'la_loss and ldam cannot be combined: both set the loss'),
        (['run', '-m', 'crt+lws'], 'crt and lws cannot be combined: both set the head stage'),
        (['run', '-o', 'epoch=3'], "unknown option of digits_lt 'epoch': did you mean epochs"),
        (
            ['run', '-o', 'precision=fp16'],
            "unknown precision of digits_lt 'fp16': did you mean bf16 or amp_fp16 or fp32?",
        ),
        (['run', '-o', 'depth=9'], 'depth of CIFARResNet is 6n + 2'),
        (['run', '-o', 'optimizer.lr=-1'], 'recipe.optimizer.lr of digits_lt is a number, 0 or larger, got -1'),
        (['run', '-o', 'optimizer.type=Adem'], "unknown optimizer 'Adem': did you mean Adam"),
        (['run', '-o', 'lr=1e999'], "recipe.optimizer.lr of digits_lt is a number, 0 or larger, got '1e999'"),
        (['run', '-m', 'nbn(scope=all,scope=last_stage)'], 'sets an option twice'),
        (['run', '-m', 'erm+'], 'a name is missing'),
        (['run', '-o', 'epochs=0'], 'recipe.epochs of digits_lt is a whole number, 1 or larger, got 0'),
        (['run', '-o', 'nbn.scope=all', '-m', 'erm'], 'nbn is not among the methods to run (erm)'),
        (['run', '--seeds', 'one'], "cannot read seeds 'one'"),
        (['run', '--executor', 'slrum'], "unknown executor 'slrum'"),
        (['run', '--preset', 'quick'], "unknown preset of digits_lt 'quick': known: paper"),
        (['run', '--track', 'tensorbord'], "unknown tracker 'tensorbord': did you mean tensorboard?"),
        (['eval'], 'nothing to evaluate: give a recorded RUN'),
        (['eval', 'nothing'], 'there are no records in'),
        (['compare', 'one', 'another'], 'there are no records in'),
        (['report', 'nothing'], 'no records in'),
        (['ls', 'method'], 'did you mean methods?'),
        (['new', 'erm'], 'a method erm exists already'),
    ],
)
def test_a_wrong_word_is_one_line_with_near_misses_and_writes_nothing(capsys, sandbox, monkeypatch, arguments, message):
    from ltbench.cli import main

    monkeypatch.setattr(sys, 'argv', ['ltbench', *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert list(sandbox.iterdir()) == []


def test_run_records_and_finds_everything_again(ltbench, sandbox):
    methods = ['erm', 'la_posthoc', 'crt', 'lws', 'ldam_drw', 'nbn+la_loss']
    arguments = ['run', '--seeds', '0,1', *QUICK, *(word for method in methods for word in ('-m', method))]

    plan = ltbench(*arguments, '--dry-run')
    # erm, ldam until the cut and from there on, nbn+la_loss are trained: 3 + 2 + 1 + 3 epochs a seed, not 6 times 3
    assert '18 epochs to train; 18 epochs in all against 36 if each run were trained alone' in plan
    assert not (sandbox / 'store').exists()

    first = ltbench(*arguments, '--eval-every', '2', figures=True)
    assert '12 runs, 16 stages to do' in first
    records = {path: path.read_bytes() for path in sandbox.glob('results/digits/records/*.json')}
    assert len(records) == 12
    by_method = {(r['method'], r['run_seed']): r for r in map(json.loads, records.values())}
    for method in ('la_posthoc', 'crt', 'lws'):  # they rest on the ERM stage of their seed
        for seed in (0, 1):
            assert by_method[method, seed]['stages'][0]['fingerprint'] == by_method['erm', seed]['fingerprint']
    assert by_method['erm', 0]['class_counts'] == [120, 79, 52, 35, 23, 15, 10, 6, 4, 3]
    assert by_method['erm', 0]['setting'] == 'paper, epochs=3'
    assert ['test_top1' in epoch for epoch in by_method['erm', 0]['curve']] == [False, True, False]
    for name in ('leaderboard.csv', 'leaderboard.md', 'figures'):
        assert (sandbox / 'results/digits' / name).exists()

    again = ltbench(*arguments, '--eval-every', '1')
    assert '8 train stages are already in the store, so they get no new test curve.' in again
    assert 'Everything is found: 12 runs, nothing to train' in again
    assert {path: path.read_bytes() for path in records} == records
    assert '12 done' in ltbench('status', *arguments[1:])


@pytest.mark.slow
def test_a_broken_plugin_and_a_nan_fail_alone(ltbench, sandbox):
    (sandbox / 'nan.py').write_text(
        'import torch\n'
        'from ltbench.method import Method\nfrom ltbench.models.losses import CrossEntropyLoss\n'
        'from ltbench.registry import METHODS, MODELS\n\n'
        '@MODELS.register_module()\nclass NaNLoss(CrossEntropyLoss):\n'
        '    def per_sample(self, logits, labels):\n        return super().per_sample(logits, labels) * torch.nan\n\n'
        "@METHODS.register_module(name='nan')\nclass NaN(Method):\n    '''Becomes NaN.'''\n"
        "    def apply(self, plan):\n        return plan.replace(loss=dict(type='NaNLoss'))\n"
        "@METHODS.register_module(name='raises')\nclass Raises(Method):\n    '''Raises.'''\n"
        "    def apply(self, plan):\n        raise RuntimeError('not today')\n"
    )
    (sandbox / 'broken.py').write_text('import nothing_of_that_name\n')
    plugins = ('--plugin', 'nan.py')
    methods = ('-m', 'nan', '-m', 'erm', '-m', 'nan+crt', '-m', 'raises')
    printed = ltbench('run', '--seeds', '0', *QUICK, *plugins, *methods, code=1, LTBENCH_PLUGINS='broken.py')
    assert 'not loaded' in printed
    assert "No module named 'nothing_of_that_name'" in printed
    assert 'digits_lt IF 40 / erm / seed 0  top-1' in printed
    assert '2 of 3 runs failed' in printed
    assert 'the loss became nan in epoch 0' in printed
    assert 'no plan could be made for raises: RuntimeError while planning on digits_lt: not today' in printed
    leaderboard = sandbox / 'results/digits/leaderboard.md'
    assert '- nan, seed 0, stage train: the loss became nan' in leaderboard.read_text()
    leaderboard.write_text('')
    ltbench('run', '--seeds', '0', *QUICK, *plugins, '-m', 'nan', code=1)  # nothing new but the failure
    assert '- nan, seed 0, stage train: the loss became nan' in leaderboard.read_text()
    status = ltbench('status', '--seeds', '0', *QUICK, *plugins, '-m', 'nan+crt')
    assert 'the loss became nan in epoch 0' in status
    assert 'nan' in ltbench('ls', 'methods', '--plugin', 'nan.py')


def test_new_method_trains_and_is_listed_with_nothing_else_edited(ltbench, sandbox, monkeypatch):
    """`ltbench new` in a copy of the checkout, as in a clone."""
    import shutil
    from pathlib import Path

    home = Path(__file__).parents[2]
    for part in ('ltbench', 'methods', 'configs', 'pyproject.toml'):
        copy = shutil.copytree if (home / part).is_dir() else shutil.copy
        copy(home / part, sandbox / part)
    (sandbox / 'tests' / 'methods').mkdir(parents=True)
    (sandbox / 'results').mkdir()
    shutil.copy(home / 'results' / 'published.csv', sandbox / 'results')
    monkeypatch.setenv('PYTHONPATH', str(sandbox))
    printed = ltbench('new', 'my_method')
    assert str(sandbox / 'methods' / 'my_method.py') in printed
    assert 'my_method' in ltbench('ls', 'methods')
    assert 'digits_lt IF 40 / my_method / seed 0  top-1' in ltbench('run', '-m', 'my_method', '--seeds', '0', *QUICK)
    test = sandbox / 'tests' / 'methods' / 'test_my_method.py'
    conftest = home / 'tests' / 'conftest.py'
    shutil.copy(conftest, sandbox / 'tests' / 'conftest.py')
    subprocess.run([sys.executable, '-m', 'pytest', '-q', '-n', '0', str(test)], check=True, cwd=sandbox)


def test_help_is_quick_and_imports_nothing_heavy():
    start = time.perf_counter()
    code = "import sys; sys.argv = ['ltbench', '--help']\ntry:\n    import ltbench.cli; ltbench.cli.main()\n"
    code += "except SystemExit:\n    pass\nassert not {'torch', 'pandas', 'mmengine', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
    assert time.perf_counter() - start < 2  # 0.2 s on an idle machine


@pytest.mark.parametrize(
    ('arguments', 'code', 'messages'),
    [
        (
            ['get', 'places_lt'],
            3,
            [
                'What to put into {data}/places_lt:',
                'Places_LT_test.txt      36,500 lines',
                'ltbench: Places-LT is not complete in {data}/places_lt: put the files listed above there',
            ],
        ),
        (
            ['get', 'cifar100_lt'],
            3,
            [
                'ltbench: cifar-100-python.tar.gz could not be downloaded: https://www.cs.toronto.edu',
                'cannot be reached',
                '{data}/cifar-100-python.tar.gz (169001437 bytes, md5 eb9058c3a382ffc7106e4002c42a8d85)',
            ],
        ),
        (['check', 'cifar100_lt'], 1, ['missing  train']),
        (['check', 'inat2018(root=/somewhere)'], 2, ['ln -s /somewhere {data}/inat2018']),
        (['get', 'digits_lt'], 0, ['digits_lt: nothing to download']),
        (['get', 'plankton_lt'], 1, ['missing  plankton/all', '`ltbench show plankton_lt` says what belongs there']),
        (['ls'], 0, ['nothing to download', 'missing']),
    ],
)
def test_data_that_are_not_there(capsys, sandbox, monkeypatch, arguments, code, messages):
    from ltbench.cli import main

    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, 'argv', ['ltbench', 'data', *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == code
    for message in messages:
        assert message.format(data=sandbox / 'data') in printed.out + printed.err
    assert len(printed.err.splitlines()) == (1 if code > 1 else 0)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason='the Debian package dataset-fashion-mnist is not installed')
def test_get_downloads_fashion_mnist_in_place_of_damaged_files(ltbench, sandbox, file_server):
    file_server.files = {path.name: path.read_bytes() for path in FASHION_MNIST.glob('*.gz')}
    file_server.cuts = [10_000_000]  # the training images; damaged files keep Debian's own from being found
    raw = sandbox / 'data' / 'FashionMNIST' / 'raw'
    raw.mkdir(parents=True)
    for name in file_server.files:
        (raw / name.removesuffix('.gz')).write_bytes(b'damaged')
    printed = ltbench('data', 'get', 'fashion_mnist_lt', LTBENCH_MIRROR=file_server.url, **NO_NETWORK)
    assert 'the connection ended after 10.0 MB of 26.4 MB; trying again in 1 s' in printed
    assert printed.count('whole    ') == 4
    assert sorted(path.name for path in raw.iterdir()) == sorted(name.removesuffix('.gz') for name in file_server.files)
    assert (file_server.asked[0][0], file_server.asked[1]) == (
        'train-images-idx3-ubyte.gz',
        ('train-images-idx3-ubyte.gz', 'bytes=10000000-'),
    )
