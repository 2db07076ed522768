"""What a reconstruction leaves, measured by its distance to what it leaves of normal training images. Not the paper's.

PaDiM is the Mahalanobis distance to a constant reconstruction, ADTR the L2 norm to a learned one (Eq. 3). Here any
finished reconstruction, or the mean of each position, is joined with any of three distances, so that what is owed to
the reconstruction and what to the distance can be told apart.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.errors import UserError
from adtr.methods.adtr import differences, trained
from adtr.methods.neighbours import as_maps, batches
from adtr.train.context import Context, Fitted

NETWORK = "network."  # before the names of the reconstruction's tensors
BATCH = 32  # images


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """(N, G·G, C) to the distance of d = f - f̂ (Eq. 2): channels (c,), centre (G·G, c), and how d is scaled.

    The scale is (P, c, c) for `mahalanobis`, with whitening matrices, (P, c) for `standardized`, and none for `l2`;
    P is G·G, or 1 for a distance that all positions share. With `equal_scale` it is times the root of the mean squared
    length of d - centre at the position: else a position where normal images differ little weighs more than others.

    Raises:
        UserError: a covariance is singular.
    """
    settings, channels = params.residual, features.shape[2]
    network = {NETWORK + name: tensor for name, tensor in (context.start or {}).items()}
    count = min(settings.channels, channels)
    drawn = np.sort(np.random.default_rng(context.seed).choice(channels, count, replace=False))
    state = network | {"channels": torch.from_numpy(drawn)}
    d = torch.cat(list(_residuals(state, features, params, context.device)))
    centre = d.mean((0, 1)).expand(d.shape[1:]).contiguous() if settings.shared else d.mean(0)
    if settings.distance == "l2":  # of a network it is Eq. 3
        return Fitted(state | {"centre": torch.zeros_like(centre) if network else centre})
    state["centre"] = centre
    d -= centre
    d = d.flatten(0, 1)[None] if settings.shared else d.transpose(0, 1)  # (P, n, c)
    variance = d.square().sum(1) / max(1, d.shape[1] - 1)
    shrinkage = settings.epsilon * variance.mean()
    unit = variance.sum(1, keepdim=True).sqrt() if settings.equal_scale else torch.ones(len(d), 1)
    if settings.distance == "standardized":
        return Fitted(state | {"scale": unit * (variance + shrinkage).rsqrt()})
    covariance = d.transpose(1, 2) @ d / max(1, d.shape[1] - 1) + shrinkage * torch.eye(count)
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        raise UserError(f"a covariance is singular: raise residual.epsilon ({settings.epsilon})")
    whitening = torch.linalg.solve_triangular(lower, torch.eye(count), upper=False)
    return Fitted(state | {"scale": unit[:, :, None] * whitening})


def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """The distance of each token: (N, G·G, C) float16 to (N, G, G) float32."""
    scale = state.get("scale")

    def distances(d: Tensor) -> Tensor:
        d = d - state["centre"]
        if scale is None:
            return d.norm(dim=-1)
        if scale.ndim == 2:
            return (d * scale).norm(dim=-1)
        return (d.transpose(0, 1) @ scale.transpose(1, 2)).norm(dim=-1).transpose(0, 1)

    return as_maps(map(distances, _residuals(state, features, params, device)))


def _residuals(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str) -> Iterator[Tensor]:
    """d (n, G·G, c) of one batch of images after the other; without a network the features themselves."""
    learned = {name.removeprefix(NETWORK): value for name, value in state.items() if name.startswith(NETWORK)}
    network = trained(learned, features.shape[1:], params).to(device) if learned else None
    with torch.inference_mode():
        for batch in batches(features, BATCH):
            d = differences(network, batch.numpy(), device).cpu() if network else batch.float()
            yield d[:, :, state["channels"]]
