"""Methods of other people, honest and not, through the command line: a wrong number is never recorded."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

STEP = """
import torch
from ltbench.method import Method
from ltbench.models.posthoc import PostHoc
from ltbench.registry import METHODS, MODELS

@MODELS.register_module()
class Step(PostHoc):
    def logits(self, outputs):
        {body}

@METHODS.register_module(name='step')
class StepMethod(Method):
    '''A step (a test).'''
    def apply(self, plan):
        return plan.posthoc(type='Step')
"""


@pytest.mark.parametrize(
    ('body', 'said'),
    [
        ('outputs.labels[:] = outputs.logits.argmax(dim=1); return outputs.logits', 'NoneType'),
        ('return torch.nn.functional.one_hot(outputs.labels, 10).float()', 'one_hot'),
        ('return outputs.logits[:, :-1]', 'the logits have the shape [500, 9], for 500 images and 10 classes'),
        ('return outputs.logits[::2]', 'the logits have the shape [250, 10]'),
        ('return outputs.logits.bool()', 'the logits are bool; real numbers are needed'),
        ("return outputs.logits * float('nan')", 'the logits are not all finite'),
    ],
)
def test_a_step_that_sees_labels_or_gives_no_logits_fails_alone(ltbench, sandbox, body, said):
    (sandbox / 'step.py').write_text(STEP.format(body=body))
    printed = ltbench(
        'run', '-b', 'digits_lt', '-m', 'erm', '-m', 'step', '--plugin', 'step.py', '-o', 'epochs=1', code=1
    )
    assert said in printed
    assert '1 of 2 runs failed' in printed
    assert len(list(sandbox.glob('results/digits_lt/records/*.json'))) == 1


def test_a_plug_in_may_import_what_lies_beside_it(ltbench, sandbox):
    folder = sandbox / 'mine'
    folder.mkdir()
    (folder / 'the_helper.py').write_text('TWICE = 2.0\n')
    (folder / 'twice.py').write_text(
        STEP.format(body='from the_helper import TWICE; return outputs.logits * TWICE').replace("'step'", "'twice'")
    )
    run = ('run', '-b', 'digits_lt', '-m', 'twice', '--plugin', 'mine/twice.py', '-o', 'epochs=1')
    assert 'top-1' in ltbench(*run)
    assert 'Everything is found' in ltbench(*run)
    (folder / 'the_helper.py').write_text('TWICE = 3.0\n')
    assert '1 runs, 1 stages to do' in ltbench(*run)


@pytest.mark.parametrize(
    ('source', 'said'),
    [
        ('import nothing_of_that_name', "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ('def apply(plan', 'SyntaxError'),
        ('X = 1', 'it registers nothing, neither a method nor a part'),
        ('import sys; sys.exit(3)', 'it calls sys.exit'),
    ],
)
def test_a_plug_in_that_does_not_load_is_named_by_every_verb(ltbench, sandbox, source, said):
    (sandbox / 'mine.py').write_text(source)
    for verb in (('check', 'mine'), ('run', '-m', 'mine', '--dry-run'), ('status', '-m', 'mine')):
        printed = ltbench(*verb, '--plugin', 'mine.py', code=2)
        assert "unknown method 'mine'" in printed
        assert printed.count(said) == 1
    assert said in ltbench('ls', 'methods', '--plugin', 'mine.py', code=1)
