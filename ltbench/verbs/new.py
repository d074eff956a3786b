"""The verb `new`: a method file and its test from a template."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from ltbench import plugins
from ltbench.errors import LTBenchError, UsageError
from ltbench.places import ROOT_OF_PACKAGE
from ltbench.registry import MODELS

METHOD = '''"""TODO: what the method is, in one line."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from ltbench.method import Method, Option, Plan
from ltbench.models.losses import Loss
from ltbench.registry import METHODS, MODELS


@MODELS.register_module()
class {cls}Loss(Loss):
    """Cross-entropy at a temperature. TODO: your loss; or delete this class and declare a part that exists.

    Args:
        class_counts: Training images a class.
        temperature: Divides the logits.
    """

    def __init__(self, class_counts: Sequence[int], temperature: float = 1.0) -> None:
        super().__init__(class_counts)
        self.temperature = temperature

    def per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses ``[B]`` of logits ``[B, C]``."""
        return functional.cross_entropy(logits / self.temperature, labels, reduction='none')


@METHODS.register_module(name='{name}')
class {cls}(Method):
    """TODO: one line that `ltbench ls methods` shows.

    TODO: Authors, "Title", venue year (equation), URL; official code and commit. Differs: what and why.
    """

    temperature = Option(1.0, between=(0.01, 100), help='divides the logits')

    def apply(self, plan: Plan) -> Plan:
        """Replace the loss. Other verbs: plan.tune, plan.cut(at=...).after, plan.retrain_head, plan.posthoc."""
        return plan.replace(loss=dict(type='{cls}Loss', temperature=self.temperature))
'''

TEST = """import torch
{load}
from ltbench.benchmark import load_benchmark
from ltbench.method import make_plan
from ltbench.models.classifier import build_loss


def test_{name}_at_temperature_one_is_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    ours = build_loss({{'type': '{cls}Loss', 'temperature': 1.0}}, None, class_counts=[5, 3, 2])
    assert torch.allclose(ours(logits, labels), torch.nn.functional.cross_entropy(logits, labels))


def test_{name}_changes_the_plan():
    benchmark = load_benchmark('digits_lt')
    ours, plain = (make_plan(method, benchmark, '', seed=0).stages()[-1] for method in ('{name}', 'erm'))
    assert ours.fingerprint != plain.fingerprint
"""


LOAD = """from pathlib import Path

from ltbench import plugins

plugins.load([Path(__file__).with_name('{name}.py')])
"""


def new_method(name: str) -> list[str]:
    """Write ``NAME.py`` and its test; return lines that say where they are and what to do next.

    In a checkout they go to ``methods/`` and ``tests/methods/``, where they are found automatically. If ltbench is
    installed from a wheel, they go to the current folder, and ``--plugin`` is needed.

    Raises:
        UsageError: If the name is not valid; or it, the name of its loss or a file exists already.
        LTBenchError: If the files cannot be written.
    """
    plugins.load()
    if not re.fullmatch(r'[a-z][a-z0-9_]*', name) or keyword.iskeyword(name):
        raise UsageError(f'{name!r} is not a valid method name: use lower-case letters, digits and _, like my_method')
    if name in plugins.method_names():
        raise UsageError(f'a method {name} exists already; choose another name')
    home = ROOT_OF_PACKAGE.parent
    in_checkout = (home / 'pyproject.toml').is_file()
    method = (home / 'methods' if in_checkout else Path.cwd()) / f'{name}.py'
    test = (home / 'tests' / 'methods' if in_checkout else Path.cwd()) / f'test_{name}.py'
    for path in (method, test):
        if path.exists():
            raise UsageError(f'{path} exists already')
    cls = ''.join(part.capitalize() for part in name.split('_'))
    if MODELS.get(f'{cls}Loss') is not None:
        raise UsageError(f'a {cls}Loss exists already, the name for the loss of {name}; choose another name')
    load = '' if in_checkout else LOAD.format(name=name)
    for path, template in ((method, METHOD), (test, TEST)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open('x', encoding='utf-8') as file:
                file.write(template.format(name=name, cls=cls, load=load))
        except FileExistsError:
            raise UsageError(f'{path} exists already') from None
        except OSError as error:
            raise LTBenchError(f'cannot write {path}: {error.strerror}') from error
    plugin = '' if in_checkout else f' --plugin {method.name}'
    return [
        f'method  {method}',
        f'test    {test}',
        f'next    replace each TODO, then: ltbench check {name}{plugin}',
        f'        and: ltbench run -m {name}{plugin}',
    ]
