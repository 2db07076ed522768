"""Feature difference vectors d(:, u) of a run's test images, drawn at random, normal and anomalous in equal numbers.

Of Eq. 2, for Fig. 5. Shapes: n images, T tokens of one, C channels, M vectors.
"""

import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adtr import records
from adtr.config.methods import Params
from adtr.data.images import anomalous_tokens
from adtr.errors import UserError
from adtr.evaluate.measure import truth_of
from adtr.features.select import data_digest, select
from adtr.files import saved
from adtr.train.context import method_of
from adtr.train.run import check_stores, read_model, read_record

logger = logging.getLogger(__name__)

BATCH = 32  # images
COUNT = 600  # vectors, fewer where there are not so many


def draw(anomalous: np.ndarray, count: int) -> np.ndarray:
    """(M, 2) image and token of `count` // 2 anomalous and as many normal tokens, fewer where there are not so many.

    Of `anomalous` (n, T) bool; normal tokens are drawn from all images. The same each time.
    """
    rng = np.random.default_rng(0)
    found = [np.argwhere(marked) for marked in (~anomalous, anomalous)]
    each = min(count // 2, *map(len, found))
    return np.concatenate([places[np.sort(rng.choice(len(places), each, replace=False))] for places in found])


def write_differences(
    run: Path,
    manifest: pd.DataFrame,
    stores: dict[str, Path],
    root: Path,
    params: Params,
    output: Path,
    device: str = "cpu",
) -> None:
    """Writes vectors (M, C) float32, anomalous (M,) bool, image (M,) and token (M,) int64 to an .npz, with its record.

    An image is numbered among the test images, in the manifest's order; a token is anomalous where any pixel of its
    mask is; without masks none is, and nothing is written of normal ones either. Anomalous images that lack a mask
    are left out.

    Raises:
        UserError: the method has no feature differences, or run, features and masks do not belong together.
    """
    method = method_of(params)
    if not hasattr(method, "differences"):
        raise UserError(f"{run}: the method {params.method} reconstructs no features: there are no differences")
    if params.features.image_size % params.features.grid_size:
        raise UserError(f"{run}: a token is no whole number of pixels, so that masks do not say which are anomalous")
    state = read_model(run)
    check_stores(run, stores)
    features, images = select(manifest, stores, ["test"])
    truth, grid = truth_of(root, images, params.features.image_size), math.isqrt(features.shape[1])
    known = np.flatnonzero(truth.known) if truth else np.empty(0, int)
    anomalous = np.zeros((len(images), grid**2), bool)
    for place, mask in zip(known, truth.masks if truth else (), strict=True):
        anomalous[place] = anomalous_tokens(mask, grid)
    place, token = draw(anomalous[known], COUNT).T
    image = known[place]
    vectors = np.empty((len(image), features.shape[2]), np.float32)
    network = method.trained(state, features.shape[1:], params).to(device)
    wanted = np.unique(image)
    with torch.inference_mode():
        for batch in np.array_split(wanted, max(1, math.ceil(len(wanted) / BATCH))):
            d = method.differences(network, features[batch], device).cpu().numpy()
            rows = np.isin(image, batch)
            vectors[rows] = d[np.searchsorted(batch, image[rows]), token[rows]]
    found = {"vectors": vectors, "anomalous": anomalous[image, token], "image": image, "token": token}
    made = {"model": read_record(run)["model"], "data": data_digest(images)}
    records.write(output.with_suffix(".json"), made, {output.name: saved(lambda file: np.savez(file, **found))})
    logger.info("%d vectors of %d channels, half of them anomalous", *vectors.shape)
