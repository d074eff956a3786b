"""The contract of a method, as automatic checks; `ltbench check` runs them on any method.

Each check takes a method's name and raises BrokenContractError, or the method's own exception, if the method fails it.
They train for three epochs on a hundred real images, so a method is checked in seconds.
"""

from __future__ import annotations

import ast
import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ltbench import plugins
from ltbench.benchmark import Benchmark, load_benchmark
from ltbench.data import LongTailData, Split, load_data
from ltbench.data.batches import ResidentDataset
from ltbench.engine import hooks
from ltbench.engine.job import Runtime, StageContext
from ltbench.engine.networks import build_model, load_trained
from ltbench.engine.optim import build_optimizer
from ltbench.engine.outputs import predict
from ltbench.engine.train import equip
from ltbench.engine.worker import CARRY_OUT, noted
from ltbench.errors import DataError
from ltbench.grid.graph import Graph, Run
from ltbench.method import Method, Option, make_plan
from ltbench.models.classifier import build_loss
from ltbench.models.losses import Loss
from ltbench.models.objective import Teacher
from ltbench.registry import METHODS, lookup
from ltbench.spec import Spec, Specs
from ltbench.stage import Stage
from ltbench.store import Store

SMALL = {
    'n_max': 30,
    'imbalance_factor': 10,
    'test_per_class': 10,
    'epochs': 3,
    'batch_size': 32,
    'recipe.optimizer.lr': 0.05,
}


UNFINISHED = 'TODO'
"""Marks what the user has to fill in, in the template of `ltbench new`."""


class BrokenContractError(Exception):
    """A method does not keep the contract. Not an assertion, since ``python -O`` skips those."""


def check_says_what_it_is(name: str) -> None:
    """The docstring begins with one line and names a source; no docstring in the file contains TODO."""
    method = lookup(METHODS, name)
    doc = inspect.getdoc(method) or ''
    _must(doc, 'it has no docstring')
    _must(doc.splitlines()[0].endswith('.'), f'the docstring begins with more than one line: {doc.splitlines()[0]!r}')
    _must(name == 'erm' or 'http' in doc or '(' in doc, 'the docstring names no source')
    for line, text in _docstrings(Path(inspect.getfile(method))):
        _must(UNFINISHED not in text, f'a docstring still says {UNFINISHED} ({inspect.getfile(method)}:{line})')


def check_has_a_plan(name: str) -> None:
    """A plan can be made for it on a benchmark."""
    for stage in _run(name).stages:
        _must(stage.fingerprint, f'the {stage.kind} stage has no fingerprint')


def check_travels_as_plain_data(name: str) -> None:
    """Every stage is unchanged after it is written as JSON and read back."""
    for stage in _run(name).stages:
        again = Stage.from_json(json.loads(json.dumps(stage.to_json())))
        _must(again.fingerprint == stage.fingerprint, f'the {stage.kind} stage changes when it is written as JSON')


def check_loss_and_gradients_are_finite(name: str) -> None:
    """In every part of training, for every trainable parameter."""
    for model, batch in _models(name):
        model.forward(**batch, mode='loss')['loss'].backward()
        for parameter_name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise BrokenContractError(f'{parameter_name} gets no gradient')
            if parameter.grad is not None:
                finite = bool(torch.isfinite(parameter.grad).all())
                _must(finite, f'the gradient of {parameter_name} is not finite')


