"""What a notebook does with `import ltbench`: run, plot from the data frame, score logits of its own; from a thread."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.figure import Figure

import ltbench
from ltbench.errors import FailedRunsError, InterruptedRunError
from ltbench.store import Store

pytestmark = pytest.mark.slow

QUICK = {'epochs': 1}


def script(folder: Path, text: str) -> Path:
    path = folder / 'script.py'
    path.write_text(textwrap.dedent(text))
    return path


def test_a_notebook_runs_plots_and_scores_its_own_logits(sandbox, capsys):
    frame = ltbench.run(benchmark='digits_lt', methods=['erm', 'nbn', 'la_posthoc'], seeds=range(2), options=QUICK)
    assert sorted(zip(frame['method'], frame['seed'], strict=True)) == [
        (method, seed) for method in ('erm', 'la_posthoc', 'nbn') for seed in (0, 1)
    ]
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == '6 runs, 6 stages to do'
    assert printed.count('top-1') == 6  # progress, a line a run; the leaderboard is the frame's business
    assert 'accuracy in %' not in printed
    assert not list(sandbox.glob('results/*/figures'))

    axes = Figure().subplots()
    means = frame.groupby('method')['few'].mean()
    sns.barplot(frame, x='method', y='few', ax=axes, errorbar=None)
    assert sorted(bar.get_height() for bar in axes.patches) == pytest.approx(sorted(means))

    row = frame[(frame['method'] == 'nbn') & (frame['seed'] == 1)].iloc[0]
    record = json.loads(Path(row['path']).read_text())
    with np.load(Store().find(row['fingerprint']).path('test.npz')) as outputs:
        scores = ltbench.evaluate(outputs['logits'], outputs['labels'], record['class_counts'])
    assert scores == record['metrics']
    assert (scores['top1'], scores['nll']) == (row['top1'], row['nll'])

    pd.testing.assert_frame_equal(ltbench.records('digits_lt'), frame)
    again = ltbench.run(benchmark='digits_lt', methods='nbn', seeds=1, options=QUICK)
    assert 'nothing to train' in capsys.readouterr().out
    pd.testing.assert_frame_equal(again, frame[frame['path'] == row['path']].reset_index(drop=True))
    left_alone = ltbench.run(benchmark='digits_lt', methods='nbn', seeds=1, options=QUICK, skip_recorded=True)
    pd.testing.assert_frame_equal(left_alone, again)


def test_a_thread_runs_and_draws_and_leaves_handlers_and_environment_as_they_were(sandbox, monkeypatch):
    importlib.import_module('torch._dynamo')  # an optimizer does, and it sets a variable of its own
    mpl.use('agg')
    before = signal.getsignal(signal.SIGINT), dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    frames, errors = [], []

    def work(method: str) -> None:
        try:
            frames.append(ltbench.run(benchmark='digits_lt', methods=method, options=QUICK, figures=True))
        except ltbench.LTBenchError as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(method,)) for method in ('erm', 'la_posthoc')
    ]  # one rests on the other
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert sorted(frame['method'].item() for frame in frames) == ['erm', 'la_posthoc']
    assert list(sandbox.glob('results/digits_lt/figures/*.png'))
    assert (signal.getsignal(signal.SIGINT), dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before


def test_a_script_without_a_guard_runs_once(sandbox):
    """multiprocessing has workers run the script that starts them, which would start workers in turn."""
    path = script(
        sandbox,
        """
        import sys
        from pathlib import Path

        with Path('started').open('a') as file:
            file.write('once\\n')
        import ltbench
        from ltbench.method import Method
        from ltbench.registry import METHODS


        @METHODS.register_module(name='mine')
        class Mine(Method):
            '''Half of the adjustment (nobody, 2026).'''

            def apply(self, plan):
                return plan.replace(loss=dict(type='LogitAdjustedLoss', tau=0.5))


        frame = ltbench.run(benchmark='digits_lt', methods=['erm', 'mine'], options={'epochs': 1})
        print(','.join(frame['method']), file=sys.stderr)
        """,
    )
    done = subprocess.run([sys.executable, path], cwd=sandbox, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == 'erm,mine\n'
    assert (sandbox / 'started').read_text() == 'once\n'


def test_a_script_without_a_guard_draws_with_several_processes(sandbox):
    """The processes that draw do not run it either."""
    path = script(
        sandbox,
        """
        print('started')
        import ltbench
        from ltbench.report import figures

        figures.ALONE = 0  # as where there is much to draw
        print(any(path.suffix == '.png' for path in ltbench.report('digits')))
        """,
    )
    results = Path(__file__).parents[2] / 'results' / 'digits'
    (sandbox / 'results' / 'digits').mkdir(parents=True)
    (sandbox / 'results' / 'digits' / 'records').symlink_to(results / 'records')
    done = subprocess.run([sys.executable, path], cwd=sandbox, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (0, 'started\nTrue\n'), done.stderr


def test_a_loss_of_the_script_is_refused_with_what_to_do(sandbox):
    path = script(
        sandbox,
        """
        import ltbench
        from ltbench.method import Method
        from ltbench.models.losses import CrossEntropyLoss
        from ltbench.registry import METHODS, MODELS


        @MODELS.register_module()
        class MyLoss(CrossEntropyLoss):
            '''Mine.'''


        @METHODS.register_module(name='mine')
        class Mine(Method):
            '''Mine (nobody, 2026).'''

            def apply(self, plan):
                return plan.replace(loss=dict(type='MyLoss'))


        try:
            ltbench.run(benchmark='digits_lt', methods='mine', options={'epochs': 1})
        except ltbench.LTBenchError as error:
            print(error)
        """,
    )
    done = subprocess.run([sys.executable, path], cwd=sandbox, capture_output=True, text=True, timeout=120)
    assert done.stdout == (
        'MyLoss is defined in the running script or notebook, which the processes that train do not run: '
        'put it into a separate file, and name that as a plug-in\n'
    ), done.stderr
    assert not (sandbox / 'store').exists()


def test_a_run_that_fails_is_an_error_with_the_others(sandbox):
    Path('nan.py').write_text(
        'import torch\nfrom ltbench.method import Method\nfrom ltbench.models.losses import CrossEntropyLoss\n'
        'from ltbench.registry import METHODS, MODELS\n\n\n'
        '@MODELS.register_module()\nclass NaNOfFaceLoss(CrossEntropyLoss):\n'
        '    def per_sample(self, logits, labels):\n        return super().per_sample(logits, labels) * torch.nan\n\n\n'
        "@METHODS.register_module(name='nan_of_face')\nclass NaN(Method):\n    '''Becomes NaN.'''\n\n"
        "    def apply(self, plan):\n        return plan.replace(loss=dict(type='NaNOfFaceLoss'))\n"
    )
    with pytest.raises(FailedRunsError, match='1 of 2 runs are recorded: .*nan_of_face.*the loss became nan') as raised:
        ltbench.run(benchmark='digits_lt', methods=['nan_of_face', 'erm'], options=QUICK, plugins='nan.py')
    assert list(raised.value.records['method']) == ['erm']


def test_a_probe_that_could_not_be_run_is_named_and_the_run_is_in_the_frame(sandbox):
    Path('ends.py').write_text(
        'import os\nfrom ltbench.method import Method\nfrom ltbench.probes import Probe\n'
        'from ltbench.registry import METHODS, PROBES\n\n\n'
        "@PROBES.register_module(name='ends_of_face')\nclass Ends(Probe):\n"
        '    def measure(self, seen):\n        os._exit(9)\n\n\n'
        "@METHODS.register_module(name='asks_of_face')\nclass Asks(Method):\n    '''Asks.'''\n\n"
        "    probes = ('ends_of_face',)\n\n    def apply(self, plan):\n        return plan\n"
    )
    with pytest.raises(FailedRunsError, match=r'1 of 1 runs are recorded: .*asks_of_face.*: probe failed: ') as raised:
        ltbench.run(benchmark='digits_lt', methods='asks_of_face', options=QUICK, plugins='ends.py')
    assert len(raised.value.records) == 1


def test_ctrl_c_ends_the_workers_and_the_same_call_continues(sandbox):
    """As an interrupted kernel does: the process lives on, and so must nothing that it started."""
    arguments = dict(benchmark='digits_lt', methods='erm', options={'epochs': 100})
    waiting = threading.Event()

    def interrupt() -> None:
        while not list(sandbox.glob('store/work/*/epoch_*.pt')) and not waiting.wait(0.05):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises((InterruptedRunError, KeyboardInterrupt)):
        ltbench.run(**arguments)
    waiting.set()
    thread.join()
    worker = json.loads(next(sandbox.glob('store/work/*/worker.json')).read_text())['content']['pid']
    deadline = time.monotonic() + 10
    while Path(f'/proc/{worker}').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f'/proc/{worker}').exists()
    saved = max(int(path.stem.partition('_')[2]) for path in sandbox.glob('store/work/*/epoch_*.pt'))
    assert saved > 0
    frame = ltbench.run(**arguments)
    assert frame['method'].item() == 'erm'
    log = json.loads(Path(frame['path'].item()).read_text())
    assert len(log['curve']) == 100
