"""Options, slots, the order of composition, and what the stages of a plan share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from ltbench.benchmark import Benchmark
from ltbench.errors import UsageError
from ltbench.method import Method, Option, Plan, make_plan
from ltbench.registry import METHODS
from ltbench.stage import Stage, train_stage_of

WEIGHTS = {'type': 'EffectiveNumber', 'beta': 0.9999}

Stages = Callable[..., list[Stage]]


@pytest.fixture
def stages(benchmark: Benchmark) -> Stages:
    """The stages of a method on the toy benchmark."""
    return lambda method, seed=0, on=benchmark: make_plan(method, on, 'f' * 64, seed).stages()


def register(monkeypatch: pytest.MonkeyPatch, name: str, apply: Callable[[Method, Plan], Plan], **options: Any) -> None:
    """A method of this test alone."""
    cls = type(name, (Method,), {**options, 'apply': apply})
    monkeypatch.setitem(METHODS.module_dict, name, cls)


# ------------------------------------------------------------------------------------------------ options


class Declared(Method):
    rate = Option(0.5, between=(0, 1), on={'toy_lt': 0.4, 'toy_lt(imbalance_factor=50)': 0.2})
    count = Option(3, between=(1, 10))
    mode = Option('eval', choices=('eval', 'train'))
    flag = Option(False)

    def apply(self, plan: Plan) -> Plan:
        return plan


def test_defaults_and_values(benchmark: Benchmark) -> None:
    method = Declared(benchmark, count=5, flag=True)
    assert (method.rate, method.count, method.mode, method.flag) == (0.4, 5, 'eval', True)
    assert list(Declared.options()) == ['rate', 'count', 'mode', 'flag']
    assert Declared.options()['rate'].default == 0.5


def with_factor(benchmark: Benchmark, factor: float) -> Benchmark:
    return dataclasses.replace(benchmark, data={**benchmark.data, 'imbalance_factor': factor})


def test_the_narrowest_default_for_a_benchmark_wins(benchmark: Benchmark) -> None:
    assert Declared(dataclasses.replace(benchmark, name='other_lt')).rate == 0.5
    assert Declared(benchmark).rate == 0.4
    assert Declared(with_factor(benchmark, 50)).rate == 0.2
    assert Declared(with_factor(benchmark, 50), rate=0.9).rate == 0.9


def test_defaults_do_not_hang_on_how_a_number_is_spelt(benchmark: Benchmark) -> None:
    """50 and 50.0 make the same data and the same fingerprint, so they must make the same method."""
    assert Declared(with_factor(benchmark, 50.0)).rate == Declared(with_factor(benchmark, 50)).rate


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'rte': 0.1}, "unknown option of method Declared 'rte': did you mean rate?"),
        ({'rate': 1.5}, 'option rate of Declared lies between 0 and 1, got 1.5'),
        ({'rate': float('nan')}, 'lies between'),
        ({'rate': '0.5'}, "takes a float, got '0.5'"),
        ({'rate': True}, 'takes a float, got True'),
        ({'count': 0}, 'option count of Declared lies between 1 and 10, got 0'),
        ({'count': 2.0}, 'takes a int, got 2.0'),
        ({'count': True}, 'takes a int, got True'),
        ({'mode': 'evl'}, "unknown value for option mode of Declared 'evl': did you mean eval?"),
        ({'flag': 1}, 'takes a bool, got 1'),
    ],
)
def test_values_that_do_not_fit_are_refused(benchmark: Benchmark, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        Declared(benchmark, **options)
    assert words in str(error.value)


def test_bounds_belong_to_the_range_and_whole_numbers_are_floats_too(benchmark: Benchmark) -> None:
    assert [Declared(benchmark, rate=rate).rate for rate in (0, 1)] == [0.0, 1.0]
    assert isinstance(Declared(benchmark, rate=1).rate, float)  # so that 1 and 1.0 are written down alike


def test_options_are_inherited_and_may_be_redeclared(benchmark: Benchmark) -> None:
    class Child(Declared):
        count = Option(7)

    assert Child(benchmark).values == {'rate': 0.4, 'count': 7, 'mode': 'eval', 'flag': False}


def test_every_default_of_every_method_lies_in_its_own_range() -> None:
    for name, method in METHODS.module_dict.items():
        for option in method.options().values():
            for value in (option.default, *option.on.values()):
                assert option.check(value, name) == value


def test_unknown_method(stages: Stages) -> None:
    with pytest.raises(UsageError, match=r"unknown method 'la_los': did you mean la_loss"):
        stages('erm+la_los')


# ------------------------------------------------------------------------------------------------ slots


@pytest.mark.parametrize(
    ('method', 'first', 'second', 'slot'),
    [
        ('ldam+la_loss', 'ldam', 'la_loss', 'loss'),
        ('la_loss+ldam', 'la_loss', 'ldam', 'head|loss'),
        ('ldam_drw+drw', 'ldam_drw', 'drw', 'class weights after the cut'),
        ('crt+lws', 'crt', 'lws', 'head stage'),
        ('nbn+erm+nbn(scope=all)', 'nbn', 'nbn', 'normalization'),
        ('la_posthoc+la_posthoc', 'la_posthoc', 'la_posthoc', 'post-hoc step'),
    ],
)
def test_a_slot_has_one_owner(stages: Stages, method: str, first: str, second: str, slot: str) -> None:
    with pytest.raises(UsageError, match=f'^{first} and {second} cannot be combined: both set the ({slot})$'):
        stages(method)


def test_the_same_entry_of_the_recipe_has_one_owner(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, 'longer', lambda self, plan: plan.tune(epochs=400))
    register(monkeypatch, 'shorter', lambda self, plan: plan.tune(epochs=100))
    with pytest.raises(UsageError, match=r'longer and shorter cannot be combined: both set the recipe\.epochs'):
        stages('longer+shorter')


def test_a_slot_may_be_set_before_and_after_a_cut(stages: Stages) -> None:
    """DRW on top of a method with weights of its own: the one before, the other after."""
    plan = stages('la_loss+drw')[-1].config['history']
    assert [part['loss']['type'] for part in plan] == ['LogitAdjustedLoss'] * 2
    assert [part['class_weights'] for part in plan] == [None, WEIGHTS]


@pytest.mark.parametrize(
    ('apply', 'words'),
    [
        (lambda self, plan: plan.replace(losss={}), "unknown slot 'losss': did you mean loss?"),
        (lambda self, plan: plan.tune(epoch=3), "unknown entry of the recipe 'epoch': did you mean epochs?"),
        (lambda self, plan: plan.cut(at=0.5).after(head={}), "unknown slot that can change during training 'head'"),
        (lambda self, plan: plan.cut(at=0.5).after(sampler_={}), 'did you mean sampler?'),
    ],
)
def test_misspelt_verbs(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, apply: Callable[[Method, Plan], Plan], words: str
) -> None:
    register(monkeypatch, 'mine', apply)
    with pytest.raises(UsageError) as error:
        stages('mine')
    assert words in str(error.value)


def test_tune_merges_parts_of_the_recipe(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, 'decay', lambda self, plan: plan.tune(optimizer={'weight_decay': 5e-3}, batch_size=64))
    recipe = stages('decay')[0].config['recipe']
    assert recipe['optimizer'] == {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 5e-3}
    assert (recipe['batch_size'], recipe['epochs']) == (64, 200)
    assert stages('erm')[0].config['recipe']['optimizer']['weight_decay'] == 2e-4  # the benchmark is untouched


# ------------------------------------------------------------------------------------------------ composition


def test_a_plus_b_applies_a_then_b(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noting(name: str) -> Callable[[Method, Plan], Plan]:
        def apply(self: Method, plan: Plan) -> Plan:
            seen.append(name)
            return plan

        return apply

    for name in ('first', 'second'):
        register(monkeypatch, name, noting(name))
    stages('first+second')
    stages('second+first')
    assert seen == ['first', 'second', 'second', 'first']


def test_stages_follow_the_order_of_the_methods(stages: Stages) -> None:
    assert [stage.kind for stage in stages('crt+la_posthoc')] == ['train', 'features', 'head', 'posthoc']
    assert [stage.kind for stage in stages('ldam_drw+crt')] == ['train', 'train', 'features', 'head']
    assert [stage.kind for stage in stages('nbn+la_loss')] == ['train']


def test_a_head_cannot_follow_a_post_hoc_step(stages: Stages) -> None:
    """Features come from a trained network; a post-hoc step leaves logits only."""
    with pytest.raises(UsageError, match='la_posthoc'):
        stages('la_posthoc+crt')


def test_each_stage_needs_the_one_before(stages: Stages) -> None:
    first, second, features, head = stages('ldam_drw+crt')
    assert [stage.parents for stage in (first, second, features, head)] == [[], [first], [second], [features]]
    assert second.starts_from is first
    assert features.needs is second
    assert train_stage_of(head) is second
    assert ((first.begin, first.end), (second.begin, second.end)) == ((0, 160), (160, 200))
    assert [stage.is_complete for stage in (first, second, features, head)] == [False, True, True, True]


def test_published_combinations_are_the_sum_of_their_parts(stages: Stages) -> None:
    assert stages('ldam_drw')[-1].fingerprint == stages('ldam+drw')[-1].fingerprint
    assert stages('drw+ldam')[-1].fingerprint == stages('ldam+drw')[-1].fingerprint  # nothing in common
    assert stages('ldam_drw(start=0.5)')[-1].fingerprint == stages('ldam+drw(start=0.5)')[-1].fingerprint


def test_an_option_at_its_default_is_the_same_run(stages: Stages) -> None:
    assert stages('nbn(normalize=both)')[0].fingerprint == stages('nbn')[0].fingerprint
    assert stages('la_loss(tau=1)')[0].fingerprint == stages('la_loss')[0].fingerprint


def test_methods_on_one_trained_network_share_it(stages: Stages) -> None:
    erm = stages('erm')[0].fingerprint
    assert {stages(method)[0].fingerprint for method in ('erm', 'crt', 'lws', 'la_posthoc')} == {erm}
    assert stages('crt')[1].fingerprint == stages('lws')[1].fingerprint  # and the views their heads see
    assert stages('nbn')[0].fingerprint != erm


# ------------------------------------------------------------------------------------------------ history


def test_drw_switches_on_at_epoch_160_of_200(stages: Stages) -> None:
    """0-based, as in Cao et al.: the epoch of the first drop of the learning rate."""
    first, second = stages('drw')
    assert [(part['until'], part['class_weights']) for part in second.config['history']] == [
        (160, None),
        (200, WEIGHTS),
    ]
    assert [part['until'] for part in first.config['history']] == [160]


def test_the_share_of_the_epochs_is_kept(stages: Stages, benchmark: Benchmark) -> None:
    short = dataclasses.replace(benchmark, recipe={**benchmark.recipe, 'epochs': 30})
    assert stages('drw', on=short)[0].end == 24
    assert stages('drw(start=0.5)', on=short)[0].end == 15


def test_runs_that_part_late_share_their_first_epochs(stages: Stages) -> None:
    assert stages('ldam_drw')[0].fingerprint == stages('ldam_drw(beta=0.99)')[0].fingerprint
    assert stages('ldam_drw')[1].fingerprint != stages('ldam_drw(beta=0.99)')[1].fingerprint
    assert stages('ldam_drw')[0].fingerprint != stages('drw')[0].fingerprint  # another loss
    assert stages('drw(start=0.8)')[0].fingerprint != stages('drw(start=0.9)')[0].fingerprint


def test_weights_that_never_turn_on_are_erm(stages: Stages) -> None:
    assert [stage.fingerprint for stage in stages('drw(start=1.0)')] == [stages('erm')[0].fingerprint]


def test_weights_from_the_first_epoch_on_are_one_stage(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, 'reweight', lambda self, plan: plan.replace(class_weights=WEIGHTS))
    (stage,) = stages('drw(start=0)')
    assert stage.fingerprint == stages('reweight')[0].fingerprint != stages('erm')[0].fingerprint


def test_a_change_that_changes_nothing_is_erm(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {'sampler': {'type': 'InstanceBalanced'}, 'class_weights': None}
    register(monkeypatch, 'same', lambda self, plan: plan.cut(at=0.5).after(**same))
    assert [stage.fingerprint for stage in stages('same')] == [stages('erm')[0].fingerprint]


def test_a_change_that_changes_nothing_cuts_nothing(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {'sampler': {'type': 'InstanceBalanced'}}
    register(monkeypatch, 'same', lambda self, plan: plan.cut(at=0.5).after(**same))
    assert [stage.end for stage in stages('same+drw')] == [160, 200]
    assert stages('same+drw')[-1].fingerprint == stages('drw')[-1].fingerprint


def test_changes_apply_in_the_order_of_their_epochs(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the methods, with what came first still in force later."""
    late = {'type': 'ClassAware', 'images_per_turn': 4}
    register(monkeypatch, 'late', lambda self, plan: plan.cut(at=0.9).after(sampler=late))
    one, other = stages('late+drw')[-1], stages('drw+late')[-1]
    assert one.fingerprint == other.fingerprint
    assert [(part['until'], part['sampler']['type'], part['class_weights']) for part in one.config['history']] == [
        (160, 'InstanceBalanced', None),
        (180, 'InstanceBalanced', WEIGHTS),
        (200, 'ClassAware', WEIGHTS),
    ]


