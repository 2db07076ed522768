"""PaDiM (Defard et al., ICPR 2021): a Gaussian of the features at every position of the grid.

The anomaly score of a token is its Mahalanobis distance to the Gaussian of its position. Channels are standardised
by nothing but the Gaussian itself; `channels` of them are drawn at random.
"""

import numpy as np
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.errors import UserError
from adtr.methods.neighbours import as_maps
from adtr.train.context import Context, Fitted


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """(N, G·G, C) to the channels drawn (d,), the means (G·G, d) and whitening matrices (G·G, d, d).

    Raises:
        UserError: a covariance is singular.
    """
    settings = params.padim
    count = min(settings.channels, features.shape[2])
    drawn = np.sort(np.random.default_rng(context.seed).choice(features.shape[2], count, replace=False))
    tokens = torch.from_numpy(features[:, :, drawn]).float().transpose(0, 1)
    mean = tokens.mean(1, keepdim=True)
    centred = tokens - mean
    covariance = centred.transpose(1, 2) @ centred / max(1, len(features) - 1)
    covariance += settings.epsilon * torch.eye(count)
    # distance² = xᵀ Σ⁻¹ x = ||L⁻¹ x||² with Σ = L Lᵀ
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        raise UserError(f"a covariance is singular: raise padim.epsilon ({settings.epsilon})")
    whitening = torch.linalg.solve_triangular(lower, torch.eye(count), upper=False)
    return Fitted({"channels": torch.from_numpy(drawn), "mean": mean.squeeze(1), "whitening": whitening.contiguous()})


def anomaly_map(state: dict[str, Tensor], features: np.ndarray, _params: Params, _device: str = "cpu") -> np.ndarray:
    """The Mahalanobis distance of each token to its position's Gaussian: (N, G, G) float32."""

    def distances(batch: np.ndarray) -> Tensor:
        tokens = torch.from_numpy(batch[:, :, state["channels"].numpy()]).float()
        centred = (tokens - state["mean"]).transpose(0, 1)
        return (centred @ state["whitening"].transpose(1, 2)).norm(dim=-1).transpose(0, 1)

    return as_maps(map(distances, np.array_split(features, max(1, len(features) // 64))))
