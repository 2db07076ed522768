"""500 epochs of one MVTec category: the backbone in every step and float32, against cached features and bfloat16.

Single steps are measured, in turns, and counted up: an epoch has images / 16 of them. Images and weights are random.
    python bench/training.py
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import plain
import torch
from measure import machine, paper, seconds

from adtr.backbones import build
from adtr.config import Params
from adtr.features import _one_core, _tokens, batch_size
from adtr.images import normalized
from adtr.losses import normal_loss
from adtr.methods import precision
from adtr.model import ADTR
from adtr.training import autocast, piece_size

Step = Callable[[], object]


def plain_steps(params: Params, images: np.ndarray) -> dict[str, Step]:
    """Of a batch: backbone, then training of the transformer on what it gave."""
    features, network = params.features, plain.backbone(params.features.backbone, params.features.image_size)
    model = plain.Transformer(features.grid_size**2, 720, params.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.train.lr, weight_decay=params.train.weight_decay)
    f = plain.features_of(network, torch.from_numpy(normalized(images)), features)

    def train() -> None:
        loss = (f - model(f)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {
        "plain backbone": lambda: plain.features_of(network, torch.from_numpy(normalized(images)), features),
        "plain step": train,
    }


def training_step(data: torch.Tensor, params: Params) -> Step:
    """A step of ours on a batch of features (B, N, C), as adtr.methods.adtr and adtr.training do it."""
    images, tokens, channels = data.shape
    model = ADTR(tokens, channels, params.model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=params.train.lr, weight_decay=params.train.weight_decay, fused=True
    )

    def train() -> None:
        optimizer.zero_grad()
        for part in data.split(piece_size(model, tokens, "cpu") or images):
            f = model.standardized(part)
            with autocast(params.train, "cpu"):
                reconstruction = model(f)
            (normal_loss(f, reconstruction.float()) * (len(part) / images)).backward()
        optimizer.step()

    return train


def our_steps(params: Params, images: np.ndarray, pool: ThreadPoolExecutor) -> dict[str, Step]:
    backbone = build(params.features, None).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def extract() -> list[np.ndarray]:
        parts = np.split(images, max(1, len(images) // batch_size(images.shape[1])))
        return list(pool.map(lambda part: _tokens(part, backbone, params.features, "cpu"), parts))

    return {
        "our backbone": extract,
        "our step": training_step(torch.from_numpy(np.concatenate(extract())), params),
    }


def on(threads: int, step: Step) -> Step:
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
    with ThreadPoolExecutor(cores, initializer=_one_core) as pool:
        steps = plain_steps(params, images) | our_steps(params, images, pool)
        median = seconds(
            {name: on(1 if name == "our backbone" else cores, s) for name, s in steps.items()}, options.rounds
        )
    kind = precision(params.train.precision, "cpu")
    print(f"{machine()}, {kind}, {params.features}")
    for name, value in median.items():
        print(f"{name:16} {1000 * value:8.0f} ms a batch of {batch}")
    batches = options.images / batch
    theirs = options.epochs * batches * (median["plain backbone"] + median["plain step"])
    ours = batches * median["our backbone"] + options.epochs * batches * median["our step"]
    print(f"{options.epochs} epochs of {options.images} images: plain {theirs / 3600:.2f} h, ours {ours / 3600:.2f} h")
    print(f"ratio {theirs / ours:.1f}; of the steps alone {median['plain step'] / median['our step']:.1f}")


if __name__ == "__main__":
    main()
