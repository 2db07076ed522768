"""What every measurement here needs: sides that take turns, the median of each, and the machine it was taken on."""

import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from adtr.config.methods import Params
from adtr.config.reader import read_yaml
from adtr.model.cpu_layers import Linear
from adtr.provenance import _cpu

Work = Callable[[], object]


def seconds(
    sides: Mapping[str, Work], rounds: int, clock: Callable[[], float] = time.perf_counter, duration: float = math.inf
) -> dict[str, float]:
    """The median time of each side, s: they take turns, and a first round does not count.

    Args:
        duration: seconds after which no round begins but the second.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + duration
    for number in range(rounds + 1):
        if number > 1 and time.perf_counter() > end:
            break
        for name, side in sides.items():
            began = clock()
            side()
            taken[name].append(clock() - began)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def product_rate(dtype: torch.dtype) -> float:
    """Operations a second of one large matrix product on one thread, the median."""
    torch.set_num_threads(1)
    layer, x = Linear(1024, 256).to(dtype), torch.randn(4096, 1024, dtype=dtype)
    with torch.inference_mode():
        return 2 * 4096 * 1024 * 256 / seconds({"": lambda: layer(x)}, 20)[""]


def side_by_side(count: int, make: Callable[..., Work], *args: object, duration: float = 30) -> float:
    """How often a second `make(*args)()` runs in `count` processes at once, a thread each; in all of them together.

    Raises:
        SystemExit: one of them failed, which has told why.
    """
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(count), context.SimpleQueue()
    workers = [context.Process(target=_repeat, args=(barrier, rates, duration, make, *args)) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("one of the processes failed")
    return float(sum(rates.get() for _ in workers))


def _repeat(barrier: Any, rates: Any, duration: float, make: Callable[..., Work], *args: object) -> None:
    torch.set_num_threads(1)
    try:
        work = make(*args)
        for _ in range(3):
            work()
    except BaseException:
        barrier.abort()  # or the others would wait for ever
        raise
    barrier.wait()
    began, done = time.perf_counter(), 0
    while time.perf_counter() < began + duration:
        work()
        done += 1
    rates.put(done / (time.perf_counter() - began))


def paper(**features: str | int) -> Params:
    """The paper's parameters, with other ones of the features."""
    default = read_yaml(Path("params/default.yaml"))
    default["features"] |= features
    return Params.model_validate(default)


def machine() -> str:
    return f"{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
