"""Methods of anomaly detection, a module each, all of two calls:

    fit(features, params, context) -> Fitted
    anomaly_map(state, features, params) -> (N, G, G) float32

`features` are a category's (N, G·G, C) float16 tokens, `params` the experiment's parameters, `state` the tensors that
`fit` learned. To add a method, write a module here and name it as `method` of an experiment; if it has parameters, a
section of its name in params/default.yaml holds them. N images, G side of the grid, C channels.
"""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor


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
