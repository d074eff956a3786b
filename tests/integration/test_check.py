"""`ltbench check` as the author of a method meets it: one root cause, with the line it comes from; no false pass."""

from __future__ import annotations

import ast
import types
from collections import Counter
from pathlib import Path

import pytest

from ltbench import plugins
from ltbench.registry import DATASETS, METHODS, MODELS, SAMPLERS
from ltbench.verbs import check as checking
from ltbench.verbs import contract
from ltbench.verbs.contract import CHECKS
from ltbench.verbs.new import METHOD

HEAD = '''"""Of a test."""

import torch
from torch.nn import functional

from ltbench.method import Method, Option
from ltbench.models.losses import Loss
from ltbench.models.posthoc import PostHoc
from ltbench.registry import METHODS, MODELS


'''
WRONG_SHAPE = '''@MODELS.register_module()
class WrongShapeLoss(Loss):
    """Gives one number too many a batch."""

    def per_sample(self, logits, labels):
        return functional.cross_entropy(logits, labels, reduction='none')[1:]


@METHODS.register_module(name='wrong_shape')
class WrongShape(Method):
    """A loss of another shape (nobody, 2026)."""

    def apply(self, plan):
        return plan.replace(loss=dict(type='WrongShapeLoss'))
'''
NO_PLAN = '''@METHODS.register_module(name='no_plan')
class NoPlan(Method):
    """It has no plan (nobody, 2026)."""

    def apply(self, plan):
        return plan.replace(loss=self._loss({}))

    def _loss(self, table):
        return table['loss']  # HERE
'''
LEAVES = '''@METHODS.register_module(name='leaves')
class Leaves(Method):
    """It leaves (nobody, 2026)."""

    def apply(self, plan):
        raise SystemExit(0)  # HERE
'''
LATE = '''@MODELS.register_module()
class LateError(PostHoc):
    """Fails after training."""

    def logits(self, outputs):
        raise RuntimeError('first line\\nsecond line')  # HERE


@METHODS.register_module(name='late')
class Late(Method):
    """It fails after training (nobody, 2026)."""

    def apply(self, plan):
        return plan.posthoc(on='logits', type='LateError')
'''
IDLE = '''@METHODS.register_module(name='idle')
class Idle(Method):
    """It has an option that does nothing (nobody, 2026)."""

    unused = Option(1.0, between=(0, 2), help='does nothing')

    def apply(self, plan):
        return plan
'''


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Load a plug-in for one test."""
    monkeypatch.chdir(tmp_path)
    before = {registry: dict(registry.module_dict) for registry in (METHODS, MODELS, SAMPLERS, DATASETS)}

    def load(name: str, text: str) -> Path:
        path = tmp_path / f'{name}.py'
        path.write_text(text if text.startswith('"""') else HEAD + text)
        assert str(path) not in plugins.load([path])
        return path

    yield load
    for registry, parts in before.items():
        registry.module_dict.clear()
        registry.module_dict.update(parts)


def line_of(path: Path, text: str = '# HERE') -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def lines_of(capsys, name):
    code = checking.check_methods([name], [])
    printed = capsys.readouterr()
    assert 'Traceback' not in printed.out + printed.err
    return code, printed.out.splitlines() + printed.err.splitlines()


def test_a_loss_of_a_wrong_shape_is_one_failure_at_its_line(plug_in, capsys):
    path = plug_in('wrong', WRONG_SHAPE)
    code, lines = lines_of(capsys, 'wrong_shape')
    assert code == 1
    assert len(lines) == len(CHECKS) + 2  # name, one line a check, the sum
    (failed,) = (line for line in lines if 'FAILED' in line)
    assert 'loss and gradients are finite: per_sample of WrongShapeLoss returns (39,) for 40 labels' in failed
    assert failed.endswith(f'(wrong.py:{line_of(path, "def per_sample")})')
    states = Counter(line.split()[0] for line in lines[1:-1])
    assert states == {'passed': 3, 'FAILED': 1, 'not': len(CHECKS) - 4}
    assert 'not tried  seed decides: after "loss and gradients are finite" has passed' in lines[7]
    assert lines[-1] == '0 of 1 methods keep the contract; not wrong_shape'


