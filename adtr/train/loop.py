"""The training loop that every network shares: seeded, resumable to the bit, one line of log an epoch."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from adtr.config.methods import Train
from adtr.errors import UserError
from adtr.train.context import Context, Fitted, precision
from adtr.train.run import Saver, copied, load_state
from adtr.train.status import Progress
from adtr.train.step import Loss, Step, step_of

logger = logging.getLogger(__name__)

State = dict[str, Tensor]
Row = dict[str, float]
PIECE_TOKENS = {"float32": 512, "bfloat16": 1024}


def optimize(
    network: nn.Module, draw: Callable[[], Tensor], loss: Loss, train: Train, context: Context, piece: int | None = None
) -> Fitted:
    """Minimises `loss` over the parameters of `network` by AdamW.

    The random state of an epoch depends on the seed and the epoch only, so a training that was killed and resumed gives
    the bytes of an undisturbed one (on a CPU; on a GPU it was not tried). States are saved while the training goes on.

    Args:
        network: on its device; a `seeded` one has the same initial weights every time.
        draw: the order of an epoch's images, as indices (n,).
        loss: the mean over images of a batch, given as indices (b,) on the device; on a GPU it must neither read a
            result on the host (`item`, `nonzero`) nor copy from it.
        piece: images of a batch that are worked on at a time, their gradients added up; None for all.

    Raises:
        UserError: the loss is no longer finite, or the state cannot be saved.
    """
    network.train()
    step = step_of(network, loss, train, context.device, piece)
    history, snapshots, before = _resumed(context, network, step)
    began, progress = time.monotonic(), Progress(context.state, train.epochs, len(history))
    bar = tqdm(total=train.epochs, initial=len(history), unit="epoch", disable=None)
    with deterministic(train, context.device), Saver(context.state, 60 * train.save_minutes, context.held) as saver:
        for epoch in range(len(history) + 1, train.epochs + 1):
            started = time.monotonic()
            seeded(context.seed, epoch)
            order = draw().to(context.device)
            history.append(row := _epoch(step, order, train, epoch))
            _report(bar, row, train.epochs, len(order) / (time.monotonic() - started))
            if not math.isfinite(row["loss"]):
                raise UserError(f"the loss is {row['loss']} in epoch {epoch}: lower lr ({train.lr}) or set grad_clip")
            if epoch in snapshot_epochs(train):
                snapshots[epoch] = copied(network.state_dict())
            if saver.due(epoch == train.epochs):
                seconds = before + time.monotonic() - began
                content = {"model": network.state_dict(), "history": history, "snapshots": snapshots}
                unfinished = {"optimizer": step.optimizer.state_dict()} if epoch < train.epochs else {}
                saver.save(content | unfinished | {"seconds": seconds})
            progress(epoch, row["loss"])
    bar.close()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Fitted(copied(network.state_dict()), history, parameters, snapshots, before)


def _resumed(context: Context, network: nn.Module, step: Step) -> tuple[list[Row], dict[int, State], float]:
    """Loads the saved state, if there is one; returns its history, its snapshots, and the seconds that it took."""
    saved = load_state(context.state) if context.state else None
    if saved is None:
        return [], {}, 0.0
    network.load_state_dict(saved["model"])
    if len(saved["history"]) < step.train.epochs:  # after the last epoch no optimizer is saved
        step.optimizer.load_state_dict(saved["optimizer"])
    return saved["history"], saved["snapshots"], saved["seconds"]


def _epoch(step: Step, order: Tensor, train: Train, epoch: int) -> Row:
    """A pass over the images; its row of the history: the last learning rate, and the mean loss over images."""
    total, batches = torch.zeros((), device=order.device), order.split(train.batch_size)
    for i, batch in enumerate(batches):
        rate = learning_rate(train, epoch, (epoch - 1) * len(batches) + i, len(batches))
        total += step(batch, rate) * len(batch)
    return {"epoch": epoch, "lr": rate, "loss": total.item() / len(order)}


def piece_size(network: nn.Module, tokens: int, train: Train, device: str) -> int | None:
    """So many images that a CPU keeps little for the backward pass; all on a GPU and for batch normalisation."""
    whole = device != "cpu" or any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    return None if whole else max(1, PIECE_TOKENS[precision(train.precision, device)] // tokens)


def seeded(seed: int, epoch: int = 0) -> None:
    """Sets the random state of an epoch; epoch 0 is the initialisation."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))


def autocast(train: Train, device: str) -> AbstractContextManager[object]:
    """The context of a forward pass in the precision that is asked for."""
    half = precision(train.precision, device) == "bfloat16"
    return torch.autocast(torch.device(device).type, torch.bfloat16) if half else nullcontext()


@contextmanager
def deterministic(train: Train, device: str) -> Iterator[None]:
    """Asks PyTorch for kernels on a GPU that repeat their bytes, if so asked; a warning names those that it lacks."""
    if not (train.deterministic and device.startswith("cuda")):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first matrix product of a process
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def learning_rate(train: Train, epoch: int, step: int, each: int) -> float:
    """Linear warm-up, of a tenth of all steps at most, then `lr`, dropped after a share of the epochs (Sec. 4.2).

    An `epoch` of `each` steps counts from 1, a `step` from 0, over the whole training.
    """
    dropped = epoch > round(train.lr_drop_at * train.epochs)
    warmup = min(train.warmup_steps, train.epochs * each // 10)
    warmth = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return train.lr * warmth * (train.lr_drop_factor if dropped else 1.0)


def snapshot_epochs(train: Train) -> set[int]:
    """The epochs after which a model is kept; after the last one it is the trained one."""
    return {round(train.epochs * i / train.snapshots) for i in range(1, train.snapshots)} - {0, train.epochs}


def _report(bar: Any, row: Row, epochs: int, speed: float) -> None:
    """A bar on a terminal, one line an epoch elsewhere."""
    bar.set_postfix(loss=f"{row['loss']:.4g}", images_per_s=f"{speed:.0f}", refresh=False)
    bar.update()
    if bar.disable:
        values = row["epoch"], epochs, row["loss"], row["lr"], speed
        logger.info("epoch %d/%d  loss %.5g  lr %.2g  %.1f images/s", *values)
