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
