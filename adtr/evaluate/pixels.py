"""How many pixels of each test image, and of each region of its mask, lie between thresholds on the anomaly map.

That is all that the pixel metrics of resampled images need: `adtr/evaluate/bootstrap.py` weighs the images. It is
written by the evaluation, so that tables are made in minutes, without maps and masks.

Shapes: N images of S x S pixels, R regions, T thresholds.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from adtr.evaluate.metrics import TOUCHING, Labels, Scores, UndefinedMetric, sorted_classes, spaced_thresholds

POINTS = 512  # thresholds at most; areas of 40 maps of 128 px are then right to 0.02 points: test_pixels.py


class Counts(NamedTuple):
    """Numbers of pixels, a column for each threshold, ascending, and what lies between it and the next."""

    normal: NDArray[np.uint32]  # (N, T) normal pixels of each image
    region: NDArray[np.uint32]  # (R, T) anomalous pixels of each region, all that touch by a side or a corner
    image: NDArray[np.uint32]  # (R,) the place of the region's image


def count(masks: Labels, maps: Scores) -> Counts:
    """The counts of maps (N, S, S) by masks (N, S, S) bool; without thresholds, T = 0, where no metric is defined."""
    try:
        edges = spaced_thresholds(list(sorted_classes(masks, maps)), POINTS)
    except UndefinedMetric:
        return empty(len(masks))
    normal = [_binned(scores[~mask], edges) for scores, mask in zip(maps, masks, strict=True)]
    regions, total = ndimage.label(masks, TOUCHING)
    places = regions[masks] - 1
    bins = places.astype(np.int64) * len(edges) + np.searchsorted(edges, maps[masks], side="right") - 1
    region = np.bincount(bins, minlength=total * len(edges)).reshape(total, len(edges))
    image = np.nonzero(masks)[0][np.unique(places, return_index=True)[1]]
    return Counts(np.stack(normal).astype(np.uint32), region.astype(np.uint32), image.astype(np.uint32))


def placed(counts: Counts, known: NDArray[np.bool_]) -> Counts:
    """The counts of the `known` (N,) images among all N: none of the others."""
    normal = np.zeros((len(known), counts.normal.shape[1]), np.uint32)
    normal[known] = counts.normal
    return Counts(normal, counts.region, np.flatnonzero(known)[counts.image].astype(np.uint32))


def empty(images: int) -> Counts:
    """The counts where there is nothing to count."""
    return Counts(np.zeros((images, 0), np.uint32), np.zeros((0, 0), np.uint32), np.zeros(0, np.uint32))


def _binned(scores: Scores, edges: Scores) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, scores, side="right") - 1, minlength=len(edges))
