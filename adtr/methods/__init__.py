"""Methods of anomaly detection, a module each, all of two calls:

    fit(features, params, context) -> Fitted
    anomaly_map(state, features, params) -> (N, G, G) float32

`features` are a category's (N, G·G, C) float16 tokens, `params` the experiment's parameters, `state` the tensors that
`fit` learned. To add a method, write a module here and name it as `method` of an experiment; if it has parameters, a
section of its name in params/default.yaml holds them. N images, G side of the grid, C channels.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor


def precision(asked: str, device: str) -> str:
    """What the matrix products of a training are computed in: float32, or bfloat16 with float32 sums."""
    if asked != "auto":
        return asked
    cuda = device.startswith("cuda")
    native = torch.cuda.is_bf16_supported(False) if cuda else torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


@dataclass(frozen=True)
class Context:
    """Where and with which seed a method is fitted."""

    seed: int
    device: str = "cpu"
    state: Path | None = None  # a folder from which a killed fit resumes; None to keep nothing


@dataclass(frozen=True)
class Fitted:
    """What a method learned, and a row for every epoch, if it has epochs."""

    state: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    parameters: int = 0  # how many were trained by gradients
