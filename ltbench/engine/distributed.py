"""One ``train`` stage over several processes, one per device: each batch is divided among them.

Every step sees the images, augmentation and effective batch that one process would see, and its gradient is that of the
mean loss over the whole batch, even if the parts differ in size. What differs from one process:

- BN normalises by the statistics of each process' own part, as the published multi-GPU recipes do; the running
  statistics are those of the first process.
- Mixed images (mixup, remix) find their partners within a part.

Because of these the number of devices is part of the recipe and of the fingerprint.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from typing import Any, cast

import torch
from mmengine.dist import all_reduce
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import nn

from ltbench.data.batches import BatchPreprocessor, Share
from ltbench.models.classifier import LongTailClassifier
from ltbench.models.losses import Loss


class DataParallel(MMDistributedDataParallel):
    """DDP whose gradient is that of the mean over the whole batch, whatever the sizes of its parts.

    Args:
        module: The network, with its preprocessor and loss.
    """

    def __init__(self, module: LongTailClassifier) -> None:
        device = next(module.parameters()).device
        super().__init__(module, device_ids=[device] if device.type == 'cuda' else None, broadcast_buffers=True)
        self.share: Share = cast(BatchPreprocessor, module.data_preprocessor).share

    def train_step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """One step; ``images`` in the result is the number of images of this process that count."""
        counts, labels = self.share.counts(data['whole']), data['labels']
        batch = self.module.data_preprocessor(data, training=True)
        with optim_wrapper.optim_context(self):
            outputs = self(**batch, mode='loss')
        loss = self.module.loss
        weight = loss.weight(batch['labels']) if isinstance(loss, Loss) else outputs['loss'].new_tensor(len(labels))
        weight = weight * counts
        total = weight.detach().clone()
        all_reduce(total)
        # DDP takes the mean of the gradients over the processes
        optim_wrapper.update_params(outputs['loss'] * (self.share.size * weight / total))
        return {
            'loss': outputs['loss'].detach(),
            'correct': outputs['correct'] * counts,
            'images': len(labels) * counts,
        }


def bare(model: nn.Module) -> Any:
    """The model without the wrapper for several processes."""
    return model.module if is_model_wrapper(model) else model


def join(share: Share, port: int, device: torch.device) -> None:
    """Join the processes that train together, with the same environment variables as ``torchrun``."""
    os.environ.update(
        RANK=str(share.rank), LOCAL_RANK=str(share.rank), WORLD_SIZE=str(share.size),
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
    )  # fmt: skip
    # no short timeout: the others wait while the first one scores or saves, and Peers notices a process that ended
    torch.distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo', timeout=timedelta(days=1))


def leave() -> None:
    """Leave the group of processes that train together."""
    torch.distributed.destroy_process_group()


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Peers:
    """The other processes of a stage on several devices, started and watched by the first one.

    Args:
        work: Entry of a process: gets ``job``, its :class:`~ltbench.data.batches.Share`, the port, and a connection
            that closes when the first process ends.
        job: As JSON.
        size: Number of processes, the first one included.
        lost: Called once, in a thread, with how a process ended that had not finished its work.
    """

    def __init__(self, work: Callable[..., None], job: dict[str, Any], size: int, lost: Callable[[str], None]) -> None:
        self.port, self.lost = free_port(), lost
        context = multiprocessing.get_context('spawn')
        child_end, self._pipe = context.Pipe(duplex=False)
        self.processes = [
            context.Process(target=work, args=(job, Share(rank, size), self.port, child_end), daemon=True)
            for rank in range(1, size)
        ]
        for process in self.processes:
            process.start()
        child_end.close()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        running = list(self.processes)
        while running:
            wait([process.sentinel for process in running])
            for process in [process for process in running if not process.is_alive()]:
                running.remove(process)
                if process.exitcode:
                    number = self.processes.index(process) + 2
                    code = process.exitcode
                    how = f'killed by {signal.Signals(-code).name}' if code < 0 else f'ended with code {code}'
                    self.lost(f'process {number} of {len(self.processes) + 1} was {how}')
                    return

    def settle(self, seconds: float) -> None:
        """Wait until a failed process is noticed, so that its own error is reported and not only that it ended."""
        self._watch.join(seconds)
