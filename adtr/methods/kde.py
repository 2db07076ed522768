"""Kernel density estimation: the negative log density of an image, and of each token.

The density is a mean of Gaussians, one around each training point (Bishop 2007, Eq. 2.250). For an image's score the
points are the images, averaged over the grid; for the map they are at most `max_tokens` training tokens, evenly spaced,
of any position. Channels are standardised and projected on their `components` principal axes; the bandwidth is, of a
grid, the one that makes the points likeliest, each left out of its own estimate (as Ruff et al., ICML 2018, who use
principal components and cross-validation in five folds).

Scores lack the constant log norm of the kernel: -log of the mean of exp(-d² / 2h²), which moves no rank and is >= 0.
"""

import math

import numpy as np
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.methods.neighbours import ROWS, as_maps, batches, pooled, squared_distances
from adtr.train.context import Context, Fitted

BANDWIDTHS = [2 ** (step / 2) for step in range(-6, 11)]  # 1/8 to 32, in units of a standardised channel


def fit(features: np.ndarray, params: Params, _context: Context) -> Fitted:
    """(N, G·G, C) to the density of images and that of tokens, each of centre, axes, points and bandwidth."""
    settings = params.kde
    tokens = features.reshape(-1, features.shape[2])
    count = min(settings.max_tokens, len(tokens))
    spaced = np.linspace(0, len(tokens) - 1, count).round().astype(int)
    images = _density(pooled(features), settings.components, "images")
    return Fitted(images | _density(torch.from_numpy(tokens[spaced]).float(), settings.components, "tokens"))


def anomaly_map(state: dict[str, Tensor], features: np.ndarray, _params: Params, device: str = "cpu") -> np.ndarray:
    """The negative log density of each token, up to a constant: (N, G, G) float32."""
    parts = batches(features, 16)
    return as_maps(_surprise(state, "tokens", x.flatten(0, 1).float(), device).view(x.shape[:2]) for x in parts)


def image_score(state: dict[str, Tensor], features: np.ndarray, _params: Params, device: str = "cpu") -> np.ndarray:
    """The negative log density of each image, up to a constant: (N,) float32."""
    return _surprise(state, "images", pooled(features), device).numpy()


def _density(points: Tensor, components: int, name: str) -> dict[str, Tensor]:
    """What describes the density of points (M, C): `centre` (C,), `axes` (C, d), `points` (M, d), `bandwidth` ()."""
    mean = points.double().mean(0)
    std = (points.double() - mean).square().mean(0).sqrt().clamp_min(1e-6)
    standardised = (points - mean) / std
    _, vectors = torch.linalg.eigh(standardised.T @ standardised)  # ascending
    spread = max(1, len(points) - 1)  # so many axes have a spread; the order of the others is chance
    axes = vectors.flip(1)[:, : min(components, spread)]
    projected = (standardised @ axes).float()
    state = {"centre": mean.float(), "axes": (axes / std[:, None]).float(), "points": projected}
    state["bandwidth"] = torch.tensor(_bandwidth(projected))
    return {f"{name}.{key}": value.contiguous() for key, value in state.items()}


def _bandwidth(points: Tensor) -> float:
    """Of BANDWIDTHS, the one of the largest likelihood of points (M, d), each left out of its own estimate."""
    if len(points) == 1:
        return 1.0
    likelihood = [-points.numel() * math.log(h) for h in BANDWIDTHS]
    for start in range(0, len(points), ROWS):
        squares = squared_distances(points[start : start + ROWS], points)
        squares.diagonal(start).fill_(math.inf)
        for i, h in enumerate(BANDWIDTHS):
            likelihood[i] += (squares / (-2 * h**2)).logsumexp(1).double().sum().item()
    return BANDWIDTHS[int(np.argmax(likelihood))]


def _surprise(state: dict[str, Tensor], name: str, tokens: Tensor, device: str) -> Tensor:
    """-log of the mean kernel at each of the tokens (n, C): (n,)."""
    keys = ("centre", "axes", "points", "bandwidth")
    centre, axes, points, bandwidth = (state[f"{name}.{key}"].to(device) for key in keys)
    scores = []
    for rows in tokens.to(device).split(ROWS):
        squares = squared_distances((rows - centre) @ axes, points)
        scores.append(math.log(len(points)) - squares.div_(-2 * bandwidth**2).logsumexp(1))
    return torch.cat(scores).clamp_min(0).cpu()
