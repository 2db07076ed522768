"""A convolutional autoencoder of pixels (Bergmann et al., VISAPP 2019, the L2 variant).

Its tokens are patches of the normalised image (`features.backbone: pixels`). Convolutions of stride 2 halve the side
until it is 8 px or odd, one over all that is left gives `latent` numbers; transposed ones mirror them.

Departures: no convolutions of stride 1 between, images of any size where the paper has 128 px, and the training is that
of the section `train`. The score of a token is the L2 norm of what its patch misses.
Shapes: n images, S side of the image and p of a patch in px, G = S/p.
"""

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr.config.methods import Params
from adtr.errors import UserError
from adtr.methods.neighbours import as_maps
from adtr.train.context import Context, Fitted
from adtr.train.loop import autocast, optimize, seeded

SLOPE = 0.2  # of the leaky ReLU


class Autoencoder(nn.Module):
    """(n, 3, S, S) to its reconstruction; `side` is S, `width` and `latent` are as in the parameters."""

    def __init__(self, side: int, width: int, latent: int):
        super().__init__()
        channels = [3]
        while side > 8 and side % 2 == 0:
            channels.append(width * 2 ** ((len(channels) - 1) // 2))
            side //= 2
        steps = list(pairwise(channels))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in steps)
        self.squeeze = nn.Conv2d(channels[-1], latent, side)
        self.spread = nn.ConvTranspose2d(latent, channels[-1], side)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 4, stride=2, padding=1) for a, b in reversed(steps))

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in self.down:
            x = F.leaky_relu(layer(x), SLOPE)
        x = self.spread(self.squeeze(x))
        for layer in self.up:
            x = layer(F.leaky_relu(x, SLOPE))
        return x


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """Trains the reconstruction of normal images from their patches (N, G·G, 3·p·p); errors as `optimize`."""
    data = torch.from_numpy(np.ascontiguousarray(features)).to(context.device)
    seeded(context.seed)
    network = _network(data.shape[1:], params).to(context.device)

    def loss(batch: Tensor) -> Tensor:
        images = unpatched(data[batch].float())
        with autocast(params.train, context.device):
            reconstruction = network(images)
        return F.mse_loss(reconstruction.float(), images)

    return optimize(network, lambda: torch.randperm(len(data)), loss, params.train, context)


@torch.inference_mode()
def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """The L2 norm of each patch's difference from its reconstruction: (N, G, G) float32."""
    with torch.device("meta"):
        network = _network(features.shape[1:], params)
    network.load_state_dict(state, assign=True)
    network.to(device).eval()

    def missed(batch: np.ndarray) -> Tensor:
        images = unpatched(torch.from_numpy(np.ascontiguousarray(batch)).to(device).float())
        return patched(images - network(images), math.isqrt(batch.shape[1])).norm(dim=-1)

    return as_maps(map(missed, np.array_split(features, max(1, len(features) // 32))))


def patched(images: Tensor, grid: int) -> Tensor:
    """Images (n, 3, S, S) as patches (n, G·G, 3·p·p), row by row."""
    return F.pixel_unshuffle(images, images.shape[-1] // grid).flatten(2).transpose(1, 2)


def unpatched(tokens: Tensor) -> Tensor:
    """The inverse of `patched`."""
    grid, patch = math.isqrt(tokens.shape[1]), math.isqrt(tokens.shape[2] // 3)
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (grid, grid)), patch)


def _network(shape: tuple[int, ...], params: Params) -> Autoencoder:
    tokens, channels = shape
    patch = math.isqrt(channels // 3)
    if 3 * patch**2 != channels:
        raise UserError(f"tokens of {channels} channels are no patches of pixels: set features.backbone to pixels")
    settings = params.autoencoder
    return Autoencoder(math.isqrt(tokens) * patch, settings.width, settings.latent)
