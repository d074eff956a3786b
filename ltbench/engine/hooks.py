"""mmengine hooks of the stages that train: seeds, learning rate, what is logged, what is saved."""

from __future__ import annotations

import io
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook

from ltbench.engine.distributed import bare
from ltbench.engine.environment import Meter
from ltbench.engine.fit import StageRunner
from ltbench.engine.job import StageContext, StoppedError
from ltbench.engine.optim import ScaledSteps, build_optimizer, can_fuse, learning_rate, set_learning_rate
from ltbench.engine.outputs import NonFiniteError, evaluated_splits, predict
from ltbench.engine.probing import followed
from ltbench.errors import UsageError, given, unknown
from ltbench.evaluation import evaluate
from ltbench.fingerprint import canonical
from ltbench.models.classifier import build_loss
from ltbench.models.objective import Average
from ltbench.sealed import DamagedFileError, explained, read_blob, remove, write_blob
from ltbench.seeding import derive_seed

LOGGER = logging.getLogger('ltbench')
SCORES = ('top1', 'many', 'medium', 'few')  # computed during training
SAVING_SHARE = 50  # training takes at least this many times longer than saving its state


class EpochStart(Hook):
    """Derive everything random in an epoch from (run seed, epoch), and set its learning rate.

    Args:
        seed: The run seed.
        schedule: See :func:`~ltbench.engine.optim.learning_rate`.
        lr: The base rate.
        epochs: All epochs of the schedule.
    """

    priority = 'VERY_HIGH'

    def __init__(self, seed: int, schedule: Mapping[str, Any], lr: float, epochs: int) -> None:
        self.seed, self.schedule, self.lr, self.epochs = seed, schedule, lr, epochs

    def before_train_epoch(self, runner: StageRunner) -> None:
        """Seed the global generators and everything that has ``set_epoch``."""
        seed = derive_seed(self.seed, runner.epoch, 'global') % 2**32
        _seed_generators(seed + get_rank())  # several processes must not drop out the same units
        model = bare(runner.model)
        for part in (model.data_preprocessor, model.mixing, runner.train_dataloader.sampler):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(runner.epoch)
        for part in (model.loss, model.objective):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(runner.epoch, self.epochs)
        lr = learning_rate(self.schedule, self.lr, runner.epoch, self.epochs)
        set_learning_rate(runner.optim_wrapper.optimizer, lr)


def _seed_generators(seed: int) -> None:
    """Like mmengine's ``set_random_seed``, which checks every kind of device: a millisecond per epoch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class Curve(Hook):
    """Mean training loss and accuracy of every epoch, summed on the device and read once an epoch.

    Also the values that modules of the network report by ``followed()``, see :func:`~ltbench.engine.probing.followed`.

    Raises:
        NonFiniteError: After an epoch whose loss is NaN or infinite.
    """

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.epochs: list[dict[str, float]] = []

    def before_train_epoch(self, runner: StageRunner) -> None:
        """Start the sums."""
        self.loss, self.correct = torch.zeros(2, device=self.context.device)
        self.images = 0

    def after_train_iter(
        self, runner: StageRunner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Add a batch."""
        outputs = given(outputs)
        batch = outputs.get('images', len(data_batch['labels']))
        # detached, otherwise the sum keeps the graphs of all steps: two gigabytes per epoch
        self.loss.add_(outputs['loss'].detach(), alpha=batch)
        self.correct.add_(outputs['correct'])
        self.images += batch

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Read the sums and report progress."""
        sums = torch.stack([self.loss, self.correct, self.loss.new_tensor(self.images)])
        all_reduce(sums)
        loss, correct, images = sums.tolist()
        if not math.isfinite(loss):
            raise NonFiniteError(f'the loss became {loss} in epoch {runner.epoch}')
        lr = runner.optim_wrapper.optimizer.param_groups[0]['lr']
        values = {'loss': loss / images, 'accuracy': 100 * correct / images, 'lr': lr}
        extra = followed(bare(runner.model))
        if taken := extra.keys() & {'epoch', *values}:
            raise UsageError(f'followed() of a module uses the reserved name {min(taken)}; rename that value')
        values |= {name: value for name, value in extra.items() if math.isfinite(value)}
        self.epochs.append({'epoch': runner.epoch, **{key: float(f'{value:.6g}') for key, value in values.items()}})
        self.context.progress(runner.epoch + 1, runner.max_epochs, **values)
        shown = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
        LOGGER.info('epoch %d/%d  %s', runner.epoch + 1, runner.max_epochs, shown)


class Scores(Hook):
    """Score the network during training, for curves: selects nothing, changes no bit of training, is not timed.

    An epoch whose logits are not all finite (BN statistics that have not settled yet) has no score.

    Args:
        context: The stage.
        curve: Gets ``test_top1``, ``test_many``, ... (and ``validation_...`` where there is such a part), in percent.
        checkpoints: Has the meter to pause.
    """

    priority = 'LOW'  # after the curve, before the checkpoint that holds it

    def __init__(self, context: StageContext, curve: Curve, checkpoints: Checkpoints) -> None:
        self.context, self.curve, self.checkpoints = context, curve, checkpoints

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Score every ``eval_every`` epochs."""
        due = (runner.epoch + 1) % given(self.context.runtime.eval_every) == 0
        if self.context.share.rank > 0 or not due or self.context.stop_requested.is_set():
            return
        model, data = bare(runner.model), self.context.data
        augmentation = self.context.config['recipe']['augmentation']
        with self.checkpoints.meter.paused():
            for name, split in evaluated_splits(data).items():
                logits = predict(model, model.data_preprocessor, split, augmentation, self.context.loader_workers)
                if not torch.isfinite(logits).all():
                    continue
                metrics = evaluate(logits.numpy(), np.asarray(split.labels), data.class_counts)
                known = {score: metrics[score] for score in SCORES if metrics[score] is not None}
                self.curve.epochs[-1] |= {f'{name}_{score}': float(f'{v:.6g}') for score, v in known.items()}


