"""Nearest neighbours of tokens (after SPADE, Cohen & Hoshen, 2020).

The anomaly score of a token is its mean distance to its k nearest among the training tokens, of any image and any
position, in channels standardised on the training set. Where they are many, a seeded draw of them is kept.
"""

import math

import numpy as np
import torch
from torch import Tensor

from adtr.config import Params
from adtr.methods import Context, Fitted


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """(N, G·G, C) to the bank of tokens (M, C), standardised, and the mean and scale (C,) that do so."""
    tokens = features.reshape(-1, features.shape[2])
    keep = min(params.knn.coreset, len(tokens))  # type: ignore[attr-defined]
    drawn = np.sort(np.random.default_rng(context.seed).choice(len(tokens), keep, replace=False))
    bank = torch.from_numpy(tokens[drawn]).float()
    mean, std = bank.mean(0), bank.std(0, correction=0).clamp_min(1e-6)
    return Fitted({"bank": (bank - mean) / std, "mean": mean, "std": std})


def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """The mean distance of each token to its nearest neighbours: (N, G, G) float32."""
    side, neighbours = math.isqrt(features.shape[1]), params.knn.neighbours  # type: ignore[attr-defined]
    bank, mean, std = (state[key].to(device) for key in ("bank", "mean", "std"))
    maps = []
    for image in features:
        tokens = (torch.from_numpy(image).float().to(device) - mean) / std
        maps.append(torch.cdist(tokens, bank).topk(min(neighbours, len(bank)), largest=False).values.mean(1).cpu())
    return torch.stack(maps).unflatten(1, (side, side)).numpy()
