"""What is to be measured on a GPU, in so many minutes: a table, and with --output the same as JSON.

Steps of training, launched and recorded; trainings side by side; steps against the card's own copies and matrix
products; extraction from memory, and from files with images decoded ahead by so many threads; trainings stacked as one
(bench/stacked.py); hours of Tables 1-4. Images and weights are random, features as the store has them, float16. "plain"
is torch's own transformer in float32 (bench/plain.py), also with its fused attention. Trainings side by side are
processes; without NVIDIA's MPS they take turns on the GPU. What does not fit into the minutes is left out, the last
parts first, and said so.
    python bench/gpu.py --minutes 5 --output gpu.json
    python bench/gpu.py --device cpu --tiny --minutes 0.5      # shows that the command works
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plain
import torch
from measure import Work, machine, paper, seconds, side_by_side
from PIL import Image
from stacked import deviation, members_of, stacked_step
from tabulate import tabulate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from training import CHANNELS, our_step, plain_step

from adtr.config.methods import Train
from adtr.config.reader import read_as
from adtr.config.schema import Features
from adtr.config.study import resolve
from adtr.cost import Cluster, steps_of
from adtr.features.backbones import Backbone, build
from adtr.features.extract import batch_size, extract, normalized, tokens_of
from adtr.files import sha256
from adtr.provenance import device_name

STEPS = 10  # between two waits for the device
OURS = ("float32 launched", "float32 recorded", "bfloat16 launched", "bfloat16 recorded")
HEADER = ["what", "of", "side", "value", "unit"]


class Shape(NamedTuple):
    """Of a batch."""

    images: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.tokens} tokens x {self.images} images"


Fastest = dict[Shape, tuple[float, str]]  # seconds of a step, and of which side
SHAPES = (Shape(16, 256), Shape(128, 64), Shape(16, 1024))  # MVTec-AD, CIFAR-10, MVTec-AD at 512 px
TINY = (Shape(2, 16),)


class Report:
    """Rows of a table, printed as they come; whether time is left for more, and whether some part failed."""

    def __init__(self, minutes: float, device: str, output: Path | None):
        self.rows: list[tuple[str, str, str, float, str]] = []
        self.end, self.budget, self.failed = time.monotonic() + 60 * minutes, 60 * minutes, False
        self.machine, self.output = {"device": device_name(device), "machine": machine()}, output

    def add(self, what: str, of: object, side: str, value: float, unit: str) -> None:
        self.rows.append((what, str(of), side, value, unit))
        print(f"{what}: {of}, {side}: {value:.4g} {unit}", flush=True)

    def fits(self, what: object) -> bool:
        """Whether there is time for it."""
        if time.monotonic() < self.end:
            return True
        print(f"left out, as the minutes are over: {what}", flush=True)
        return False

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What fails in it costs nothing else."""
        try:
            yield
        except (Exception, SystemExit) as error:
            self.failed = True
            print(f"FAILED: {name}: {type(error).__name__}: {error}", flush=True)
        self.write()

    def write(self) -> None:
        rows = [dict(zip(HEADER, row, strict=True)) for row in self.rows]
        if self.output:
            partial = self.output.with_name(f"{self.output.name}.partial")  # others read it meanwhile
            partial.write_text(json.dumps(self.machine | {"rows": rows}, indent=1))
            partial.replace(self.output)


def a_training(shape: Shape, side: str, device: str, steps: int = STEPS) -> Work:
    """So many steps of a side, and the wait for the last."""
    params, features = paper(), torch.randn(*shape, CHANNELS, device=device).half()
    if side.startswith("plain"):
        step = plain_step(features.float(), params, fused=side == "plain fused")
    else:
        step = our_step(features, params.model_copy(update={"train": train_of(side)}))

    def run() -> None:
        for _ in range(steps):
            step()
        wait(device)

    return run


