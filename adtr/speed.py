"""How fast this machine is, measured in seconds on random data, so that `adtr cost --here` says minutes beforehand."""

import os
import time
from collections.abc import Callable
from functools import partial

import torch

from adtr import cost
from adtr.config.methods import Params
from adtr.config.study import Plan
from adtr.features.backbones import build
from adtr.features.extract import batch_size
from adtr.model.ablations import reconstruction_network
from adtr.train.loop import autocast, piece_size, seeded
from adtr.train.step import Step

ROUNDS = 2  # timed, after one that is not
REPORT = 25  # s of tables, figures and the report of a small study
START = 4  # s of a process before its work begins, on a machine at work
BASELINE, EVALUATION = 20, 60  # images/s


def minutes_here(plan: Plan, speeds: cost.Cluster) -> tuple[float, int]:
    """Minutes that a study takes on the cores of this machine, one job a core; and how many cores there are."""
    cores = os.cpu_count() or 1
    torch.set_num_threads(1)
    here = speeds.model_copy(update=_measured(plan))
    jobs = sorted(cost.run_seconds(plan, here).values(), reverse=True)
    loads = [sum(seconds for _, seconds in cost.store_seconds(plan, here)) / cores] * cores
    for seconds in jobs:  # the longest first, each to the core that is free first
        loads[loads.index(min(loads))] += seconds
    return (max(loads) + REPORT) / 60, cores


def _measured(plan: Plan) -> dict[str, float]:
    trained = next((params for params in plan.params.values() if params.trains), None)
    speeds: dict[str, float] = {"start": START, "step": 1e-3, "baseline": BASELINE, "evaluation": EVALUATION}
    speeds |= {"teraflops": _teraflops(trained)} if trained else {}
    extracted = (params.features for params in plan.params.values() if params.features.backbone != "pixels")
    if features := next(extracted, None):
        backbone, side = build(features, None), features.image_size
        images = torch.rand(batch_size(side), 3, side, side)
        with torch.inference_mode():
            seconds = _timed(partial(backbone, images))
        speeds["features"] = len(images) / seconds * (side / 256) ** 2
    return speeds


def _teraflops(params: Params) -> float:
    """10^12 operations a second of a training step of the experiment's network."""
    tokens, channels, images = params.features.grid_size**2, 512, params.train.batch_size
    data = torch.randn(images, tokens, channels)
    seeded(0)
    network = reconstruction_network((tokens, channels), params.model).train()

    def loss(batch: torch.Tensor) -> torch.Tensor:
        f = data[batch]
        with autocast(params.train, "cpu"):
            reconstruction = network(f)
        return (f - reconstruction.float()).square().mean()

    step = Step(network, loss, params.train, piece_size(network, tokens, params.train, "cpu"))
    seconds = _timed(lambda: step(torch.arange(images), params.train.lr))
    return 6 * cost.multiplications(params.model, tokens) * tokens * images / seconds / 1e12


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds, of the processor: what other programs do beside it hardly counts."""
    work()
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)
