"""SPADE (Cohen & Hoshen, arXiv 2005.02357): nearest images, then the nearest tokens in them.

An image's score is its mean distance to its K nearest training images; a token's is its mean distance to its kappa
nearest among the tokens of these images, at any position. The pyramid of features is a token's concatenated layers.

Departures: an image is described by all its layers, averaged over the grid, where the paper pools the last one.
Channels are standardised on the training tokens: the blocks of an EfficientNet end without activation, each layer at a
scale of its own, so that plain distances would be those of one layer. Distances are not squared. The map is smoothed by
nothing.
"""

import numpy as np
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.methods.neighbours import as_maps, batches, nearest, pooled, standardization
from adtr.train.context import Context, Fitted


def fit(features: np.ndarray, _params: Params, _context: Context) -> Fitted:
    """(N, G·G, C) to the gallery: itself, the images' descriptors (N, C), and the channels' mean and scale (C,)."""
    mean, std = standardization(features)
    gallery = torch.from_numpy(np.ascontiguousarray(features))
    return Fitted({"gallery": gallery, "images": (pooled(features) - mean) / std, "mean": mean, "std": std})


def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """The mean distance of each token to its nearest in the nearest images: (N, G, G) float32."""
    gallery, mean, std = (state[key].to(device) for key in ("gallery", "mean", "std"))
    _, images = _nearest_images(state, features, params, device)
    bank = torch.empty((images.shape[1], *gallery.shape[1:]), device=gallery.device)  # the same for all images

    def distances(image: Tensor, chosen: Tensor) -> Tensor:
        bank.copy_(gallery[chosen]).sub_(mean).div_(std)
        asked = (image[0].to(device).float() - mean) / std
        return nearest(asked, bank.flatten(0, 1), params.spade.kappa)[0].mean(1)[None]

    return as_maps(map(distances, batches(features, 1), images))


def image_score(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """The mean distance of each image to its nearest training images: (N,) float32."""
    distances, _ = _nearest_images(state, features, params, device)
    return distances.mean(1).cpu().numpy()


def _nearest_images(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str) -> tuple[Tensor, ...]:
    """Distances and indices (N, K) of the training images nearest to each image."""
    asked = (pooled(features) - state["mean"]) / state["std"]
    return nearest(asked.to(device), state["images"].to(device), params.spade.neighbours)