def check_loss_falls(name: str) -> None:
    """Twenty steps on one real batch lower the loss."""
    model, batch = next(_models(name))
    optimizer = build_optimizer(model, {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9})
    losses = []
    for _ in range(20):
        loss = model.forward(**batch, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    _must(np.mean(losses[-4:]) < np.mean(losses[:2]), f'the loss went from {losses[0]:.3f} to {losses[-1]:.3f}')


def check_class_counts_reach_it(name: str) -> None:
    """Every loss is built with the counts of the training images, and rejects a class without any."""
    counts = load_data(_benchmark().data).class_counts
    for config in _loss_configs(_run(name)):
        loss = build_loss(config['loss'], config['class_weights'], counts)
        if isinstance(loss, Loss):
            found = loss.class_counts.tolist()
            _must(found == counts, f'{type(loss).__name__} has class_counts {found}, the training images {counts}')
            try:
                build_loss(config['loss'], config['class_weights'], [*counts[:-1], 0])
            except DataError as error:
                _must(str(len(counts) - 1) in str(error), f'the error does not name the empty class: {error}')
            else:
                raise BrokenContractError(f'{type(loss).__name__} accepts a class without training images')


def check_seed_decides(name: str) -> None:
    """The same seed gives the same logits bit for bit, another seed gives others."""
    first, again, other = (_logits(_run(name, seed=seed)) for seed in (0, 0, 1))
    _must(np.array_equal(first, again), 'two runs with one seed differ')
    _must(not np.array_equal(first, other), 'the seed changes nothing')


def check_interrupted_equals_uninterrupted(name: str) -> None:
    """Killed after the first epoch of every training stage and continued: the same logits bit for bit."""
    with _dies_after_an_epoch():
        interrupted = _logits(_run(name), interrupted=True)
    _must(np.array_equal(interrupted, _logits(_run(name))), 'an interrupted run ends with other logits')


def check_state_loads_again(name: str) -> None:
    """The saved weights give the stored logits."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        run = _run(name)
        _carry_out(run, store)
        stage = next(stage for stage in run.stages if stage.kind == 'train' and stage.is_complete)
        context = StageContext(stage, store, Runtime())
        artifact = context.artifact_of(stage)
        model = load_trained(context, artifact)
        with np.load(artifact.path('test.npz')) as stored:
            logits = predict(model, model.data_preprocessor, context.data.test, {}).numpy()
            _must(np.allclose(logits, stored['logits'], atol=1e-5), 'the saved weights give other logits')


def check_every_option_acts(name: str) -> None:
    """Another value of any option changes the fingerprint and the logits."""
    plain = cache(lambda depth: _logits(_run(name, data={'depth': depth})))
    for key, option in _method(name).options().items():
        value = _other_value(option, _method(name)(_benchmark()).values[key])
        run = _run(name, **{key: value})
        _must(run.fingerprint != _run(name).fingerprint, f'{key}={value} does not change the fingerprint')
        for depth in (8, 14):  # sharing between layers has an effect only if there are several
            acts = not np.array_equal(_logits(_run(name, data={'depth': depth}, **{key: value})), plain(depth))
            if acts:
                break
        _must(acts, f'{key}={value} does not change the result')


def check_balanced_data_work(name: str) -> None:
    """Imbalance factor 1 gives finite logits."""
    logits = _logits(_run(name, data={'imbalance_factor': 1, 'n_max': 12}))
    _must(bool(np.isfinite(logits).all()), 'its logits are not all finite')


def check_a_class_with_one_image_works(name: str) -> None:
    """The rarest class may have a single image."""
    logits = _logits(_run(name, data={'imbalance_factor': 30}))
    _must(bool(np.isfinite(logits).all()), 'its logits are not all finite')


CHECKS: dict[str, Callable[[str], None]] = {
    name.removeprefix('check_'): function for name, function in list(globals().items()) if name.startswith('check_')
}


# ---------------------------------------------------------------------------------------------- helpers


def _must(condition: object, message: str) -> None:
    if not condition:
        raise BrokenContractError(message)


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring of a file."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def _method(name: str) -> type[Method]:
    plugins.load()
    return lookup(METHODS, name)


def _benchmark(**data: Any) -> Benchmark:
    return load_benchmark('digits_lt', overrides={**SMALL, **data})


def _run(name: str, seed: int = 0, data: dict[str, Any] | None = None, **options: Any) -> Run:
    benchmark = _benchmark(**(data or {}))
    if 'epochs' in _method(name).options():
        options = {'epochs': 3, **options}  # epochs of a second stage
    method = Specs([Spec(name, options)])
    return Run(benchmark, method, seed, make_plan(method, benchmark, load_data(benchmark.data).fingerprint, seed))


def _carry_out(run: Run, store: Store, interrupted: bool = False) -> None:
    """Carry out every stage of a run in this process, so that exceptions of the method arrive unchanged."""
    for stage in Graph([run]).stages.values():
        if interrupted and stage.kind == 'train' and stage.end - stage.begin > 1:
            try:
                _carry_out_stage(stage, store, checkpoint_seconds=0)
            except _Death:
                pass
            else:
                raise BrokenContractError('training ended before it could be interrupted')
        _carry_out_stage(stage, store)


def _carry_out_stage(stage: Stage, store: Store, checkpoint_seconds: float = 60) -> None:
    claim = store.claim(stage.fingerprint)
    if claim is None:
        raise BrokenContractError(f'another process is working on the {stage.kind} stage')
    try:
        context = StageContext(stage, store, Runtime(device='cpu', checkpoint_seconds=checkpoint_seconds))
        with noted(context.warnings):
            CARRY_OUT[stage.kind](context)
    finally:
        claim.release()
    store.finish_work(stage.fingerprint)


def _logits(run: Run, interrupted: bool = False) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        _carry_out(run, store, interrupted)
        artifact = store.find(run.fingerprint)
        if artifact is None:
            raise BrokenContractError('its last stage stores no artifact')
        with np.load(artifact.path('test.npz')) as outputs:
            return outputs['logits']


def _models(name: str) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The network with the loss of each part of training, and a real batch."""
    for stage in _run(name).stages:
        if stage.kind == 'train':
            context = StageContext(replace(stage, teacher=None), Store('unused'), Runtime(device='cpu'))
            model = build_model(context)
            equip(model, context)
            if stage.teacher is not None:  # nothing is trained here: any network can be the teacher
                model.teacher = Teacher(build_model(context))
            model.train()
            model.data_preprocessor.set_epoch(0)
            yield (
                model,
                model.data_preprocessor(_batch(context.data, bool(stage.config['partner_sampler'])), training=True),
            )


def _batch(data: LongTailData, paired: bool = False) -> dict[str, torch.Tensor]:
    images = cast(Split, data.train)  # digits are held in memory
    chosen = list(range(0, len(images), max(len(images) // 32, 1)))
    return ResidentDataset(images).__getitems__(list(zip(chosen, chosen[::-1], strict=True)) if paired else chosen)


def _loss_configs(run: Run) -> Iterator[dict[str, Any]]:
    for stage in run.stages:
        if stage.kind == 'train':
            yield stage.config['history'][-1]
        elif stage.kind == 'head':
            yield dict(stage.config)


def _other_value(option: Option, value: Any) -> Any:
    if option.choices is not None:
        return next(choice for choice in option.choices if choice != value)
    if isinstance(value, bool):
        return not value
    if value in METHODS.module_dict:  # it names another method
        return next(name for name in METHODS.module_dict if name != value)
    if isinstance(value, str):
        return option.between[0] + 0.4 if option.between else value + '_'
    if isinstance(value, int):
        return value + 1
    low, high = option.between or (-np.inf, np.inf)
    return next(
        other for other in (value / 2, value * 2, value + 0.25, value - 0.25) if other != value and low <= other <= high
    )


class _Death(BaseException):
    """Not an Exception, so that no code in between catches it or cleans up."""


@contextmanager
def _dies_after_an_epoch() -> Iterator[None]:
    """Let each training stage die once, after its first saved epoch."""
    save = hooks.Checkpoints.after_train_epoch
    died: set[str] = set()

    def save_and_die(self: hooks.Checkpoints, runner: Any) -> None:
        save(self, runner)
        stage = self.context.stage
        if stage.kind == 'train' and stage.fingerprint not in died and runner.epoch + 1 < stage.end:
            died.add(stage.fingerprint)
            raise _Death

    hooks.Checkpoints.after_train_epoch = save_and_die  # type: ignore[method-assign]
    try:
        yield
    finally:
        hooks.Checkpoints.after_train_epoch = save  # type: ignore[method-assign]
