"""A plan in words: stages, what is shared with ERM, what differs from it."""

from __future__ import annotations

import pytest

from ltbench.benchmark import load_benchmark
from ltbench.errors import UsageError
from ltbench.grid.explain import explain, in_words
from ltbench.method import Method
from ltbench.plugins import method_names
from ltbench.registry import METHODS


def explained(method: str, name: str = 'cifar100_lt', **options):
    return explain(method, load_benchmark(name, overrides=options))


def differences(method: str) -> dict[str, tuple[str, str]]:
    return {each.where: (each.plain, each.here) for each in explained(method).differences}


def test_a_cut_is_two_stages_of_which_the_first_is_erms():
    drw = explained('drw')
    assert [(step.kind, step.shared) for step in drw.steps] == [('train', True), ('train', False)]
    assert [step.what for step in drw.steps] == [
        'epochs 1 to 160 of 200', 'epochs 161 to 200; class_weights becomes EffectiveNumber(beta=0.9999)',
    ]  # fmt: skip
    assert differences('drw') == {'class_weights after epoch 160': ('none', 'EffectiveNumber(beta=0.9999)')}


def test_what_rests_on_erm_shares_its_training_and_differs_in_nothing_before():
    for method, kinds in (('crt', ['train', 'features', 'head']), ('la_posthoc', ['train', 'posthoc'])):
        found = explained(method)
        assert [step.kind for step in found.steps] == kinds
        assert [step.shared for step in found.steps] == [True, *[False] * (len(kinds) - 1)]
        assert found.differences == ()
        assert 'differs from erm: only in the stages after training' in repr(found)
    assert repr(explained('erm')).endswith('differs from erm: not at all')
    assert '(shared with erm)' not in repr(explained('erm'))


def test_all_stages_that_a_run_rests_on_are_there():
    tuned = explained('tau_norm')
    assert sum('without 20 % of the training images' in step.what for step in tuned.steps) == 1
    assert 'chosen on validation images: tau of [0.0, 0.1,' in tuned.steps[-1].what
    taught = explained('distill')
    assert taught.steps[0].what == 'epochs 1 to 200; the teacher of what follows'
    assert differences('distill')['teacher'] == ('none', 'the network of an earlier stage')


def test_entries_of_recipe_and_backbone_differ_one_by_one():
    assert differences('weight_balancing') == {
        'recipe.optimizer.lr': ('0.1', '0.01'), 'recipe.optimizer.weight_decay': ('0.0002', '0.005'),
    }  # fmt: skip
    assert differences('ride')['backbone.experts'] == ('none', '3')


def test_the_setting_and_the_notes_are_told():
    found = explained('la_loss+resample_class_balanced', 'digits_lt', epochs=7, batch_size=32)
    assert found.benchmark == 'digits_lt (imbalance factor 40, paper, batch_size=32, epochs=7)'
    assert any('rare classes are favoured twice' in note for note in found.notes)
    assert 'note: digits_lt: batch size 32, learning rate 0.1 as before' in repr(found)


def test_every_method_has_words_at_80_columns():
    for method in method_names():
        found = explained(method)
        assert found.steps
        for line in repr(found).splitlines():
            assert len(line) <= 80, line


def test_a_method_that_raises_is_named(monkeypatch):
    class Raises(Method):
        """Not today (nobody, 2026)."""

        def apply(self, plan):
            raise RuntimeError('not today')

    monkeypatch.setitem(METHODS.module_dict, 'raises', Raises)
    with pytest.raises(UsageError, match='raises cannot be planned on cifar100_lt: RuntimeError: not today'):
        explained('raises')


def test_configs_in_words():
    assert in_words({'type': 'A', 'x': 1, 'y': {'z': None}}) == 'A(x=1, y=(z=none))'
    assert in_words({'type': 'A'}) == 'A'
    assert in_words([{'type': 'A'}, 'b', 0.1, True, '']) == "[A, b, 0.1, True, '']"
