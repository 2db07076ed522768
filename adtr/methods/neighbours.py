"""Tokens in their space: standardised channels, distances, nearest neighbours.

Shapes: N images, T tokens of an image, C channels, n tokens asked about, M tokens of a bank.
"""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

ROWS = 256  # tokens asked about at a time: bounds memory, and their distances stay in the processor's cache


def batches(features: np.ndarray, size: int) -> list[Tensor]:
    """`features` (N, T, C), memory-mapped or not, in tensors of at most `size` images; nothing is copied."""
    return [torch.from_numpy(np.ascontiguousarray(features[i : i + size])) for i in range(0, len(features), size)]


def as_maps(scores: Iterable[Tensor]) -> np.ndarray:
    """Scores (n, G·G) of one batch of images after the other, as maps (N, G, G) float32 of all."""
    whole = torch.cat([part.cpu() for part in scores])
    side = math.isqrt(whole.shape[1])
    return whole.unflatten(1, (side, side)).numpy()


def standardization(features: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel over all tokens of (N, T, C), accumulated in float64."""
    count = features.shape[0] * features.shape[1]
    mean = sum(batch.double().sum((0, 1)) for batch in batches(features, 32)) / count
    squares = sum((batch.double() - mean).square().sum((0, 1)) for batch in batches(features, 32))
    return mean.float(), (squares / count).sqrt().clamp_min(1e-6).float()


def pooled(features: np.ndarray) -> Tensor:
    """Each image's mean token: (N, T, C) to (N, C) float32."""
    return torch.cat([batch.float().mean(1) for batch in batches(features, 32)])


def squared_distances(tokens: Tensor, bank: Tensor) -> Tensor:
    """The squared Euclidean distances (n, M) of tokens (n, C) to a bank (M, C), by inner products."""
    products = torch.addmm(bank.square().sum(1), tokens, bank.T, alpha=-2)
    return products.add_(tokens.square().sum(1, keepdim=True)).clamp_min_(0)


def nearest(tokens: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances of tokens (n, C) to their `count` nearest in a bank (M, C), and which these are: (n, k), k <= count.

    Inner products find them; their distances are then taken of differences, which lose no digits where they are small.
    """
    count = min(count, len(bank))
    distances, indices = [], []
    for rows in tokens.split(ROWS):
        squares = squared_distances(rows, bank)
        indices.append(squares.argmin(1, keepdim=True) if count == 1 else squares.topk(count, largest=False).indices)
        distances.append((rows[:, None] - bank[indices[-1]]).norm(dim=-1))
    return torch.cat(distances), torch.cat(indices)
