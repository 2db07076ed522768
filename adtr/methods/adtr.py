"""ADTR on normal images (Sec. 3.1), and the ablations of its network (Sec. 4.4)."""

import numpy as np
import torch
from torch import Tensor

from adtr.config.methods import Params
from adtr.methods.neighbours import as_maps, standardization
from adtr.model.ablations import reconstruction_network
from adtr.model.losses import normal_loss
from adtr.model.transformer import Reconstruction
from adtr.train.context import Context, Fitted
from adtr.train.loop import autocast, optimize, piece_size, seeded


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """Trains the reconstruction of normal features (Eq. 1); errors as `optimize`."""
    data = torch.from_numpy(np.ascontiguousarray(features)).to(context.device)
    seeded(context.seed)
    network = reconstruction_network(data.shape[1:], params.model)
    if params.model.standardize:
        network.mean, network.std = standardization(features)
    network.to(context.device)

    def loss(batch: Tensor) -> Tensor:
        f = network.standardized(data[batch])
        with autocast(params.train, context.device):
            reconstruction = network(f)
        return normal_loss(f, reconstruction.float())

    piece = piece_size(network, data.shape[1], params.train, context.device)
    return optimize(network, lambda: torch.randperm(len(data)), loss, params.train, context, piece)


@torch.inference_mode()
def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """s(u) = ||d(:, u)||_2 (Eq. 3): (N, G·G, C) float16 to (N, G, G) float32."""
    network = trained(state, features.shape[1:], params).to(device)
    batches = np.array_split(features, max(1, len(features) // 32))
    return as_maps(differences(network, batch, device).norm(dim=-1) for batch in batches)


def trained(state: dict[str, Tensor], shape: tuple[int, ...], params: Params) -> Reconstruction:
    """The network with what was learned, in evaluation mode; `shape` is (tokens, channels)."""
    with torch.device("meta"):  # without fresh weights, which take longer than an image
        network = reconstruction_network(shape, params.model)
    network.load_state_dict(state, assign=True)
    return network.eval()


def differences(network: Reconstruction, features: np.ndarray, device: str = "cpu") -> Tensor:
    """d = f - f̂ (Eq. 2), (n, G·G, C) float32."""
    f = network.standardized(torch.from_numpy(np.ascontiguousarray(features)).to(device))
    return f - network(f)
