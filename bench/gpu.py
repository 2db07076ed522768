"""What is to be measured on a GPU: steps as they are and recorded, trainings side by side, extraction, Tables 1-4.

Features, images and weights are random; "plain" is torch's own transformer in float32, bench/plain.py.
    python bench/gpu.py
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import plain
import torch
from measure import Work, machine, paper, seconds, side_by_side
from training import CHANNELS, our_step, plain_step

from adtr.backbones import build
from adtr.config import Features
from adtr.cost import read_cluster
from adtr.features import _tokens, batch_size
from adtr.images import normalized
from adtr.study import resolve

STEPS = 10  # between two waits for the device


class Shape(NamedTuple):
    """Of a batch."""

    images: int
    tokens: int


SHAPES = {"mvtec": Shape(16, 256), "cifar10": Shape(128, 64)}  # as in the study `paper`


def waited(step: Work, device: str) -> Work:
    """STEPS steps, and the wait for the last."""

    def run() -> None:
        for _ in range(STEPS):
            step()
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def a_training(shape: Shape, side: str, device: str) -> Work:
    """Steps of a side: plain, or ours in a precision, 'eager' (each launched) or 'captured' (recorded once)."""
    params = paper()
    f = torch.randn(*shape, CHANNELS, device=device)
    if side == "plain":
        return waited(plain_step(f, params), device)
    precision, _, how = side.partition(" ")
    train = params.train.model_copy(update={"precision": precision, "capture": how == "captured"})
    return waited(our_step(f, params.model_copy(update={"train": train})), device)


def training(device: str, rounds: int) -> dict[str, float]:
    """Prints seconds of a step; gives the best side's, alone, by data set."""
    sides = ["plain", *(f"{p} {how}" for p in ("float32", "bfloat16") for how in ("eager", "captured"))]
    best = {}
    for name, shape in SHAPES.items():
        taken = seconds({side: a_training(shape, side, device) for side in sides}, rounds)
        for side, value in taken.items():
            print(
                f"{name:8} {shape.tokens:4} tokens x {shape.images:3}  {side:18} {1000 * value / STEPS:8.2f} ms a step"
            )
        best[name] = min(taken.values()) / STEPS
    return best


def together(device: str, most: int, duration: float) -> dict[str, float]:
    """Prints seconds of a step of several trainings at once, each a process; gives the least by data set."""
    best = {}
    for name, shape in SHAPES.items():
        taken = []
        for count in (2**i for i in range(int(math.log2(most)) + 1)):
            rate = STEPS * side_by_side(count, a_training, shape, "bfloat16 captured", device, duration=duration)
            taken.append(1 / rate)
            print(f"{name:8} {count:2} trainings side by side   {1000 / rate:8.2f} ms a step of one of them")
        best[name] = min(taken)
    return best


def extraction(device: str, rounds: int, size: int = 256, backbone: str = "efficientnet_b4") -> None:
    features = Features(backbone=backbone, weights="random", layers=(1, 2, 3, 4, 5), image_size=size, grid_size=16)
    images = np.random.default_rng(0).integers(0, 256, (4 * batch_size(size, device), size, size, 3), np.uint8)
    theirs = plain.backbone(backbone, size).to(device)
    ours = build(features, None).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def plainly() -> None:
        for batch in np.array_split(images, max(1, len(images) // 8)):
            plain.features_of(theirs, torch.from_numpy(normalized(batch)).to(device), features).cpu()

    def here() -> None:
        for batch in np.split(images, 4):
            _tokens(batch, ours, features, device)

    for side, taken in seconds({"plain": plainly, "ours": here}, rounds).items():
        print(f"{backbone} at {size} px, {side}: {len(images) / taken:.0f} images/s")


def steps_of_the_paper() -> dict[str, int]:
    """Of all trainings of the study `paper`, with one seed, by data set."""
    plan, cluster = resolve("paper"), read_cluster(Path("params/cluster.yaml"))
    steps = dict.fromkeys(SHAPES, 0)
    for (dataset, _), params in plan.params.items():
        if dataset in steps and "train" in params.method_sections():
            definition = plan.datasets[dataset]
            each = math.ceil(cluster.expected(definition).train / params.train.batch_size) * params.train.epochs
            steps[dataset] += each * len(definition.categories or [])
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu shows that the command works, and takes its time [cuda]")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--most", type=int, default=8, help="trainings side by side [8]")
    parser.add_argument("--duration", type=float, default=10, help="seconds of each measurement of them [10]")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU: nothing was measured")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    print(f"{name}; {machine()}")
    alone = training(options.device, options.rounds)
    beside = together(options.device, options.most, options.duration)
    extraction(options.device, options.rounds)
    steps = steps_of_the_paper()
    for what, taken in (("one after the other", alone), ("side by side", beside)):
        hours = sum(steps[dataset] * taken[dataset] for dataset in steps) / 3600
        print(f"trainings of Tables 1-4, {sum(steps.values()):,} steps with one seed, {what}: {hours:.2f} h")


if __name__ == "__main__":
    main()
