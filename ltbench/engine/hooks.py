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
from ltbench.engine.job import LeftError, StageContext
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
SCORES = ('top1', 'many', 'medium', 'few')  # on the way
SAVING_SHARE = 50  # training takes at least so many times longer than saving its state


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
    """As mmengine's ``set_random_seed``, which asks for every kind of device, a millisecond an epoch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class Curve(Hook):
    """Mean training loss and accuracy of every epoch, summed on the device and read once an epoch.

    Beside them what the network's modules want to be followed.

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
        # detached, else the graphs of all steps live on in the sum: two gigabytes an epoch
        self.loss.add_(outputs['loss'].detach(), alpha=batch)
        self.correct.add_(outputs['correct'])
        self.images += batch

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Read the sums and tell how far we are."""
        sums = torch.stack([self.loss, self.correct, self.loss.new_tensor(self.images)])
        all_reduce(sums)
        loss, correct, images = sums.tolist()
        if not math.isfinite(loss):
            raise NonFiniteError(f'the loss became {loss} in epoch {runner.epoch}')
        lr = runner.optim_wrapper.optimizer.param_groups[0]['lr']
        values = {'loss': loss / images, 'accuracy': 100 * correct / images, 'lr': lr}
        beside = followed(bare(runner.model))
        if taken := beside.keys() & {'epoch', *values}:
            raise UsageError(f'a module calls a value that it wants to be followed {min(taken)}; call it otherwise')
        values |= {name: value for name, value in beside.items() if math.isfinite(value)}
        self.epochs.append({'epoch': runner.epoch, **{key: float(f'{value:.6g}') for key, value in values.items()}})
        self.context.progress(runner.epoch + 1, runner.max_epochs, **values)
        shown = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
        LOGGER.info('epoch %d/%d  %s', runner.epoch + 1, runner.max_epochs, shown)


class Scores(Hook):
    """Score the network on the way, for curves: selects nothing, changes no bit of training, is no part of its seconds.

    A network whose logits are not all finite on the way (statistics of BN that are still wild) has no score there.

    Args:
        context: The stage.
        curve: Gets ``test_top1``, ``test_many``, ... (and ``validation_...`` where there is such a part), in percent.
        checkpoints: Have the meter.
    """

    priority = 'LOW'  # after the curve, before the checkpoint that holds it

    def __init__(self, context: StageContext, curve: Curve, checkpoints: Checkpoints) -> None:
        self.context, self.curve, self.checkpoints = context, curve, checkpoints

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Score if it is time."""
        due = (runner.epoch + 1) % given(self.context.runtime.eval_every) == 0
        if self.context.share.rank > 0 or not due or self.context.told_to_leave.is_set():
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
    """Hold weights within a constraint, from before the first step on and after each; or return to it after epochs.

    Args:
        constraint: Called without arguments.
        every: ``'step'`` or ``'epoch'``.

    Raises:
        UsageError: For another word.
    """

    def __init__(self, constraint: Callable[[], None], every: str = 'step') -> None:
        if every not in ('step', 'epoch'):
            raise unknown('every of a constraint', every, ('step', 'epoch'))
        self.constraint, self.every = constraint, every

    def before_train(self, runner: StageRunner) -> None:
        """Begin within it."""
        if self.every == 'step':
            self.constraint()

    def after_train_iter(
        self, runner: StageRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Return to it after a step."""
        if self.every == 'step':
            self.constraint()

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Return to it after an epoch."""
        if self.every == 'epoch':
            self.constraint()


class StillBackbone(Hook):
    """BN layers of the backbone normalise by their running statistics, which stay, while other parts are trained."""

    def before_train_iter(self, runner: StageRunner, batch_idx: int, data_batch: Any = None) -> None:
        """mmengine puts the whole model into training mode at each epoch."""
        bare(runner.model).backbone.eval()


class Averaged(Hook):
    """Keep a running average of the network beside its training.

    Args:
        average: What goes into it, and when.
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
    """Take up training where it was left; save the state at epoch boundaries, keeping the last two files.

    Saved files hold tensors and plain values only and load with ``weights_only=True``. One that is damaged, or of
    another stage, is set aside and named, and the one before it is taken.

    What a loss has learned is kept beside the network. It goes on where the loss does; where a cut brings another loss,
    that one begins fresh, with fresh optimizer state, and the network's optimizer state goes on.
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
                LOGGER.warning('%s; set aside, and the one before it is taken', error)
                path.replace(path.with_suffix('.damaged'))
                continue
            state = torch.load(io.BytesIO(saved), map_location=self.context.device, weights_only=True)
            if state['epoch'] < self.context.stage.begin:  # saved before there was that much to start from
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
            # states saved before losses were kept apart lack the entry; a loss with anything to load then fails here
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
        runner.train_loop.go_on_from(state['epoch'], state['iteration'])
        self.curve.epochs = state['curve']
        self.context.first_epoch = state['epoch']
        LOGGER.info('continuing from epoch %d', state['epoch'])

    def after_train_epoch(self, runner: StageRunner) -> None:
        """Save if the last time was long enough ago: saving takes at most a fiftieth of the time.

        Raises:
            LeftError: If the worker is to leave; the state is saved then in any case.
        """
        done, start, leave = runner.epoch + 1, time.monotonic(), self.context.told_to_leave.is_set()
        if self.context.share.rank == 0 and done < runner.max_epochs and (leave or start >= self.next_save):
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
            if leave:
                raise LeftError(f'told to leave: saved after epoch {done}')

    def state(self, runner: StageRunner, epoch: int, iteration: int) -> dict[str, Any]:
        """Everything that training goes on from: epochs done, network, loss, optimizer, curve so far; and what the plan
        has of an objective and an average."""
        model = bare(runner.model)
        beside = {} if model.objective is None else {'objective': model.objective.state_dict()}
        if self.average is not None:
            beside['average'] = self.average.state_dict()
        return {
            **beside,
            'epoch': epoch,
            'iteration': iteration,
            'model': model.network_state(),
            'loss': model.loss.state_dict(),
            'optimizer': runner.optim_wrapper.state_dict(),
            'curve': self.curve.epochs,
        }

    def _other_loss_before(self, epoch: int) -> Mapping[str, Any] | None:
        """The config of the loss that a state was saved with after ``epoch`` epochs, where this stage has another."""
        history = self.context.config.get('history')
        if history is None:  # a head has one loss
            return None
        before = next(in_force['loss'] for in_force in history if in_force['until'] >= epoch)
        return None if canonical(before) == canonical(history[-1]['loss']) else before

    def _carry_over(
        self, model: Any, optimizer: torch.optim.Optimizer, saved: dict[str, Any], loss: Mapping[str, Any]
    ) -> None:
        """Give the network's parameters the optimizer state that they had under another loss.

        A file numbers the parameters, those of the loss among them. So it is read by an optimizer that has the loss it
        was saved with, and each parameter of the network then keeps its own.
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
