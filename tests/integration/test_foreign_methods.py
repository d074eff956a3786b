"""Methods of other people, honest and not, through the command line: a wrong number is never recorded."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

STEP = """
import torch
from ltbench.method import Method
from ltbench.models.posthoc import PostHoc
from ltbench.registry import METHODS, MODELS

@MODELS.register_module(name='{name}')
class Step(PostHoc):
    def logits(self, outputs):
        {body}

@METHODS.register_module(name='{name}')
class StepMethod(Method):
    '''A step (a test).'''
    def apply(self, plan):
        return plan.posthoc(type='{name}')
"""


def test_a_step_that_sees_labels_or_gives_no_logits_fails_alone(ltbench, sandbox):
    of_bodies = [
        ('outputs.labels[:] = outputs.logits.argmax(dim=1); return outputs.logits', 'NoneType'),
        ('return torch.nn.functional.one_hot(outputs.labels, 10).float()', 'one_hot'),
        ('return outputs.logits[:, :-1]', 'the logits have the shape [500, 9], for 500 images and 10 classes'),
        ('return outputs.logits[::2]', 'the logits have the shape [250, 10]'),
        ('return outputs.logits.bool()', 'the logits are bool; real numbers are needed'),
        ("return outputs.logits * float('nan')", 'the logits are not all finite'),
    ]
    steps = {f'step{number}': of_body for number, of_body in enumerate(of_bodies)}
    (sandbox / 'steps.py').write_text('\n'.join(STEP.format(name=name, body=body) for name, (body, _) in steps.items()))
    methods = [word for name in ('erm', *steps) for word in ('-m', name)]
    printed = ltbench('run', '-b', 'digits_lt', *methods, '--plugin', 'steps.py', '-o', 'epochs=1', code=1)
    told = ' '.join(printed.split())
    for name, (_, said) in steps.items():
        assert said in told.split(f'/ {name} / seed 0')[-1].split(' / seed 0')[0], name
    assert '6 of 7 runs failed' in printed
    assert len(list(sandbox.glob('results/digits_lt/records/*.json'))) == 1


def test_a_plug_in_may_import_what_lies_beside_it(ltbench, sandbox):
    folder = sandbox / 'mine'
    folder.mkdir()
    (folder / 'the_helper.py').write_text('TWICE = 2.0\n')
    (folder / 'twice.py').write_text(
        STEP.format(name='twice', body='from the_helper import TWICE; return outputs.logits * TWICE')
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
def test_a_plug_in_that_does_not_load_is_named_by_every_verb(main, sandbox, capsys, source, said):
    (sandbox / 'mine.py').write_text(source)
    for verb in (('check', 'mine'), ('run', '-m', 'erm', '--dry-run'), ('status', '-m', 'erm')):
        assert main(*verb, '--plugin', 'mine.py') == 2
        printed = ''.join(capsys.readouterr())
        assert ("unknown method 'mine'" if verb[0] == 'check' else 'mine.py does not load') in printed
        assert printed.count(said) == 1
    assert main('ls', 'methods', '--plugin', 'mine.py') == 1
    assert said in ''.join(capsys.readouterr())
