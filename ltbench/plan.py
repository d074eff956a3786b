"""A plan: the stages of one run, which methods can still change. Its verbs are what a method can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ltbench.benchmark import Benchmark
from ltbench.config import private
from ltbench.errors import UsageError, unknown
from ltbench.registry import MODELS, lookup
from ltbench.stage import Stage

CHANGEABLE = ('loss', 'class_weights', 'sampler', 'mixing')
"""Slots that may change during training; the others belong to the network."""

PLAIN_SAMPLER = {'type': 'InstanceBalanced'}

_FAVOURING = {
    'sampler': 'does the sampler',
    'class_weights': 'do class weights',
    'partner_sampler': 'does the sampler of the second stream',
}
"""Slots that favour rare classes if filled, with their words in a note."""

_FAVOURING_NONE = (None, PLAIN_SAMPLER, {'type': 'PowerBalanced', 'power': 1})
"""Values of such a slot that favour no class."""

SLOTS = (
    'head', 'normalization', 'rectification', 'views', 'objective', 'partner_sampler', 'update', 'average', *CHANGEABLE,
)  # fmt: skip


HOLDOUT_SHARE = 0.2
"""Share of each class's training images that are held out where a value is chosen and there is no validation set."""


@dataclass(frozen=True)
class Plan:
    """The stages of one run, which methods can still change.

    A benchmark gives the plain plan: one ``train`` stage with a linear head, cross-entropy and instance-balanced
    sampling. Each verb returns a changed copy. A slot holds the config of a registered part, or None; if two methods
    fill the same slot, an error names both.

    Slots:
        head: features ``[B, F]`` -> logits ``[B, C]``.
        normalization: re-parametrises the backbone's BN layers.
        rectification: logits ``[B, C]`` -> logits ``[B, C]``, trained as part of the head.
        views: of each image: a list of names, or of changes to the recipe's augmentation, see
            :func:`ltbench.data.views.resolve`.
        objective: from the network and a batch of views to a loss, see :class:`ltbench.models.objective.Objective`.
        partner_sampler: a second stream of images and labels beside each batch, for mixing or the objective.
        update: how a step is taken, see :class:`ltbench.models.objective.Update`.
        average: a running average of the weights that predicts, see :class:`ltbench.models.objective.Average`.
        loss: ``loss(logits [B, C], labels [B]) -> scalar``.
        class_weights: one weight per class, for a weighted mean of the loss; with ``divide_by='batch'`` for a weighted
            sum divided by the batch size.
        sampler: which images an epoch sees, in which order.
        mixing: mixes the images and labels of a batch.
    """

    benchmark: Benchmark
    seed: int
    settings: Mapping[str, Any]
    changes: tuple[tuple[float, Mapping[str, Any]], ...] = ()
    follow_ups: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    author: str = ''
    teacher: Stage | None = None

    @classmethod
    def plain(cls, benchmark: Benchmark, data_fingerprint: str, seed: int) -> Plan:
        """The plan of a benchmark before any method is applied."""
        settings = {
            'data': {**benchmark.data, 'fingerprint': data_fingerprint},
            'backbone': dict(benchmark.backbone),
            'recipe': dict(benchmark.recipe),
            'seed': seed,
            'head': {'type': 'LinearHead'},
            'normalization': None,
            'rectification': None,
            'views': None,
            'objective': None,
            'partner_sampler': None,
            'update': None,
            'average': None,
            'teach': None,
            'loss': {'type': 'CrossEntropyLoss'},
            'class_weights': None,
            'sampler': dict(PLAIN_SAMPLER),
            'mixing': None,
        }
        return cls(benchmark, seed, settings)

    def private(self) -> Plan:
        """A copy whose configs can be modified safely."""
        return replace(self, **{name: private(getattr(self, name)) for name in ('settings', 'changes', 'follow_ups')})

    @property
    def large_images(self) -> bool:
        """Whether images are cropped while they are decoded; others are held in memory in one size."""
        return 'random_resized_crop' in self.settings['recipe']['augmentation']

    # ---- verbs for methods

    def replace(self, **slots: Any) -> Plan:
        """Fill slots of the ``train`` stage: ``plan.replace(loss=dict(type='FocalLoss', gamma=2.0))``."""
        _only(slots, SLOTS, 'slot')
        return replace(self._claim(*slots), settings={**self.settings, **slots})

    def tune(self, **recipe: Any) -> Plan:
        """Change entries of the training recipe; dicts are merged: ``plan.tune(optimizer=dict(weight_decay=5e-3))``."""
        merged = dict(self.settings['recipe'])
        _only(recipe, merged, 'entry of the recipe')
        claimed = []
        for key, value in recipe.items():
            claimed += [f'recipe.{key}.{inner}' for inner in value] if isinstance(value, Mapping) else [f'recipe.{key}']
            merged[key] = _merged(merged[key], value)
        return replace(self._claim(*claimed), settings={**self.settings, 'recipe': merged})

    def reshape(self, **backbone: Any) -> Plan:
        """Change arguments of the backbone: ``plan.reshape(width=2.0)``.

        Several ``experts`` have separate features, so no single head can be retrained on them afterwards.
        """
        plan = self._claim('backbone')
        if backbone.get('experts', 1) > 1 and 'head stage' in self.claims:
            raise _no_single_head(self.claims['head stage'], self.author, backbone['experts'])
        plan = plan._claim('head stage') if 'experts' in backbone else plan
        return replace(plan, settings={**self.settings, 'backbone': {**self.settings['backbone'], **backbone}})

    def teach(self, by: Plan) -> Plan:
        """Give the objective a frozen teacher: the network that another plan ends with.

        Raises:
            UsageError: If that plan ends with a post-hoc step, which is no network.
        """
        last = by.private().stages()[-1]
        if last.kind == 'posthoc':
            raise UsageError(f'{self.author}: a teacher is a trained network; its method ends with a post-hoc step')
        plan = self._claim('teach')
        return replace(plan, settings={**self.settings, 'teach': last.fingerprint}, teacher=last)

    def cut(self, at: float) -> Cut:
        """Cut training after a share ``at`` (0 to 1) of its epochs: ``plan.cut(at=0.8).after(class_weights=...)``."""
        return Cut(self, at)

    def retrain_head(
        self,
        head: Mapping[str, Any],
        *,
        epochs: int,
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        sampler: Mapping[str, Any],
        loss: Mapping[str, Any] | None = None,
        class_weights: Mapping[str, Any] | None = None,
        constraint: Mapping[str, Any] | None = None,
        bn: str = 'eval',
        batch_size: int | None = None,
        along: Sequence[str] = (),
    ) -> Plan:
        """Freeze the trained backbone and train a head on it.

        The features of all images are computed once, before the head is trained, unless parts of the backbone are
        trained ``along``.

        Args:
            head: The head. One whose constructor takes ``base`` gets the trained head and builds on it.
            epochs: Passes of as many images as the training set has.
            optimizer: As in a recipe.
            schedule: As in a recipe.
            sampler: Which images, in which order.
            loss: Cross-entropy if None.
            class_weights: For a weighted mean of the loss.
            constraint: Called on the head before the first and after every step, to project its weights; with
                ``every='epoch'`` only after every epoch.
            bn: ``'eval'`` uses the frozen backbone's running BN statistics, ``'train'`` those of each batch, which also
                keeps moving the running ones, as the reference implementations of cRT and LWS do.
            batch_size: The recipe's if None.
            along: Parts of names of backbone parameters that are also trained: ``['_scalar']``.
        """
        views = {
            'epochs': epochs,
            'batch_size': batch_size,
            'sampler': dict(sampler),
            'augmentation': None,
            'bn': bn,
            'seed': self.seed,
        }
        training = {
            'head': dict(head),
            'loss': dict(loss or {'type': 'CrossEntropyLoss'}),
            'class_weights': class_weights,
            'constraint': constraint,
            'optimizer': dict(optimizer),
            'schedule': dict(schedule),
            'seed': self.seed,
        }
        plan = self._before_posthoc()._of_one_network()._claim('head stage')
        separate = (('features', views), ('head', training))
        stages = (('head', {**views, **training, 'along': list(along)}),) if along else separate
        return replace(plan, follow_ups=(*self.follow_ups, *stages))

    def posthoc(
        self,
        *,
        on: str = 'logits',
        views: Sequence[str | Mapping[str, Any]] | None = None,
        choose: Mapping[str, Sequence[Any]] | None = None,
        **step: Any,
    ) -> Plan:
        """Append a step that turns the trained model's outputs into other logits, without training.

        Args:
            on: ``'logits'`` of the test images, or ``'features'``: also the features of test and training images and
                the trained head. A step on features takes the place of a retrained head.
            views: As in the slot ``views``. The step then learns from the test images, with this augmentation and
                without their labels; runs of such a plan are marked as transductive.
            choose: Arguments of the step and the values to try. The values with the best mean class accuracy on
                validation images are taken: those of the benchmark's validation set, else of a part of the training
                set (:data:`HOLDOUT_SHARE`) that a second model, trained without it, has not seen. Never test images.
            step: Config of the step.
        """
        slots = ('head stage', 'post-hoc step') if on == 'features' else ('post-hoc step',)
        plan = (self._of_one_network() if on == 'features' else self)._claim(*slots)
        follow_ups = self.follow_ups
        if on == 'features':
            clean: dict[str, Any] = {
                'epochs': 0,
                'batch_size': None,
                'sampler': None,
                'augmentation': {},
                'bn': 'eval',
                'seed': 0,
            }
            follow_ups = (*follow_ups, ('features', clean))
        step_config: dict[str, Any] = {'step': step}
        step_config['choose'] = {key: list(values) for key, values in (choose or {}).items()}
        if views:
            step_config['views'] = list(views)
        return replace(plan, follow_ups=(*follow_ups, ('posthoc', step_config)))

    # ---- for the engine

    @property
    def notes(self) -> list[str]:
        """What a user should know about this plan."""
        epochs = self.settings['recipe']['epochs']
        late = {', '.join(change) for share, change in self.changes if round(share * epochs) >= epochs}
        notes = [
            f'{slots} would change after the last of {epochs} epochs, so nothing changes' for slots in sorted(late)
        ]
        if any(config.get('views') for kind, config in self.follow_ups if kind == 'posthoc'):
            notes.append('the post-hoc step learns from the test images, without their labels: it is transductive')
        history = [stage for stage in self.stages() if stage.kind == 'train'][-1].config['history']
        partner_sampler = self.settings['partner_sampler']
        for slot, words in _FAVOURING.items():
            if any(
                _corrects_prior(in_force['loss'])
                and {**in_force, 'partner_sampler': partner_sampler}[slot] not in _FAVOURING_NONE
                for in_force in history
            ):
                notes.append(
                    f'the loss corrects for class frequencies, and so {words}: rare classes are favoured twice'
                )
        return notes

    @property
    def data(self) -> str:
        """Fingerprint of the images and labels."""
        return self.settings['data']['fingerprint']

    def stages(self) -> list[Stage]:
        """The plan's stages in order; the last one holds the run's logits."""
        settings = dict(self.settings)
        self._check_devices()
        epochs = settings['recipe']['epochs']
        in_force = {slot: settings.pop(slot) for slot in CHANGEABLE}
        history: list[dict[str, Any]] = []
        for share, change in (*sorted(self.changes, key=lambda item: item[0]), (1.0, {})):
            epoch = round(share * epochs)
            if epoch > 0 and (not history or history[-1]['until'] < epoch):
                if history and {**history[-1], 'until': None} == {**in_force, 'until': None}:
                    history.pop()
                history.append({'until': epoch, **in_force})
            in_force = {**in_force, **change}
        stages: list[Stage] = []
        for length in range(1, len(history) + 1):
            previous = stages[-1] if stages else None
            config = {**settings, 'history': history[:length]}
            stages.append(Stage('train', config, starts_from=previous, teacher=self.teacher))
        for number, (kind, declared) in enumerate(self.follow_ups):
            tuned_on = None
            config = {**declared}
            for entry in ('batch_size', 'augmentation'):  # where not declared: the recipe's, after all methods
                if entry in config and config[entry] is None:
                    config[entry] = settings['recipe'][entry]
            if config.get('choose'):
                held_out = self if self.benchmark.has_validation else self._without(HOLDOUT_SHARE)
                tuned_on = replace(held_out, follow_ups=self.follow_ups[:number]).stages()[-1]
            stages.append(Stage(kind, config, needs=stages[-1], tuned_on=tuned_on))
        return stages

    def _check_devices(self) -> None:
        """Refuse what would give other results for a batch on several devices than on one."""
        devices, objective = self.settings['recipe']['devices'], self.settings['objective']
        together = objective is not None and not lookup(MODELS, objective['type']).separable
        weighted = any(
            change.get('class_weights') for change in (self.settings, *(change for _, change in self.changes))
        )
        wanted_by = {
            'objective': together,
            'update': self.settings['update'] is not None,
            # a device's share of the weights differs from its share of the second stream, and of unweighted terms
            'partner_sampler': weighted and self.settings['partner_sampler'] is not None,
            'teach': weighted and self.teacher is not None,
        }
        for slot, wanted in wanted_by.items():
            if devices > 1 and wanted:
                raise UsageError(
                    f'{self.claims.get(slot, slot)} works on a whole batch at once, which cannot be divided among '
                    f'{devices} devices; use devices=1'
                )

    def _before_posthoc(self) -> Plan:
        if 'post-hoc step' in self.claims:
            earlier = self.claims['post-hoc step']
            raise UsageError(f'{earlier}+{self.author}: a post-hoc step comes last; write {self.author}+{earlier}')
        return self

    def _of_one_network(self) -> Plan:
        experts = self.settings['backbone'].get('experts', 1)
        if experts > 1:
            raise _no_single_head(self.author, self.claims.get('backbone', self.benchmark.name), experts)
        return self

    def _without(self, share: float) -> Plan:
        """The same plan, trained without a held-out part of the training set; its teacher, too."""
        settings = {**self.settings, 'data': {**self.settings['data'], 'holdout': share}}
        if self.teacher is None:
            return replace(self, settings=settings)
        teacher = _stage_without(self.teacher, share)
        return replace(self, settings={**settings, 'teach': teacher.fingerprint}, teacher=teacher)

    def _claim(self, *slots: str) -> Plan:
        for slot in slots:
            if slot in self.claims:
                raise UsageError(
                    f'{self.claims[slot]} and {self.author} cannot be combined: both set the {slot.replace("_", " ")}'
                )
        return replace(self, claims={**self.claims, **dict.fromkeys(slots, self.author)})


