"""mmengine hooks of the ``train`` stage: seeds, learning rate, what is logged, what is saved."""

from __future__ import annotations

import io
import logging
import math
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ltbench.engine.analysis import bn_scale
from ltbench.engine.distributed import bare
from ltbench.engine.environment import Meter
from ltbench.engine.job import LeftError, Workbench
from ltbench.engine.optim import build_optimizer, learning_rate, set_learning_rate
from ltbench.engine.outputs import NonFiniteError, evaluated_splits, predict
from ltbench.evaluation import evaluate
from ltbench.fingerprint import canonical
from ltbench.models.classifier import build_loss
from ltbench.sealed import DamagedFileError, explained, read_blob, remove, write_blob
from ltbench.seeding import derive_seed

LOGGER = logging.getLogger('ltbench')
SCORES = ('top1', 'many', 'medium', 'few')  # on the way
SAVING_SHARE = 50  # training takes at least so many times longer than saving its state


class EpochStart(Hook):
    """Derive everything random in an epoch from (run seed, epoch), and set its learning rate."""

    priority = 'VERY_HIGH'

    def __init__(self, seed: int, recipe: Mapping[str, Any]) -> None:
        self.seed, self.recipe = seed, recipe

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the global generators and everything that has ``set_epoch``."""
        seed = derive_seed(self.seed, runner.epoch, 'global') % 2**32
        _seed_generators(seed + get_rank())  # several processes must not drop out the same units
        model = bare(runner.model)
        for part in (model.data_preprocessor, model.loss, model.mixing, runner.train_dataloader.sampler):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(runner.epoch)
        lr = learning_rate(self.recipe['schedule'], self.recipe['optimizer']['lr'], runner.epoch, self.recipe['epochs'])
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

    Raises:
        NonFiniteError: After an epoch whose loss is NaN or infinite.
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.epochs: list[dict[str, float]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the sums."""
        self.loss, self.correct = torch.zeros(2, device=self.bench.device)
        self.images = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Add a batch."""
        assert outputs is not None
        batch = outputs.get('images', len(data_batch['labels']))
        # detached, else the graphs of all steps live on in the sum: two gigabytes an epoch
        self.loss.add_(outputs['loss'].detach(), alpha=batch)
        self.correct.add_(outputs['correct'])
        self.images += batch

    def after_train_epoch(self, runner: Runner) -> None:
        """Read the sums and tell how far we are."""
        sums = torch.stack([self.loss, self.correct, self.loss.new_tensor(self.images)])
        all_reduce(sums)
        loss, correct, images = sums.tolist()
        if not math.isfinite(loss):
            raise NonFiniteError(f'the loss became {loss} in epoch {runner.epoch}')
        lr = runner.optim_wrapper.optimizer.param_groups[0]['lr']
        values = {'loss': loss / images, 'accuracy': 100 * correct / images, 'lr': lr}
        scale = bn_scale(bare(runner.model))
        if scale is not None:
            values['bn_scale'] = scale
        self.epochs.append({'epoch': runner.epoch, **{key: float(f'{value:.6g}') for key, value in values.items()}})
        self.bench.progress(runner.epoch + 1, self.bench.stage.end, **values)
        shown = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
        LOGGER.info('epoch %d/%d  %s', runner.epoch + 1, self.bench.stage.end, shown)


class Scores(Hook):
    """Score the network on the way, for curves: selects nothing, changes no bit of training, is no part of its seconds.

    A network whose logits are not all finite on the way (statistics of BN that are still wild) has no score there.

    Args:
        bench: The stage.
        curve: Gets ``test_top1``, ``test_many``, ... (and ``validation_...`` where there is such a part), in percent.
        checkpoints: Have the meter.
    """

    priority = 'LOW'  # after the curve, before the checkpoint that holds it

    def __init__(self, bench: Workbench, curve: Curve, checkpoints: Checkpoints) -> None:
        self.bench, self.curve, self.checkpoints = bench, curve, checkpoints

    def after_train_epoch(self, runner: Runner) -> None:
        """Score if it is time."""
        assert self.bench.runtime.eval_every is not None
        due = (runner.epoch + 1) % self.bench.runtime.eval_every == 0
        if self.bench.share.rank > 0 or not due or self.bench.told_to_leave.is_set():
            return
        model, data = bare(runner.model), self.bench.data
        augmentation = self.bench.config['recipe']['augmentation']
        with self.checkpoints.meter.paused():
            for name, split in evaluated_splits(data).items():
                logits = predict(model, model.data_preprocessor, split, augmentation, self.bench.loader_workers)
                if not torch.isfinite(logits).all():
                    continue
                metrics = evaluate(logits.numpy(), np.asarray(split.labels), data.class_counts)
                known = {score: metrics[score] for score in SCORES if metrics[score] is not None}
                self.curve.epochs[-1] |= {f'{name}_{score}': float(f'{v:.6g}') for score, v in known.items()}


class Checkpoints(Hook):
    """Take up training where it was left; save the state at epoch boundaries, keeping the last two files.

    Saved files hold tensors and plain values only and load with ``weights_only=True``. One that is damaged, or of
    another stage, is set aside and named, and the one before it is taken.

    What a loss has learned is kept beside the network. It goes on where the loss does; where a cut brings another loss,
    that one begins fresh, with fresh optimizer state, and the network's optimizer state goes on.
    """

    priority = 'VERY_LOW'

    def __init__(self, bench: Workbench, curve: Curve, start: Path | None) -> None:
        self.bench, self.curve, self.start = bench, curve, start
        self.next_save = time.monotonic() + bench.runtime.checkpoint_seconds
        self.meter = Meter()

    def before_train(self, runner: Runner) -> None:
        """Load the newest state, else the one this stage starts from."""
        for path in self._files():
            try:
                saved = read_blob(path, 'checkpoint', self.bench.stage.fingerprint)
            except (DamagedFileError, FileNotFoundError) as error:
                LOGGER.warning('%s; set aside, and the one before it is taken', error)
                path.replace(path.with_suffix('.damaged'))
                continue
            state = torch.load(io.BytesIO(saved), map_location=self.bench.device, weights_only=True)
            self.meter = Meter(state['spent'])
            break
        else:
            if self.start is None:
                return
            state = torch.load(self.start, map_location=self.bench.device, weights_only=True)
        model, loss = bare(runner.model), self._other_loss_before(state['epoch'])
        model.load_network(state['model'])
        if loss is None:
            # states saved before losses were kept apart lack the entry; a loss with anything to load then fails here
            model.loss.load_state_dict(state.get('loss', {}))
            runner.optim_wrapper.load_state_dict(state['optimizer'])
        else:
            self._carry_over(model, runner.optim_wrapper.optimizer, state['optimizer'], loss)
        runner.train_loop._epoch, runner.train_loop._iter = state['epoch'], state['iteration']
        self.curve.epochs = state['curve']
        self.bench.first_epoch = state['epoch']
        LOGGER.info('continuing from epoch %d', state['epoch'])

    def after_train_epoch(self, runner: Runner) -> None:
        """Save if the last time was long enough ago: saving takes at most a fiftieth of the time.

        Raises:
            LeftError: If the worker is to leave; the state is saved then in any case.
        """
        done, start, leave = runner.epoch + 1, time.monotonic(), self.bench.told_to_leave.is_set()
        if self.bench.share.rank == 0 and done < self.bench.stage.end and (leave or start >= self.next_save):
            state = {**self.state(runner, done, runner.iter), 'spent': self.meter.read()}
            buffer = io.BytesIO()
            torch.save(state, buffer)
            with explained('a checkpoint', self.bench.store.root):
                path = self.bench.folder / f'epoch_{done:05d}.pt'
                write_blob(path, 'checkpoint', self.bench.stage.fingerprint, buffer.getvalue())
            for path in self._files()[2:]:
                remove(path)
            took = time.monotonic() - start
            self.next_save = start + took + max(self.bench.runtime.checkpoint_seconds, SAVING_SHARE * took)
            if leave:
                raise LeftError(f'told to leave: saved after epoch {done}')

    def state(self, runner: Runner, epoch: int, iteration: int) -> dict[str, Any]:
        """Everything that training goes on from: epochs done, network, loss, optimizer, curve so far."""
        model = bare(runner.model)
        return {
            'epoch': epoch,
            'iteration': iteration,
            'model': model.network_state(),
            'loss': model.loss.state_dict(),
            'optimizer': runner.optim_wrapper.state_dict(),
            'curve': self.curve.epochs,
        }

    def _other_loss_before(self, epoch: int) -> Mapping[str, Any] | None:
        """The config of the loss that a state was saved with after ``epoch`` epochs, where this stage has another."""
        history = self.bench.config['history']
        before = next(in_force['loss'] for in_force in history if in_force['until'] >= epoch)
        return None if canonical(before) == canonical(history[-1]['loss']) else before

    def _carry_over(
        self, model: Any, optimizer: torch.optim.Optimizer, saved: dict[str, Any], loss: Mapping[str, Any]
    ) -> None:
        """Give the network's parameters the optimizer state that they had under another loss.

        A file numbers the parameters, those of the loss among them. So it is read by an optimizer that has the loss it
        was saved with, and each parameter of the network then keeps its own.
        """
        new, counts = model.loss, self.bench.data.class_counts
        model.loss = build_loss(loss, None, counts).to(self.bench.device)
        earlier = build_optimizer(model, self.bench.config['recipe']['optimizer'], fused=True)
        model.loss = new
        earlier.load_state_dict(saved)
        network = set(model.parameters())
        optimizer.state.update({part: state for part, state in earlier.state.items() if part in network})

    def _files(self) -> list[Path]:
        """Saved states, newest first."""
        return sorted(self.bench.folder.glob('epoch_*.pt'), reverse=True)