def ours(device: str) -> list[str]:
    """The sides of OURS that a device has: steps are recorded on GPUs."""
    return [side for side in OURS if device != "cpu" or side.endswith("launched")]


def train_of(side: str) -> Train:
    """The parameters of one of OURS."""
    precision, how = side.split(" ")
    return paper().train.model_copy(update={"precision": precision, "capture": how == "recorded"})


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


class Traffic(TorchDispatchMode):
    """Counts the operations that are launched, the bytes that each reads and writes, and those of its products."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[int, int]] = []  # bytes, floating-point operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = {id(x): x.nbytes for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)}
            count = flop_registry.get(func.overloadpacket, lambda *_, **__: 0)
            self.operations.append((sum(tensors.values()), count(*args, **(kwargs or {}), out_val=out)))
        return out


def roofline(report: Report, device: str, shapes: tuple[Shape, ...], fastest: Fastest, tiny: bool) -> None:
    """The least time of a launched step in bfloat16: each operation at the device's own rate of copies or products."""
    side, size = 256 if tiny else 8192, 1 << (22 if tiny else 30)
    matrix = torch.randn(side, side, device=device).bfloat16()
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))

    def rate(work: Work, amount: float) -> float:
        def run() -> None:
            work()
            wait(device)

        return amount / seconds({"": run}, 5)[""]

    products = rate(lambda: matrix @ matrix, 2 * side**3)
    copies = rate(lambda: target.copy_(source), 2 * size)
    report.add("rate", "one large product", "bfloat16", products / 1e12, "TFLOP/s")
    report.add("rate", "one large copy", "read and written", copies / 1e9, "GB/s")
    for shape in shapes:
        if not report.fits(f"roofline, {shape}"):
            continue
        step = a_training(shape, "bfloat16 launched", device, steps=1)
        step()
        with Traffic() as traffic:
            step()
        moved, computed = (sum(column) for column in zip(*traffic.operations, strict=True))
        limit = sum(max(moved / copies, computed / products) for moved, computed in traffic.operations)
        report.add("step", shape, "operations launched", len(traffic.operations), "")
        report.add("step", shape, "read and written", moved / 1e9, "GB")
        report.add("step", shape, "products", computed / 1e9, "GFLOP")
        report.add("step", shape, "limit", 1000 * limit, "ms")
        if shape in fastest:
            value, name = fastest[shape]
            report.add("step", shape, f"limit, of the time of {name}", 100 * limit / value, "%")


def training(report: Report, device: str, shapes: tuple[Shape, ...], rounds: int) -> Fastest:
    """The time of a step of each side that works; gives the fastest of ours."""
    fastest: Fastest = {}
    for shape in shapes:
        if not report.fits(f"steps, {shape}"):
            continue
        sides = {}
        for side in ("plain", "plain fused", *ours(device)):
            with report.part(f"steps, {shape}, {side}"):
                work = a_training(shape, side, device)
                work()
                sides[side] = work
        for side, value in seconds(sides, rounds, duration=report.budget / 15).items():
            report.add("step", shape, side, 1000 * value / STEPS, "ms")
            if side in OURS:
                fastest[shape] = min(fastest.get(shape, (value / STEPS, side)), (value / STEPS, side))
    return fastest


def together(report: Report, device: str, shapes: tuple[Shape, ...], most: int, fastest: Fastest) -> dict[Shape, float]:
    """The time of a step of several trainings at once, counted over all; gives the least, in seconds."""
    best: dict[Shape, float] = {}
    for count in (2**i for i in range(most.bit_length())):
        for shape in shapes:
            if report.fits(f"{count} trainings side by side, {shape}"):
                duration = report.budget / 60
                _, side = fastest.get(shape, (0.0, "bfloat16 launched"))
                rate = STEPS * side_by_side(count, a_training, shape, side, device, duration=duration)
                report.add("step of all", shape, f"{count} at once", 1000 / rate, "ms")
                best[shape] = min(best.get(shape, 1 / rate), 1 / rate)
    return best