class Constrained(Hook):
    """Keep weights within a constraint: before the first step and after each step, or only after each epoch.

    Args:
        constraint: Called without arguments.
        every: ``'step'`` or ``'epoch'``.

    Raises:
        UsageError: For another ``every``.
    """

    def __init__(self, constraint: Callable[[], None], every: str = 'step') -> None:
        if every not in ('step', 'epoch'):
            raise unknown('every of a constraint', every, ('step', 'epoch'))
        self.constraint, self.every = constraint, every

    def before_train(self, runner: StageRunner) -> None:
        """Apply it before the first step."""
        if self.every == 'step':
            self.constraint()

    def after_train_iter(
        self, runner: StageRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Apply it after a step."""
        if self.every == 'step':
            self.constraint()

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Apply it after an epoch."""
        if self.every == 'epoch':
            self.constraint()


class FrozenBackboneStatistics(Hook):
    """BN layers of the backbone use their running statistics, which stay fixed, while other parts are trained."""

    def before_train_iter(self, runner: StageRunner, batch_idx: int, data_batch: Any = None) -> None:
        """mmengine puts the whole model into training mode at each epoch."""
        bare(runner.model).backbone.eval()


class Averaged(Hook):
    """Keep a running average of the network during its training.

    Args:
        average: Decides what is averaged, and when.
    """

    def __init__(self, average: Average) -> None:
        self.average = average

    def after_train_iter(
        self, runner: StageRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """After a step."""
        self.average.after_step(list(bare(runner.model).network_state().items()))

    def after_train_epoch(self, runner: StageRunner) -> None:
        """After an epoch."""
        self.average.after_epoch(list(bare(runner.model).network_state().items()), runner.epoch)


class Checkpoints(Hook):
    """Resume training where it stopped; save the state at epoch boundaries, keeping the last two files.

    Saved files hold tensors and plain values only and load with ``weights_only=True``. A file that is damaged, or from
    another stage, is renamed and reported, and the one before it is used.

    The state of a loss is saved with the network. It continues as long as the loss does; where a cut brings another
    loss, that one starts fresh, with fresh optimizer state, and the network's optimizer state continues.
    """

    priority = 'VERY_LOW'

    def __init__(
        self, context: StageContext, curve: Curve, start: Path | None = None, average: Average | None = None
    ) -> None:
        self.context, self.curve, self.start, self.average = context, curve, start, average
        self.next_save = time.monotonic() + context.runtime.checkpoint_seconds
        self.meter = Meter()

    def before_train(self, runner: StageRunner) -> None:
        """Load the latest state: of this stage, or the one it starts from."""
        for path in self._files():
            try:
                saved = read_blob(path, 'checkpoint', self.context.stage.fingerprint)
            except (DamagedFileError, FileNotFoundError) as error:
                LOGGER.warning('%s; renamed, and the one before it is used', error)
                path.replace(path.with_suffix('.damaged'))
                continue
            state = torch.load(io.BytesIO(saved), map_location=self.context.device, weights_only=True)
            if state['epoch'] < self.context.stage.begin:  # older than the state that this stage starts from
                continue
            self.meter = Meter(state['spent'])
            break
        else:
            if self.start is None:
                return
            state = torch.load(self.start, map_location=self.context.device, weights_only=True)
        model, loss = bare(runner.model), self._other_loss_before(state['epoch'])
        model.load_network(state['model'])
        if loss is None:
            # older states lack the entry; a loss with anything to load then fails here
            model.loss.load_state_dict(state.get('loss', {}))
            runner.optim_wrapper.load_state_dict(state['optimizer'])
        else:
            self._carry_over(model, runner.optim_wrapper.optimizer, state['optimizer'], loss)
            if isinstance(runner.optim_wrapper, ScaledSteps):
                runner.optim_wrapper.load_scaler(state['optimizer'])
        if model.objective is not None:
            model.objective.load_state_dict(state['objective'])
        if self.average is not None:
            self.average.load_state_dict(state['average'])
        runner.train_loop.resume_from(state['epoch'], state['iteration'])
        self.curve.epochs = state['curve']
        self.context.first_epoch = state['epoch']
        LOGGER.info('continuing from epoch %d', state['epoch'])

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Save if the last time was long enough ago: saving takes at most a fiftieth of the time.

        Raises:
            StoppedError: If the worker was asked to stop; the state is then saved in any case.
        """
        done, start, stop = runner.epoch + 1, time.monotonic(), self.context.stop_requested.is_set()
        if self.context.share.rank == 0 and done < runner.max_epochs and (stop or start >= self.next_save):
            state = {**self.state(runner, done, runner.iter), 'spent': self.meter.read()}
            buffer = io.BytesIO()
            torch.save(state, buffer)
            with explained('a checkpoint', self.context.store.root):
                path = self.context.folder / f'epoch_{done:05d}.pt'
                write_blob(path, 'checkpoint', self.context.stage.fingerprint, buffer.getvalue())
            for path in self._files()[2:]:
                remove(path)
            took = time.monotonic() - start
            self.next_save = start + took + max(self.context.runtime.checkpoint_seconds, SAVING_SHARE * took)
            if stop:
                raise StoppedError(f'asked to stop: saved after epoch {done}')

    def state(self, runner: StageRunner, epoch: int, iteration: int) -> dict[str, Any]:
        """Everything that training continues from: epochs done, network, loss, optimizer, curve so far; objective and
        average if the plan has them."""
        model = bare(runner.model)
        optional = {} if model.objective is None else {'objective': model.objective.state_dict()}
        if self.average is not None:
            optional['average'] = self.average.state_dict()
        return {
            **optional,
            'epoch': epoch,
            'iteration': iteration,
            'model': model.network_state(),
            'loss': model.loss.state_dict(),
            'optimizer': runner.optim_wrapper.state_dict(),
            'curve': self.curve.epochs,
        }

    def _other_loss_before(self, epoch: int) -> Mapping[str, Any] | None:
        """The config of the loss that a state after ``epoch`` epochs was saved with, if this stage has another one."""
        history = self.context.config.get('history')
        if history is None:  # a head has one loss
            return None
        before = next(in_force['loss'] for in_force in history if in_force['until'] >= epoch)
        return None if canonical(before) == canonical(history[-1]['loss']) else before

    def _carry_over(
        self, model: Any, optimizer: torch.optim.Optimizer, saved: dict[str, Any], loss: Mapping[str, Any]
    ) -> None:
        """Give the network's parameters the optimizer state that they had under another loss.

        A file numbers the parameters, including those of the loss. So an optimizer with the loss that it was saved with
        reads the file, and each parameter of the network then gets its own state.
        """
        new, counts = model.loss, self.context.data.class_counts
        model.loss = build_loss(loss, None, counts).to(self.context.device)
        earlier = build_optimizer(
            model, self.context.config['recipe']['optimizer'], fused=can_fuse(self.context.precision)
        )
        model.loss = new
        earlier.load_state_dict(saved)
        network = set(model.parameters())
        optimizer.state.update({part: state for part, state in earlier.state.items() if part in network})

    def _files(self) -> list[Path]:
        """Saved states, newest first."""
        return sorted(self.context.folder.glob('epoch_*.pt'), reverse=True)