@pytest.mark.parametrize(
    ('text', 'name', 'said'), [(NO_PLAN, 'no_plan', "KeyError: 'loss'"), (LEAVES, 'leaves', 'it calls sys.exit')]
)
def test_an_error_while_planning_is_told_once_with_its_line(plug_in, capsys, text, name, said):
    path = plug_in(name, text)
    code, lines = lines_of(capsys, name)
    assert code == 1
    (failed,) = (line for line in lines if 'FAILED' in line)
    assert failed == f'  FAILED     has a plan: {said} ({name}.py:{line_of(path)})'
    assert sum('not tried' in line for line in lines) == len(CHECKS) - 2


def test_an_error_after_training_is_told_in_the_first_check_that_meets_it(plug_in, capsys, monkeypatch):
    path = plug_in('late', LATE)
    kept = {name: CHECKS[name] for name in ('has_a_plan', 'balanced_data_work', 'a_class_with_one_image_works')}
    monkeypatch.setattr(checking, 'CHECKS', kept)
    code, lines = lines_of(capsys, 'late')
    assert code == 1
    assert lines[2:4] == [
        f'  FAILED     balanced data work: RuntimeError: first line second line (late.py:{line_of(path)})',
        '  FAILED     a class with one image works: as in "balanced data work"',
    ]


def test_all_that_passes_is_listed(capsys, monkeypatch):
    monkeypatch.setattr(checking, 'CHECKS', {name: CHECKS[name] for name in ('says_what_it_is', 'has_a_plan')})
    assert lines_of(capsys, 'erm') == (
        0,
        ['erm', '  passed     says what it is', '  passed     has a plan', '1 of 1 methods keep the contract'],
    )


def test_a_fresh_template_does_not_pass(plug_in, capsys, monkeypatch):
    path = plug_in('fresh', METHOD.format(name='fresh', cls='Fresh'))
    monkeypatch.setattr(checking, 'CHECKS', {'says_what_it_is': CHECKS['says_what_it_is']})
    code, lines = lines_of(capsys, 'fresh')
    assert code == 1
    assert 'a docstring still says TODO' in lines[1]
    assert f'{path}:' in lines[1]


@pytest.mark.slow
def test_a_template_whose_todos_are_done_passes(ltbench, sandbox):
    text = METHOD.format(name='fresh', cls='Fresh')
    (sandbox / 'fresh.py').write_text(text)
    printed = ltbench('check', 'fresh', '--plugin', 'fresh.py', code=1)
    assert printed.count('FAILED') == 1
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef) and ast.get_docstring(node):
            node.body[0].value.value = 'Cross-entropy at a temperature (nobody, 2026).'
    (sandbox / 'fresh.py').write_text(ast.unparse(tree))
    assert '1 of 1 methods keep the contract' in ltbench('check', 'fresh', '--plugin', 'fresh.py')


def test_python_that_leaves_assertions_out_checks_as_much(plug_in):
    """The checks as `PYTHONOPTIMIZE=1` compiles them."""
    plug_in('idle', IDLE.replace(' (nobody, 2026)', ''))
    optimised = types.ModuleType('optimised')
    code = compile(Path(contract.__file__).read_text(), contract.__file__, 'exec', optimize=1, dont_inherit=True)
    exec(code, vars(optimised))
    for check, said in (
        ('says_what_it_is', 'the docstring names no source'),
        ('every_option_acts', r'unused=0.5 does not change the fingerprint'),
    ):
        with pytest.raises(optimised.BrokenContractError, match=said):
            optimised.CHECKS[check]('idle')


@pytest.mark.slow
def test_check_under_pythonoptimize(ltbench, sandbox):
    (sandbox / 'idle.py').write_text(HEAD + IDLE)
    printed = ltbench('check', 'idle', '--plugin', 'idle.py', code=1, PYTHONOPTIMIZE='1')
    assert 'FAILED     every option acts: unused=0.5 does not change the fingerprint' in printed