def a_stack(count: int, shape: Shape, train: Train, device: str) -> Work:
    """So many steps of as many trainings as one, and the wait for the last."""
    data = torch.randn(count, *shape, CHANNELS, device=device).half()
    _, step = stacked_step(members_of(count, data, train, device), data, train, device)
    whole = torch.arange(shape.images, device=device).expand(count, -1)

    def run() -> None:
        for _ in range(STEPS):
            step(whole, train.lr)
        wait(device)

    return run


def stacked(report: Report, device: str, shapes: tuple[Shape, ...], most: int, fastest: Fastest) -> None:
    """The time of a step of several trainings as one, counted over all; and whether they learn what each does alone."""
    for count in (2**i for i in range(1, most.bit_length())):
        for shape in shapes:
            if report.fits(f"{count} trainings stacked, {shape}"):
                with report.part(f"{count} trainings stacked, {shape}"):
                    _, side = fastest.get(shape, (0.0, "bfloat16 launched"))
                    work = a_stack(count, shape, train_of(side), device)
                    taken = seconds({"": work}, 3, duration=report.budget / 120)[""]
                    report.add("stacked step of all", shape, f"{count} as one", 1000 * taken / STEPS / count, "ms")
    data = torch.randn(2, *shapes[0], CHANNELS, device=device).half()
    for side in [side for side in ours(device) if side.startswith("float32")]:
        if report.fits(f"stacked, {side}, compared"):
            with report.part(f"stacked, {side}, compared"):
                far = deviation(data, train_of(side), device, batch=shapes[0].images // 2, steps=5)
                report.add(
                    "stacked weights off", shapes[0], f"{side}, 5 steps", 100 * far, "% of what training changed"
                )


def extraction(report: Report, device: str, backbone: str, size: int, rounds: int) -> None:
    """Images a second of the library's model and of ours, the images in memory, batches of the same size."""
    asked: dict[str, Any] = {"backbone": backbone, "image_size": size, "weights": "random", "grid_size": size // 16}
    features, half = (paper(**asked, precision=name).features for name in ("float32", "bfloat16"))
    each = batch_size(size, device)
    batches = list(np.random.default_rng(0).integers(0, 256, (4, each, size, size, 3), np.uint8))
    theirs = plain.backbone(backbone, size).to(device)
    built = {f"ours in {asked.precision}": (build(asked, None).to(device), asked) for asked in (features, half)}
    # threads prepare images while the GPU works
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def of_theirs(batch: np.ndarray) -> Tensor:
            return plain.features_of(theirs, normalized(batch, device), features).half().cpu()

        def of_ours(network: Backbone, asked: Features) -> list[np.ndarray]:
            return list(pool.map(lambda batch: tokens_of(batch, network, asked, device), batches))

        sides: dict[str, Work] = {"plain": lambda: list(pool.map(of_theirs, batches))}
        sides |= {side: partial(of_ours, *network) for side, network in built.items()}
        for side, taken in seconds(sides, rounds, duration=report.budget / 15).items():
            report.add("extraction", f"{backbone} at {size} px, images in memory", side, 4 * each / taken, "images/s")


def extraction_of_files(report: Report, device: str, backbone: str, size: int) -> None:
    """The stage itself, of PNGs four times as wide, with so many threads that decode them.

    Twice as many images take so much longer: the start of the stage does not count.
    """
    features = paper(backbone=backbone, image_size=size, weights="random", grid_size=size // 16).features
    device = "cpu:0" if device == "cpu" else device  # goes the way of a GPU
    with tempfile.TemporaryDirectory() as folder:
        root, rng, batch = Path(folder), np.random.default_rng(0), batch_size(size, device)
        coarse, noise = rng.integers(0, 240, (size // 4, size // 4, 3), np.uint8), (4 * size, 4 * size, 3)
        Image.fromarray(coarse.repeat(16, 0).repeat(16, 1) + rng.integers(0, 12, noise, np.uint8)).save(root / "0.png")
        row = ("0.png", sha256(root / "0.png"), 0, "train", "x")

        def taken(images: int, threads: int) -> float:
            manifest = pd.DataFrame([row] * images, columns=["image", "sha256", "label", "split", "part"])
            manifest[["mask", "mask_sha256", "defect"]] = ""
            began = time.perf_counter()
            extract(manifest, root, features, None, root / "x.npy", device, threads)
            return time.perf_counter() - began

        for threads in (2**i for i in range((os.cpu_count() or 1).bit_length())):
            if report.fits(f"extraction with {threads} threads"):
                count = threads * batch
                value = count / (taken(2 * count, threads) - taken(count, threads))
                what = f"{backbone} at {size} px, from PNGs of {4 * size} px"
                report.add("extraction", what, f"{threads} threads", value, "images/s")


def steps_of_the_paper() -> Counter[Shape]:
    """Of all trainings of ADTR, ADTR+ and their variants in the study `paper`, with one seed.

    A category has as many images as params/cluster.yaml expects; a CNN's step counts as a transformer's.
    """
    plan, cluster = resolve("paper"), read_as(Path("params/cluster.yaml"), Cluster)
    steps: Counter[Shape] = Counter()
    for (dataset, _), params in plan.params.items():
        if params.method in ("adtr", "adtr_plus"):
            definition = plan.datasets[dataset]
            shape = Shape(params.train.batch_size, params.features.grid_size**2)
            each = steps_of(params, cluster.images[definition.layout].train)
            steps[shape] += each * len(definition.categories)
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cpu shows that the command works [cuda]")
    parser.add_argument("--minutes", type=float, default=5, help="that it may take [5]")
    parser.add_argument("--rounds", type=int, default=20, help="of sides that take turns, at most [20]")
    parser.add_argument("--most", type=int, default=8, help="trainings side by side, a power of 2 [8]")
    parser.add_argument("--tiny", action="store_true", help="a tiny batch and images of 64 px, for a CPU")
    parser.add_argument("--output", type=Path, help="a file of the table as JSON")
    options = parser.parse_args()
    device, shapes = options.device, TINY if options.tiny else SHAPES
    backbone, size = ("efficientnet_lite0", 64) if options.tiny else ("efficientnet_b4", 256)
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU: nothing was measured")
    torch.backends.cudnn.allow_tf32 = False  # as `adtr` does
    report = Report(options.minutes, device, options.output)
    print(*report.machine.values(), sep="; ", flush=True)
    fastest: Fastest = {}
    beside: dict[Shape, float] = {}
    with report.part("steps"):
        fastest |= training(report, device, shapes, options.rounds)
    with report.part("side by side"):  # early, as it decides gpu_slots
        beside |= together(report, device, shapes, options.most, fastest)
    with report.part("roofline"):
        roofline(report, device, shapes, fastest, options.tiny)
    with report.part("extraction from memory"):
        extraction(report, device, backbone, size, options.rounds)
    with report.part("extraction from files"):
        extraction_of_files(report, device, backbone, size)
    with report.part("stacked"):
        stacked(report, device, shapes, options.most, fastest)
    steps, alone = steps_of_the_paper(), {shape: value for shape, (value, _) in fastest.items()}
    with report.part("hours"):
        for what, taken in (("one after the other", alone), ("side by side", beside)):
            if set(steps) <= set(taken):
                hours = sum(count * taken[shape] for shape, count in steps.items()) / 3600
                report.add("Tables 1-4 with one seed", f"{steps.total():,} steps", what, hours, "h")
    print("\n" + tabulate(report.rows, HEADER, tablefmt="github", floatfmt=".4g"))
    sys.exit(report.failed)


if __name__ == "__main__":
    main()
