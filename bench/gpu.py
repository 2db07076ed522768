"""What is to be measured on a GPU: steps launched and recorded, trainings side by side, extraction, Tables 1-4.

Features, images and weights are random; "plain" is torch's own transformer in float32 (bench/plain.py), also with its
fused attention. Trainings side by side are processes; without NVIDIA's MPS they take turns on the GPU.
    python bench/gpu.py
"""

import argparse
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import plain
import torch
from measure import Work, machine, paper, seconds, side_by_side
from training import CHANNELS, our_step, plain_step

from adtr.config.schema import Features
from adtr.config.study import resolve
from adtr.cost import read_cluster, steps_of
from adtr.features.backbones import Backbone, build
from adtr.features.extract import batch_size, normalized, tokens_of

STEPS = 10  # between two waits for the device
OURS = ("float32 launched", "float32 recorded", "bfloat16 launched", "bfloat16 recorded")


class Shape(NamedTuple):
    """Of a batch."""

    images: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.tokens:5} tokens x {self.images:3} images"


SHAPES = (Shape(16, 256), Shape(128, 64), Shape(16, 1024))  # MVTec-AD, CIFAR-10, MVTec-AD at 512 px


def a_training(shape: Shape, side: str, device: str) -> Work:
    """STEPS steps of a side, and the wait for the last."""
    params, f = paper(), torch.randn(*shape, CHANNELS, device=device)
    precision, _, how = side.partition(" ")
    if precision == "plain":
        step = plain_step(f, params, fused=how == "fused")
    else:
        train = params.train.model_copy(update={"precision": precision, "capture": how == "recorded"})
        step = our_step(f, params.model_copy(update={"train": train}))

    def run() -> None:
        for _ in range(STEPS):
            step()
        if device != "cpu":
            torch.cuda.synchronize()

    return run


def training(device: str, rounds: int) -> dict[Shape, float]:
    """Prints the time of a step of each side; gives seconds of the fastest of ours."""
    best = {}
    for shape in SHAPES:
        sides = {side: a_training(shape, side, device) for side in ("plain", "plain fused", *OURS)}
        taken = seconds(sides, rounds)
        for side, value in taken.items():
            print(f"{shape}  {side:18} {1000 * value / STEPS:8.2f} ms a step")
        best[shape] = min(taken[side] for side in OURS) / STEPS
    return best


def together(device: str, most: int, duration: float) -> dict[Shape, float]:
    """Prints the time of a step of several trainings at once, counted over all; gives the least, in seconds."""
    best = {}
    for shape in SHAPES:
        taken = []
        for count in (2**i for i in range(int(math.log2(most)) + 1)):
            rate = STEPS * side_by_side(count, a_training, shape, "bfloat16 recorded", device, duration=duration)
            taken.append(1 / rate)
            print(f"{shape}  {count:2} at once {1000 / rate:8.2f} ms a step of all")
        best[shape] = min(taken)
    return best


def extraction(device: str, rounds: int) -> None:
    """Prints images a second of the library's model and of ours, the images in memory, batches of the same size."""
    features, half = (paper(weights="random", precision=name).features for name in ("float32", "bfloat16"))
    size = features.image_size
    each = batch_size(size, device)
    batches = list(np.random.default_rng(0).integers(0, 256, (4, each, size, size, 3), np.uint8))
    theirs = plain.backbone(features.backbone, size).to(device)
    ours = {f"ours in {asked.precision}": (build(asked, None).to(device), asked) for asked in (features, half)}
    # threads prepare images while the GPU works
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def of_theirs(batch: np.ndarray) -> torch.Tensor:
            return plain.features_of(theirs, normalized(batch, device), features).half().cpu()

        def of_ours(backbone: Backbone, asked: Features) -> list[np.ndarray]:
            return list(pool.map(lambda batch: tokens_of(batch, backbone, asked, device), batches))

        sides: dict[str, Work] = {"plain": lambda: list(pool.map(of_theirs, batches))}
        sides |= {side: partial(of_ours, *built) for side, built in ours.items()}
        for side, taken in seconds(sides, rounds).items():
            print(f"{features.backbone} at {size} px, {side}: {4 * each / taken:.0f} images/s")


def steps_of_the_paper() -> Counter[Shape]:
    """Of all trainings of ADTR, ADTR+ and their variants in the study `paper`, with one seed.

    A category has as many images as params/cluster.yaml expects; a CNN's step counts as a transformer's.
    """
    plan, cluster = resolve("paper"), read_cluster(Path("params/cluster.yaml"))
    steps: Counter[Shape] = Counter()
    for (dataset, _), params in plan.params.items():
        if params.method in ("adtr", "adtr_plus"):
            definition = plan.datasets[dataset]
            shape = Shape(params.train.batch_size, params.features.grid_size**2)
            each = steps_of(params, cluster.expected(definition).train)
            steps[shape] += each * len(definition.categories or [])
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
    torch.backends.cudnn.allow_tf32 = False  # as `adtr` does
    print(f"{torch.cuda.get_device_name() if options.device == 'cuda' else 'no GPU'}; {machine()}")
    alone = training(options.device, options.rounds)
    beside = together(options.device, options.most, options.duration)
    extraction(options.device, options.rounds)
    steps = steps_of_the_paper()
    for what, taken in (("one after the other", alone), ("side by side", beside)):
        hours = sum(count * taken[shape] for shape, count in steps.items()) / 3600
        print(f"trainings of Tables 1-4 with one seed, {steps.total():,} steps, {what}: {hours:.2f} h")


if __name__ == "__main__":
    main()