def test_changes_at_one_epoch_make_one_cut(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    late = {'type': 'ClassAware', 'images_per_turn': 4}
    register(monkeypatch, 'late', lambda self, plan: plan.cut(at=0.8).after(sampler=late))
    assert [part['until'] for part in stages('late+drw')[-1].config['history']] == [160, 200]


def test_a_change_that_is_taken_back_leaves_its_middle(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, 'on', lambda self, plan: plan.cut(at=0.5).after(class_weights=WEIGHTS))
    plan = make_plan('on', benchmark, 'f' * 64, seed=0)
    plan = dataclasses.replace(plan, changes=(*plan.changes, (0.75, {'class_weights': None})))
    history = plan.stages()[-1].config['history']
    assert [(part['until'], part['class_weights']) for part in history] == [(100, None), (150, WEIGHTS), (200, None)]


def test_where_training_started_from_is_not_part_of_the_fingerprint(stages: Stages) -> None:
    """Continued from epoch 160 or trained in one go: the same bits."""
    _, second = stages('drw')
    assert dataclasses.replace(second, starts_from=None).fingerprint == second.fingerprint


# ------------------------------------------------------------------------------------------------ on paper


@pytest.mark.parametrize('method', ['erm', 'nbn(scope=all)+ldam_drw', 'drw+crt', 'lws', 'crt+la_posthoc'])
def test_stages_go_to_workers_as_json(stages: Stages, method: str) -> None:
    for stage in stages(method):
        copy = Stage.from_json(json.loads(json.dumps(stage.to_json())))
        assert copy.fingerprint == stage.fingerprint
        assert copy.kind == stage.kind
        # `starts_from` is not in the fingerprint, but says where to begin
        for parent in ('needs', 'starts_from', 'tuned_on'):
            ours, theirs = getattr(copy, parent), getattr(stage, parent)
            assert (ours and ours.fingerprint) == (theirs and theirs.fingerprint)


def test_a_head_stage_says_what_its_paper_says(stages: Stages) -> None:
    """cRT as documented: a fresh linear head, class-aware sampling, the rate started anew."""
    _, features, head = stages('crt(bn=train, epochs=10)')
    assert features.config == {
        'epochs': 10,
        'batch_size': 128,
        'sampler': {'type': 'ClassAware', 'images_per_turn': 4},
        'augmentation': {'crop_padding': 4, 'flip': True},
        'bn': 'train',
        'seed': 0,
    }
    assert head.config == {
        'head': {'type': 'LinearHead'},
        'loss': {'type': 'CrossEntropyLoss'},
        'class_weights': None,
        'constraint': None,
        'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 5e-4},
        'schedule': {'type': 'cosine', 'warmup_epochs': 0},
        'seed': 0,
    }


# ------------------------------------------------------------------------------------------------ choosing values


def scaled(self: Method, plan: Plan) -> Plan:
    return plan.posthoc(type='Scaled', choose={'tau': (0.5, 1.0)})


def test_values_are_chosen_on_a_model_that_has_not_seen_the_held_out_images(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, 'scaled', scaled)
    train, step = stages('scaled')
    assert step.config == {'step': {'type': 'Scaled'}, 'choose': {'tau': [0.5, 1.0]}}
    assert step.needs is train
    assert 'holdout' not in train.config['data']  # the model that is reported on has all images
    assert step.tuned_on.config == {**train.config, 'data': {**train.config['data'], 'holdout': 0.2}}
    assert step.parents == [train, step.tuned_on]


def test_a_validation_set_makes_the_second_model_superfluous(
    stages: Stages, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, 'scaled', scaled)
    train, step = stages('scaled', on=dataclasses.replace(benchmark, has_validation=True))
    assert step.tuned_on.fingerprint == train.fingerprint


def test_values_are_chosen_after_everything_that_comes_before(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the re-trained head of the second model, not on its first one."""
    register(monkeypatch, 'scaled', scaled)
    step = stages('crt+scaled')[-1]
    assert (step.needs.kind, step.tuned_on.kind) == ('head', 'head')
    assert step.tuned_on.config == step.needs.config
    assert train_stage_of(step.tuned_on).config['data']['holdout'] == 0.2


def test_a_step_on_features_takes_the_place_of_a_head(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, 'centroids', lambda self, plan: plan.posthoc(on='features', type='Centroids'))
    assert [stage.kind for stage in stages('centroids')] == ['train', 'features', 'posthoc']
    assert stages('centroids')[1].config['epochs'] == 0  # the images as they are
    with pytest.raises(UsageError, match='crt and centroids cannot be combined: both set the head stage'):
        stages('crt+centroids')


@pytest.mark.parametrize(
    ('method', 'twice'),
    [
        ('balanced_softmax', ''),
        ('resample_class_balanced', ''),
        ('resample_class_balanced+balanced_softmax', 'so does the sampler'),
        ('deferred_resampling+la_loss', 'so does the sampler'),
        ('drw+vs_loss', 'so do class weights'),
        ('bbn', ''),
        ('bbn+balanced_softmax', 'so does the sampler of the second stream'),
        ('cmo+balanced_softmax', 'so does the sampler of the second stream'),
        ('cmo(power=0)+balanced_softmax', ''),
        ('ldam_drw', ''),
        ('crt+balanced_softmax', ''),
    ],
)
def test_correcting_twice_for_class_frequencies_is_said(benchmark, method, twice):
    notes = make_plan(method, benchmark, '', 0).notes
    assert len(notes) == bool(twice)
    assert all(twice in note and 'rare classes are favoured twice' in note for note in notes)


@pytest.mark.parametrize('step', ['crt', 'lws', 'disalign', 'mislas', 'weight_balancing', 'ncm', 'tau_norm'])
def test_what_needs_the_features_of_one_network_refuses_experts_before_training(stages: Stages, benchmark, step):
    words = f'{step} and {{}} cannot be combined: {step} works on the features of one network, and the 3 experts of'
    for method in (f'ride+{step}', f'{step}+ride'):
        with pytest.raises(UsageError, match=words.format('ride')):
            stages(method)
    of_experts = dataclasses.replace(benchmark, backbone={**benchmark.backbone, 'experts': 3})
    with pytest.raises(UsageError, match=words.format('toy_lt')):
        stages(step, on=of_experts)
    assert [stage.kind for stage in stages('ride+la_posthoc', on=of_experts)] == ['train', 'train', 'posthoc']


# ------------------------------------------------------------------------------------------------ foreign code


@pytest.mark.parametrize(
    'write',
    [
        "plan.settings['recipe']['optimizer']['lr'] = 9.0",
        "plan.settings['recipe']['epochs'] = 1",
        "plan.settings['loss'] = {'type': 'FocalLoss'}",
        "plan.benchmark.recipe['epochs'] = 1",
        "plan.benchmark.data['imbalance_factor'] = 1",
        "plan.benchmark.backbone['depth'] = 8",
        "plan.changes[0][1]['class_weights'] = None",
    ],
)
def test_a_method_that_writes_into_what_it_is_given_is_refused_and_changes_no_other(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """In the same call ERM would be trained by another recipe, under a fingerprint of its own."""
    monkeypatch.setattr(METHODS, '_module_dict', dict(METHODS.module_dict))

    @METHODS.register_module(name='writes')
    class Writes(Method):
        def apply(self, plan: Plan) -> Plan:
            exec(write)
            return plan

    before = make_plan('drw', benchmark, '', 0).stages()[-1].fingerprint
    with pytest.raises(UsageError, match='method writes modifies the plan or the benchmark'):
        make_plan('drw+writes', benchmark, '', 0)
    assert make_plan('drw', benchmark, '', 0).stages()[-1].fingerprint == before
    assert benchmark.recipe['epochs'] == 200


def test_a_config_that_a_method_keeps_and_changes_stays_as_it_was_in_its_other_rows(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, stages: Stages
) -> None:
    kept = {'type': 'FocalLoss', 'gamma': 1.0}

    def apply(self: Method, plan: Plan) -> Plan:
        kept['gamma'] = self.gamma
        return plan.replace(loss=kept).cut(at=0.8).after(class_weights=kept)

    register(monkeypatch, 'keeps', apply, gamma=Option(1.0))
    plans = [make_plan(f'keeps(gamma={gamma})', benchmark, '', 0) for gamma in (1.0, 2.0)]
    spans = [span for plan in plans for span in plan.stages()[-1].config['history']]
    assert [span['loss']['gamma'] for span in spans] == [1.0, 1.0, 2.0, 2.0]
    assert [span['class_weights'] and span['class_weights']['gamma'] for span in spans] == [None, 1.0, None, 2.0]