@dataclass(frozen=True)
class Cut:
    """A plan cut at a share of its epochs; :meth:`after` says what changes there."""

    plan: Plan
    at: float

    def after(self, **slots: Mapping[str, Any]) -> Plan:
        """Use other parts from the cut on; optimizer and schedule state carry over."""
        _only(slots, CHANGEABLE, 'slot that can change during training')
        plan = self.plan._claim(*(f'{slot} after the cut' for slot in slots))
        return replace(plan, changes=(*self.plan.changes, (self.at, slots)))


def _stage_without(stage: Stage, share: float) -> Stage:
    """The same stage and those that it depends on, trained without a held-out part of the training set."""
    config = stage.config
    others = {name: parent and _stage_without(parent, share) for name, parent in stage.named_parents().items()}
    if stage.kind == 'train':
        config = {**config, 'data': {**config['data'], 'holdout': share}}
    if (teacher := others['teacher']) is not None:
        config = {**config, 'teach': teacher.fingerprint}
    return Stage(stage.kind, config, **others)


def _no_single_head(step: str, owner: str, experts: int) -> UsageError:
    return UsageError(
        f'{step} and {owner} cannot be combined: {step} works on the features of one network, '
        f'and the {experts} experts of {owner} have separate features'
    )


def _corrects_prior(loss: Mapping[str, Any]) -> bool:
    return getattr(MODELS.get(loss['type']), 'corrects_prior', False)


def _merged(old: Any, new: Any) -> Any:
    """A dict updated with another one, and likewise the dicts inside of both; other values are replaced."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def _only(given: Mapping[str, Any], allowed: Any, noun: str) -> None:
    for key in given:
        if key not in allowed:
            raise unknown(noun, key, allowed)
