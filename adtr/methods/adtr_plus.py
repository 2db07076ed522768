"""ADTR+: the training of ADTR goes on with anomalies at hand (Sec. 3.3)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.methods.adtr import anomaly_map, differences, trained
from adtr.model.ablations import reconstruction_network
from adtr.model.losses import image_loss, pixel_loss, pseudo_huber
from adtr.train.context import Anomalies, Context, Fitted
from adtr.train.loop import autocast, optimize, piece_size, seeded

__all__ = ["anomaly_map", "differences", "fit", "trained"]


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """Pulls normal tokens towards their reconstruction and pushes anomalous ones away (Eq. 7 or 9).

    An index below N = len(features) is a normal image; N + i is the image i of the anomalies. Errors as `optimize`;
    ValueError without anomalies, or without a finished ADTR to start from.
    """
    if context.anomalies is None or context.start is None:
        raise ValueError("ADTR+ needs anomalies and a finished ADTR")
    plus, anomalies, normal = params.adtr_plus, context.anomalies, len(features)
    seeded(context.seed)
    network = reconstruction_network(features.shape[1:], params.model)
    network.load_state_dict(context.start)
    network.to(context.device)
    labels = torch.cat([torch.zeros(normal, features.shape[1], dtype=torch.bool), anomalies.tokens]).to(context.device)
    rows = _rows(features, anomalies, context.device)

    def loss(batch: Tensor) -> Tensor:
        f = network.standardized(rows(batch))
        with autocast(params.train, context.device):
            reconstruction = network(f)
        phi, anomalous = pseudo_huber(f, reconstruction.float()), labels[batch]
        if plus.loss == "pixel":
            return pixel_loss(phi, anomalous, plus.alpha)
        return image_loss(phi, anomalous.any(dim=1), plus.alpha, plus.top_k)

    def draw() -> Tensor:
        if plus.anomalies == "confetti":
            return noisy_order(normal, len(anomalies.features) // normal, plus.share)
        return torch.randperm(normal + len(anomalies.features))

    piece = piece_size(network, features.shape[1], params.train, context.device)
    return optimize(network, draw, loss, params.train, context, piece)


def noisy_order(images: int, variants: int, share: float) -> Tensor:
    """An epoch over N images: each stands once, replaced by one of its noisy variants with probability `share`.

    Gives indices (N,): i for image i, N + i · variants + v for its variant v.
    """
    order = torch.randperm(images)
    variant = images + order * variants + torch.randint(variants, (images,))
    return torch.where(torch.rand(images) < share, variant, order)


def _rows(features: np.ndarray, anomalies: Anomalies, device: str) -> Callable[[Tensor], Tensor]:
    """What gives the features (b, N, C) float16 of images, normal and anomalous: a GPU holds all, a CPU reads them."""
    if device != "cpu":
        whole = torch.from_numpy(np.concatenate([features, anomalies.features])).to(device)
        return lambda batch: whole[batch]
    normal, noisy = len(features), anomalies.features

    def read(batch: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([features[i] if i < normal else noisy[i - normal] for i in batch.tolist()]))

    return read
