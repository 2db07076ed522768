"""Counts of pixels: resampled images have the metrics that the exact code measures on their copies."""

import numpy as np
import pytest
from scipy import ndimage

from adtr.evaluate import bootstrap, metrics
from adtr.evaluate.pixels import Counts, count, empty, placed


def case(images: int = 40, size: int = 128, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Masks of no, one or several regions, and smooth maps that are higher in most of them."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), bool)
    for image in range(0, images, 2):
        for _ in range(1 + image % 3):
            y, x = rng.integers(0, size - 30, 2)
            masks[image, y : y + rng.integers(1, 30), x : x + rng.integers(1, 30)] = True
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 4, 4))
    lift = 3 * rng.random((images, 1, 1)) * ndimage.gaussian_filter(masks.astype(float), (0, 2, 2))
    return masks, (noise / noise.std() + lift).astype(np.float32)


def test_counts_by_hand() -> None:
    mask = np.array([[[1, 0, 0, 1]], [[0, 0, 0, 0]]], bool)
    maps = np.array([[[3, 1, 2, 0]], [[0, 0, 1, 3]]], np.float32)
    found = count(mask, maps)
    assert found.normal.tolist() == [[0, 1, 1, 0], [2, 1, 0, 1]]
    assert found.region.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert found.image.tolist() == [0, 0]


def test_images_whose_masks_are_not_known_count_nothing() -> None:
    masks, maps = case()
    known = np.array([image % 3 > 0 for image in range(len(masks))])
    counts, found = count(masks[known], maps[known]), placed(count(masks[known], maps[known]), known)
    assert found.normal.dtype == found.image.dtype == np.uint32
    assert not found.normal[~known].any()
    weights = np.random.default_rng(0).random((len(masks), 3))
    for metric in (bootstrap.pixel_auroc, lambda of, weights: bootstrap.aupro(of, weights, 0.3)):
        assert metric(found, weights) == pytest.approx(metric(counts, weights[known]))


def test_regions_are_those_of_the_exact_metric_and_know_their_image() -> None:
    masks, maps = case()
    found = count(masks, maps)
    labels, total = ndimage.label(masks, metrics.TOUCHING)
    assert found.region.sum(axis=1).tolist() == np.bincount(labels.ravel())[1:].tolist()
    assert found.image.tolist() == [int(np.nonzero(labels == region)[0][0]) for region in range(1, total + 1)]
    assert found.normal.sum(axis=1).tolist() == (~masks).sum(axis=(1, 2)).tolist()
    assert found.normal.shape[1] <= 512


def times(images: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(N, 1) how often each image is among the `drawn`."""
    return np.bincount(drawn, minlength=len(images)).astype(float)[:, None]


@pytest.mark.parametrize("steps", [6, 0], ids=["few distinct scores", "all scores differ"])
@pytest.mark.parametrize("seed", range(4))
def test_a_resample_has_the_exact_metrics_of_its_images(seed: int, steps: int) -> None:
    """To rounding where each distinct score is a threshold, to 0.02 points where they are at steps of rank."""
    masks, maps = case(seed=seed)
    maps = np.round(maps * steps) / steps if steps else maps
    drawn = np.random.default_rng(seed).integers(len(masks), size=len(masks))
    weights, tolerance = times(masks, drawn), 1e-9 if steps else 2e-4
    counts = count(masks, maps)
    assert (counts.normal.shape[1] < 400) == bool(steps)
    exact = metrics.auroc(masks[drawn], maps[drawn])
    assert bootstrap.pixel_auroc(counts, weights)[0] == pytest.approx(exact, abs=tolerance)
    for limit in (0.3, 0.05, 1.0):
        exact = metrics.aupro(masks[drawn], maps[drawn], limit)
        assert bootstrap.aupro(counts, weights, limit)[0] == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize(
    ("masks", "maps"),
    [
        (np.zeros((2, 2, 2), bool), np.eye(2)),
        (np.eye(2, dtype=bool), np.ones((2, 2))),
        (np.eye(2) > 0, np.full((2, 2), np.inf)),
    ],
    ids=["one class", "all equal", "not finite"],
)
def test_where_no_metric_is_defined_there_are_no_thresholds(masks: np.ndarray, maps: np.ndarray) -> None:
    found = count(np.broadcast_to(masks, (2, 2, 2)), np.broadcast_to(maps, (2, 2, 2)).astype(np.float32))
    assert [array.shape for array in found] == [array.shape for array in empty(2)] == [(2, 0), (0, 0), (0,)]
    assert isinstance(found, Counts)
