"""500 epochs of one MVTec category: the backbone in every step and float32, against cached features and bfloat16.

Single steps are measured, in turns, and counted up: an epoch has images / 16 of them; then as many trainings side by
side as there are cores, first of one side, then of the other. Images and weights are random.
    python bench/training.py
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import plain
import torch
from extraction import batches
from measure import Work, machine, paper, seconds, side_by_side

from adtr.config.methods import Params
from adtr.features.backbones import build
from adtr.features.extract import batch_size, normalized, tokens_of
from adtr.model.losses import normal_loss
from adtr.model.transformer import ADTR
from adtr.train.context import precision
from adtr.train.loop import autocast, piece_size
from adtr.train.step import step_of

CHANNELS = 720  # of EfficientNet-B4's five layers


def plain_step(f: torch.Tensor, params: Params, fused: bool = False) -> Work:
    """A step of plain PyTorch on a batch of features (B, N, C)."""
    model = plain.Transformer(f.shape[1], f.shape[2], fused=fused).to(f.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.train.lr, weight_decay=params.train.weight_decay)

    def train() -> None:
        loss = (f - model(f)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def our_step(data: torch.Tensor, params: Params) -> Work:
    """A step of ours on a batch of features (B, N, C), with the loss of adtr.methods.adtr."""
    device, (images, tokens, channels) = str(data.device), data.shape
    model = ADTR(tokens, channels).to(device)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        f = model.standardized(data[batch])
        with autocast(params.train, device):
            reconstruction = model(f)
        return normal_loss(f, reconstruction.float())

    step = step_of(model, loss, params.train, device, piece_size(model, tokens, params.train, device))
    whole = torch.arange(images, device=device)
    return lambda: step(whole, params.train.lr)


def plain_steps(params: Params, images: np.ndarray) -> dict[str, Work]:
    """Of a batch: the backbone, and a step of training on what it gave."""
    features, network = params.features, plain.backbone(params.features.backbone, params.features.image_size)

    def extract() -> torch.Tensor:
        return plain.features_of(network, normalized(images), features)

    return {"plain backbone": extract, "plain step": plain_step(extract().clone(), params)}


def our_steps(params: Params, images: np.ndarray, pool: ThreadPoolExecutor) -> dict[str, Work]:
    backbone = build(params.features, None)

    def extract() -> list[np.ndarray]:
        parts = batches(images, batch_size(params.features.image_size))
        return list(pool.map(lambda part: tokens_of(part, backbone, params.features, "cpu"), parts))

    return {"our backbone": extract, "our step": our_step(torch.from_numpy(np.concatenate(extract())), params)}


def a_training(side: str) -> Work:
    """Of one of several processes: steps on random features."""
    params = paper()
    f = torch.randn(params.train.batch_size, params.features.grid_size**2, CHANNELS)
    return plain_step(f, params) if side == "plain" else our_step(f, params)


def on(threads: int, step: Work) -> Work:
    """A step with so many threads of PyTorch's."""

    def run() -> None:
        torch.set_num_threads(threads)
        step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240, help="of the category [240, MVTec-AD's mean]")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    params = paper()
    size, batch = params.features.image_size, params.train.batch_size
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        steps = plain_steps(params, images) | our_steps(params, images, pool)
        median = seconds(
            {name: on(1 if name == "our backbone" else cores, s) for name, s in steps.items()}, options.rounds
        )
    kind = precision(params.train.precision, "cpu")
    print(f"{machine()}, {kind}, {params.features}")
    for name, value in median.items():
        print(f"{name:16} {1000 * value:8.0f} ms a batch of {batch}")
    beside = {side: 1 / side_by_side(cores, a_training, side) for side in ("plain", "our")}
    for side, value in beside.items():
        print(f"{side + ' step':16} {1000 * value:8.0f} ms of all {cores} trainings side by side, a thread each")

    def hours(side: str, passes: int, step: float) -> float:
        """Of all epochs, with so many passes through the backbone."""
        batches = options.images / batch
        return batches * (passes * median[f"{side} backbone"] + options.epochs * step) / 3600

    for what, step in (("one training", {side: median[f"{side} step"] for side in beside}), ("side by side", beside)):
        plain_hours, our_hours = hours("plain", options.epochs, step["plain"]), hours("our", 1, step["our"])
        print(
            f"{options.epochs} epochs of {options.images} images, {what}: plain {plain_hours:.2f} h, ours"
            f" {our_hours:.2f} h, ratio {plain_hours / our_hours:.1f}; of the steps {step['plain'] / step['our']:.1f}"
        )


if __name__ == "__main__":
    main()
