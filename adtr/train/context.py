"""What a method of anomaly detection gets and gives. A method is a module of adtr/methods with two functions:

    fit(features, params, context) -> Fitted
    anomaly_map(state, features, params, device) -> (N, G, G) float32

`features` are a category's (N, G·G, C) float16 tokens, `params` the experiment's parameters, `state` the tensors that
`fit` learned. N images, G side of the feature grid in tokens, C channels.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.data.images import anomalous_tokens, read_mask
from adtr.errors import UserError
from adtr.features.select import data_digest
from adtr.features.store import read_store


def precision(asked: str, device: str) -> str:
    """What the matrix products of a training are computed in: float32, or bfloat16 with float32 sums."""
    if asked != "auto":
        return asked
    faster = torch.cuda.is_bf16_supported(False) if device.startswith("cuda") else _faster_in_bfloat16()
    return "bfloat16" if faster else "float32"


def _faster_in_bfloat16() -> bool:
    """Whether this processor is: of those with AVX-512 for it AMD's are, Intel's only where they have AMX as well."""
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and "Intel" not in str(has.get("cpu_name", "Intel"))))


@dataclass(frozen=True)
class Bank:
    """Anomalous images: their manifest, the folder of their masks, their feature store; all of them count, or some."""

    manifest: pd.DataFrame
    root: Path
    store: Path
    sources: frozenset[str] | None = None  # the images whose noisy copies count; None: all

    @property
    def counts(self) -> np.ndarray:
        """(M,) bool, which rows of the manifest do."""
        every = np.ones(len(self.manifest), bool)
        return every if self.sources is None else self.manifest["source"].isin(self.sources).to_numpy()


@dataclass(frozen=True)
class Anomalies:
    """Images that are known to be anomalous; confetti's stand in the order of the images they were made from."""

    features: np.ndarray  # (M, G·G, C) float16, memory-mapped
    tokens: Tensor  # (M, G·G) bool, true where anomalous; all of an image that has a label only


@dataclass(frozen=True)
class Context:
    """Where, with which seed and from what a method is fitted."""

    seed: int
    device: str = "cpu"
    state: Path | None = None  # a folder from which an interrupted fit resumes; None to save nothing
    start: dict[str, Tensor] | None = None  # what another run learned, to start from
    anomalies: Anomalies | None = None
    held: Callable[[], None] = lambda: None  # raises if another process has taken over the state


@dataclass(frozen=True)
class Fitted:
    """What a method learned, and a row for every epoch, if it has epochs."""

    state: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    parameters: int = 0  # how many were trained by gradients
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # by epoch, before the last
    seconds_before: float = 0.0  # of earlier processes whose state was resumed


def method_of(params: Params) -> ModuleType:
    """The module of adtr/methods that the parameters name."""
    return importlib.import_module(f"adtr.methods.{params.method}")


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """Fits the method to the features (N, G·G, C) float16 of normal images; a UserError says what the user can mend."""
    torch.set_num_threads(params.train.threads if params.trains else 1)  # the same sums whatever the machine
    fitted: Fitted = method_of(params).fit(features, params, context)
    return fitted


def anomalies_of(bank: Bank, params: Params) -> Anomalies:
    """The images of a bank with the tokens that their masks mark; all, without a mask.

    Raises:
        UserError: the store is not that of the manifest, or a mask is missing or has changed.
    """
    features, info = read_store(bank.store)
    if info["data"] != data_digest(bank.manifest):
        raise UserError(f"{bank.store}: made of other images than the bank's manifest: run `adtr features`")
    size, grid, counts = params.features.image_size, params.features.grid_size, bank.counts
    rows = bank.manifest[counts]
    tokens = [
        anomalous_tokens(read_mask(bank.root, reference, size, digest), grid) if reference else np.full(grid**2, True)
        for reference, digest in zip(rows["mask"], rows.mask_sha256, strict=True)
    ]
    return Anomalies(features if counts.all() else features[counts], torch.from_numpy(np.stack(tokens)))
