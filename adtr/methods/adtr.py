"""ADTR on normal images: the training loop and the anomaly map (Sec. 3.1, 4.2)."""

import io
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adtr.config import Params, Train
from adtr.errors import UserError
from adtr.files import written_atomically
from adtr.losses import normal_loss
from adtr.methods import Context, Fitted, precision
from adtr.model import ADTR

logger = logging.getLogger(__name__)


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """Trains the reconstruction of normal features.

    The random state of an epoch depends on the seed and the epoch only, so a training that was killed and resumed
    gives the bytes of an undisturbed one.

    Raises:
        UserError: the loss is no longer finite, or the state cannot be saved.
    """
    train = params.train
    torch.set_num_threads(train.threads)
    data = torch.from_numpy(np.ascontiguousarray(features)).to(context.device)
    _seed(context.seed, 0)
    model = _model(data.shape[1:], params)
    if params.model.standardize:
        _standardize(model, data)
    model.to(context.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True)
    history = _resume(context.state, model, optimizer)

    half = precision(train.precision, context.device) == "bfloat16"
    steps = math.ceil(len(data) / train.batch_size)
    bar = tqdm(total=train.epochs, initial=len(history), unit="epoch", disable=None)
    for epoch in range(len(history) + 1, train.epochs + 1):
        began, total = time.monotonic(), torch.zeros((), device=context.device)
        _seed(context.seed, epoch)
        for step, batch in enumerate(torch.randperm(len(data)).split(train.batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(train, epoch, (epoch - 1) * steps + step)
            f = model.standardized(data[batch.to(data.device)])
            with torch.autocast(data.device.type, torch.bfloat16, enabled=half):
                reconstruction = model(f)
            loss = normal_loss(f, reconstruction.float())
            optimizer.zero_grad()
            loss.backward()
            if train.grad_clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
            optimizer.step()
            total += loss.detach() * len(batch)
        history.append({"epoch": epoch, "lr": optimizer.param_groups[0]["lr"], "loss": total.item() / len(data)})
        _report(bar, history[-1], train.epochs, len(data) / (time.monotonic() - began))
        if not math.isfinite(history[-1]["loss"]):
            raise UserError(
                f"the loss is {history[-1]['loss']} in epoch {epoch}: lower lr ({train.lr}) or set grad_clip"
            )
        if context.state and (epoch % train.save_every == 0 or epoch == train.epochs):
            _save(context.state, model, optimizer, history)
    bar.close()
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    return Fitted(state, history, sum(parameter.numel() for parameter in model.parameters()))


@torch.inference_mode()
def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """s(u) = ||f(:, u) - f̂(:, u)||_2 (Eqs. 2, 3): (N, G·G, C) float16 to (N, G, G) float32."""
    model = _model(features.shape[1:], params)
    model.load_state_dict(state)
    model.to(device).eval()
    maps = []
    for batch in np.array_split(features, max(1, len(features) // 32)):
        f = model.standardized(torch.from_numpy(np.ascontiguousarray(batch)).to(device))
        maps.append((f - model(f)).norm(dim=-1).cpu())
    side = math.isqrt(features.shape[1])
    return torch.cat(maps).unflatten(1, (side, side)).numpy()


def learning_rate(train: Train, epoch: int, step: int) -> float:
    """Linear warm-up over the first steps, then `lr`, dropped once after a share of the epochs (Sec. 4.2).

    Args:
        epoch: from 1.
        step: from 0, over the whole training.
    """
    dropped = epoch > round(train.lr_drop_at * train.epochs)
    warmth = min(1.0, (step + 1) / train.warmup_steps) if train.warmup_steps else 1.0
    return train.lr * warmth * (train.lr_drop_factor if dropped else 1.0)


def _model(shape: tuple[int, ...], params: Params) -> ADTR:
    tokens, channels = shape
    return ADTR(tokens, channels, params.model)


def _standardize(model: ADTR, data: Tensor) -> None:
    """Sets the mean and standard deviation of each channel over all training tokens, accumulated in float64."""
    count = data.shape[0] * data.shape[1]
    total = sum(image.double().sum(0) for image in data)
    mean = total / count
    squares = sum((image.double() - mean).square().sum(0) for image in data)
    model.mean.copy_(mean)
    model.std.copy_((squares / count).sqrt().clamp_min(1e-6))


def _seed(seed: int, epoch: int) -> None:
    """The random state of an epoch; epoch 0 is the initialisation."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))


def _report(bar: tqdm, row: dict[str, float], epochs: int, speed: float) -> None:
    """A bar on a terminal, one line an epoch elsewhere."""
    bar.set_postfix(loss=f"{row['loss']:.4g}", images_per_s=f"{speed:.0f}", refresh=False)
    bar.update()
    if bar.disable:
        logger.info(
            "epoch %d/%d  loss %.5g  lr %.2g  %.1f images/s", row["epoch"], epochs, row["loss"], row["lr"], speed
        )


def _save(folder: Path, model: ADTR, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]) -> None:
    saved = io.BytesIO()  # on a full disk torch.save itself ends in an error of its own, not of the system
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}, saved)
    with written_atomically(folder / "state.pt") as path:
        path.write_bytes(saved.getbuffer())


def _resume(folder: Path | None, model: ADTR, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Loads the last saved state, if there is one; gives its history."""
    if folder is None or not (folder / "state.pt").is_file():
        return []
    try:
        saved = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises almost anything on a broken file
        logger.warning("%s is not readable (%s): begins anew", folder / "state.pt", error)
        return []
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    logger.info("resumes after epoch %d", len(saved["history"]))
    return saved["history"]
