"""PatchCore (Roth et al., CVPR 2022): distances to a coreset of locally aware tokens.

A token is averaged with its neighbours on the grid; a share of the training tokens is kept, each the farthest from
those kept before it, in a random projection. A token's score is its distance to the nearest one kept. An image's score
is its largest one, weighted by how lonely that nearest token is (Eq. 7).

Departures: all layers of the store where the paper takes two, averaged after they are resized to one grid. Channels
are standardised on the training tokens (spade.py says why). One token drawn at random begins the coreset, where the
authors' code draws ten. The map is smoothed by nothing.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adtr.config.methods import Params
from adtr.methods.neighbours import as_maps, batches, nearest, squared_distances, standardization
from adtr.train.context import Context, Fitted

IMAGES = 16  # at a time
CHUNK = 4096  # tokens whose distances are brought up to date at a time
CANDIDATES = 1024  # tokens among which the greedy choice is followed between two updates


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """(N, G·G, C) to the bank (M, C) float16 of standardised, locally aware tokens, and the mean and scale (C,)."""
    settings = params.patchcore
    mean, std = standardization(features)
    images, tokens, channels = features.shape
    rng = np.random.default_rng(context.seed)
    first, projection = int(rng.integers(images * tokens)), torch.eye(channels)
    if settings.projection < channels:  # at random, which keeps distances (Johnson & Lindenstrauss)
        drawn = rng.standard_normal((channels, settings.projection), np.float32)
        projection = torch.from_numpy(drawn / math.sqrt(settings.projection))

    aware = (_locally_aware(batch, mean, std, settings.neighbourhood) for batch in batches(features, IMAGES))
    projected = torch.cat([batch.flatten(0, 1) @ projection for batch in aware]).to(context.device)
    count = max(1, round(settings.coreset_ratio * len(projected)))
    kept = torch.zeros(len(projected), dtype=torch.bool)
    kept[greedy_coreset(projected, count, first)] = True

    parts = zip(batches(features, IMAGES), kept.unflatten(0, (images, tokens)).split(IMAGES), strict=True)
    bank = [_locally_aware(batch, mean, std, settings.neighbourhood)[rows].half() for batch, rows in parts]
    return Fitted({"bank": torch.cat(bank), "mean": mean, "std": std})


def anomaly_map(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """The distance of each token to the nearest of the bank: (N, G, G) float32."""
    bank, parts = state["bank"].to(device).float(), _asked(state, features, params, device)
    return as_maps(nearest(tokens.flatten(0, 1), bank, 1)[0].view(tokens.shape[:2]) for tokens in parts)


def image_score(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str = "cpu") -> np.ndarray:
    """s = (1 - exp(s*) / sum over N_b(m*) of exp(||m_test - m||)) s* (Eqs. 6, 7): (N,) float32.

    s* is the distance of an image's farthest token m_test to its nearest m* of the bank, N_b(m*) are the b nearest of
    the bank to m*, itself among them. Without others, s = s*.
    """
    bank, scores = state["bank"].to(device).float(), []
    for tokens in _asked(state, features, params, device):
        distances, indices = (x.view(tokens.shape[:2]) for x in nearest(tokens.flatten(0, 1), bank, 1))
        farthest, position = distances.max(1)
        rows = torch.arange(len(tokens), device=tokens.device)
        _, around = nearest(bank[indices[rows, position]], bank, params.patchcore.neighbours)
        if around.shape[1] > 1:
            others = (tokens[rows, position, None] - bank[around]).norm(dim=-1)
            farthest = (1 - torch.exp(farthest - others.logsumexp(1))) * farthest
        scores.append(farthest.cpu())
    return torch.cat(scores).numpy()


def greedy_coreset(tokens: Tensor, count: int, first: int) -> Tensor:
    """Indices (count,) of tokens (M, d) in the order of choice: each is the farthest from those before it (Alg. 1)."""
    distances = torch.full((len(tokens),), math.inf, device=tokens.device)  # squared, to the nearest one chosen
    chosen = fresh = [first]
    while True:
        for part, known in zip(tokens.split(CHUNK), distances.split(CHUNK), strict=True):
            torch.minimum(known, squared_distances(part, tokens[fresh]).amin(1), out=known)
        distances[fresh] = -1  # nothing is chosen twice, not even where tokens are equal
        if len(chosen) == count:
            return torch.tensor(chosen)
        fresh = _next(tokens, distances, count - len(chosen))
        chosen = chosen + fresh


def _next(tokens: Tensor, distances: Tensor, most: int) -> list[int]:
    """The next greedy choices, at least one.

    A distance only ever falls. So the choice can be followed among the farthest tokens alone, until the next one is
    nearer than a token left aside was: the very choice that looks at all tokens each time, by products of matrices.
    """
    farthest, candidates = distances.topk(min(CANDIDATES, len(distances)))
    aside = farthest[-1].item() if len(candidates) < len(distances) else -math.inf
    known = farthest.cpu().numpy()
    within = squared_distances(tokens[candidates], tokens[candidates]).cpu().numpy()
    order: list[int] = []
    while len(order) < most and (not order or known.max() >= aside):
        order.append(int(known.argmax()))
        known = np.minimum(known, within[order[-1]])
        known[order[-1]] = -1
    return candidates[order].tolist()


def _asked(state: dict[str, Tensor], features: np.ndarray, params: Params, device: str) -> Iterator[Tensor]:
    mean, std = state["mean"].to(device), state["std"].to(device)
    for batch in batches(features, IMAGES):
        yield _locally_aware(batch.to(device), mean, std, params.patchcore.neighbourhood)


def _locally_aware(batch: Tensor, mean: Tensor, std: Tensor, neighbourhood: int) -> Tensor:
    """Standardised tokens (n, G·G, C), averaged over their neighbourhood on the grid.

    Beyond the border are zeros, as in the authors' code; standardised, that is the mean of each channel.
    """
    tokens = (batch.float() - mean).div_(std)
    side = math.isqrt(tokens.shape[1])
    grid = tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    pooled = F.avg_pool2d(grid, neighbourhood, stride=1, padding=neighbourhood // 2)
    return pooled.permute(0, 2, 3, 1).flatten(1, 2)
