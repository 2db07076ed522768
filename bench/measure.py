"""What every measurement here needs: sides that take turns, the median of each, and the machine it was taken on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from adtr.config import Params, params_model, read_yaml
from adtr.provenance import _cpu


def seconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each side, s: they take turns, and a first round does not count."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def paper(**features: str) -> Params:
    """The paper's parameters, in the precision that is native here, with other parameters of the features."""
    default = read_yaml(Path("params/default.yaml"))
    default["train"]["precision"] = "auto"
    default["features"] |= features
    return params_model(default).model_validate(default)


def machine() -> str:
    return f"{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
