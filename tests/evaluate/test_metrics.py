"""Metrics against arithmetic by hand, brute force and scikit-learn."""

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from adtr.evaluate.metrics import UndefinedMetric, aupro, auroc, average_precision, pro_curve, roc_curve

ALL = [auroc, average_precision, roc_curve, aupro]


def tied_samples(seed: int, size: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """(size,) labels and scores of both signs, about ten samples to a score, mildly informative."""
    rng = np.random.default_rng(seed)
    gt = rng.random(size) < 0.2
    gt[:2] = [True, False]
    return gt, ((rng.integers(0, max(size // 10, 2), size) + 3 * gt - size // 20) / 7).astype(dtype)


def brute_force_auroc(gt: np.ndarray, score: np.ndarray) -> Fraction:
    wins = [Fraction(int(a > n)) + Fraction(int(a == n), 2) for a in score[gt] for n in score[~gt]]
    return sum(wins, Fraction(0)) / len(wins)


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


# Arithmetic by hand. Anomalous 3, 2, 1; normal 2, 0.
#   pairs: 3 beats 2 and 0 (2), 2 ties 2 and beats 0 (1.5), 1 loses to 2 and beats 0 (1): 4.5 of 6
#   precision x gain in recall: at 3 it is 1/1, at 2 it is 2/3, at 1 it is 3/4, each for 1/3 of the recall
#   curve: (0, 0), then at 3 (0, 1/3), at 2 (1/2, 2/3), at 1 (1/2, 1), at 0 (1, 1)
GT = labels(1, 1, 1, 0, 0)
SCORE = np.array([3, 2, 1, 2, 0], dtype=np.float32)


def test_auroc_by_hand() -> None:
    assert auroc(GT, SCORE) == 0.75


def test_average_precision_by_hand() -> None:
    assert average_precision(GT, SCORE) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3, abs=1e-15)


def test_roc_curve_by_hand() -> None:
    fpr, tpr = roc_curve(GT, SCORE)
    np.testing.assert_allclose(fpr, [0, 0, 1 / 2, 1 / 2, 1], atol=1e-15)
    np.testing.assert_allclose(tpr, [0, 1 / 3, 2 / 3, 1, 1], atol=1e-15)


def test_reversed_ranking_stays_below_a_half() -> None:
    assert auroc(~GT, SCORE) == 0.25
    assert auroc(labels(1, 0), np.array([0.0, 1.0])) == 0.0


def test_signed_zeros_are_a_tie() -> None:
    assert auroc(labels(1, 0, 0), np.array([-0.0, 0.0, 1.0], dtype=np.float32)) == 0.25
    assert auroc(labels(0, 1, 0), np.array([-0.0, 0.0, 1.0])) == 0.25


def test_adjacent_floats_are_not_a_tie() -> None:
    one = np.float32(1)
    assert auroc(labels(1, 0), np.array([np.nextafter(one, np.float32(2)), one])) == 1.0
    assert auroc(labels(1, 0), np.array([1 + 2**-52, 1.0])) == 1.0  # equal once rounded to float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(20))
def test_auroc_matches_brute_force(seed: int, dtype: type) -> None:
    gt, score = tied_samples(seed, size=2 + 3 * seed, dtype=dtype)
    assert auroc(gt, score) == float(brute_force_auroc(gt, score))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_matches_scikit_learn(seed: int, dtype: type) -> None:
    gt, score = tied_samples(seed, size=20_000, dtype=dtype)
    assert score.min() < 0 < score.max()
    assert np.unique(score).size < score.size / 5
    assert auroc(gt, score) == pytest.approx(roc_auc_score(gt, score), abs=1e-12)
    assert average_precision(gt, score) == pytest.approx(average_precision_score(gt, score), abs=1e-12)


@pytest.mark.parametrize("size", [5, 500, 5000])
def test_roc_curve_is_exact_for_few_scores(size: int) -> None:
    gt, score = tied_samples(3, size)
    for ours, theirs in zip(roc_curve(gt, score), sklearn_roc_curve(gt, score, drop_intermediate=False), strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("points", [3, 4, 10, 1000])
def test_thinned_roc_curve_keeps_its_shape(points: int) -> None:
    rng = np.random.default_rng(0)
    gt = rng.random(100_000) < 0.01
    score = rng.standard_normal(100_000).astype(np.float32) + 2 * gt
    fpr, tpr = roc_curve(gt, score, points)
    assert fpr.size == tpr.size <= points
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    if points == 1000:
        assert max(np.diff(fpr).max(), np.diff(tpr).max()) < 2.2 / points
        exact_fpr, exact_tpr, _ = sklearn_roc_curve(gt, score, drop_intermediate=False)
        on_the_curve = set(zip(exact_fpr.round(9), exact_tpr.round(9), strict=True))
        assert on_the_curve.issuperset(zip(fpr.round(9), tpr.round(9), strict=True))


# Per-region overlap.


def brute_force_aupro(gt_mask: np.ndarray, anomaly_map: np.ndarray, limit: float) -> float:
    """The definition, threshold by threshold: overlaps per region, trapezoids, interpolation at the limit."""
    regions = [region for image in range(len(gt_mask)) for region in flood_filled(gt_mask, image)]
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(anomaly_map.ravel().tolist()), reverse=True):
        found = anomaly_map >= threshold
        overlaps = [sum(bool(found[pixel]) for pixel in region) / len(region) for region in regions]
        curve.append((found[~gt_mask].mean(), sum(overlaps) / len(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def flood_filled(gt_mask: np.ndarray, image: int) -> list[list[tuple[int, int, int]]]:
    left = {(int(y), int(x)) for y, x in np.argwhere(gt_mask[image])}
    regions = []
    while left:
        front, region = [left.pop()], []
        while front:
            y, x = front.pop()
            region.append((image, y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
        regions.append(region)
    return regions


def masks_and_maps(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """(3, 9, 8) masks with scattered, often diagonal, pixels, the last one empty; maps of at most 2 `levels` values."""
    rng = np.random.default_rng(seed)
    gt_mask = rng.random((3, 9, 8)) < 0.2
    gt_mask[0, :2, :2] = np.eye(2, dtype=bool)
    gt_mask[2] = False
    return gt_mask, (rng.integers(0, levels, gt_mask.shape) + gt_mask * levels // 3 - levels / 2).astype(np.float32)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [3, 20, 10**6])
@pytest.mark.parametrize("seed", range(5))
def test_aupro_matches_brute_force(seed: int, levels: int, limit: float) -> None:
    gt_mask, anomaly_map = masks_and_maps(seed, levels)
    expected = brute_force_aupro(gt_mask, anomaly_map, limit)
    assert aupro(gt_mask, anomaly_map, limit) == pytest.approx(expected, abs=1e-12)


def area(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [3, 20, 10**6])
@pytest.mark.parametrize("seed", range(5))
def test_pro_curve_has_the_area_of_aupro(seed: int, levels: int, limit: float) -> None:
    gt_mask, anomaly_map = masks_and_maps(seed, levels)
    fpr, overlap = pro_curve(gt_mask, anomaly_map, limit)
    assert (fpr[0], overlap[0], fpr[-1]) == (0, 0, limit)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(overlap) >= 0).all()
    assert area(fpr, overlap) / limit == pytest.approx(aupro(gt_mask, anomaly_map, limit), abs=1e-12)


def test_pro_curve_by_hand() -> None:
    # As below: the pixel 9 is half of a region, 7 is normal, 6 is a region, 5 is normal: from 1/5 to 2/5 at 3/4.
    gt_mask = np.array([[[1, 1, 0, 0, 0, 0, 1, 0]]], dtype=bool)
    anomaly_map = np.array([[[9, 4, 7, 5, 3, 2, 6, 1]]], dtype=np.float32)
    fpr, overlap = pro_curve(gt_mask, anomaly_map, 0.3)
    assert fpr == pytest.approx([0, 0, 0.2, 0.2, 0.3])
    assert overlap == pytest.approx([0, 0.25, 0.25, 0.75, 0.75])


@pytest.mark.parametrize("points", [50, 300])
def test_thinned_pro_curve_keeps_its_area_and_its_points(points: int) -> None:
    rng = np.random.default_rng(0)
    gt_mask = np.zeros((4, 64, 64), bool)
    gt_mask[:3, 10:30, 20:40] = True
    anomaly_map = rng.normal(size=gt_mask.shape) + 1.5 * gt_mask
    fpr, overlap = pro_curve(gt_mask, anomaly_map, 0.3, points)
    whole = pro_curve(gt_mask, anomaly_map, 0.3, points=10**6)
    assert len(fpr) <= points + 1 < len(whole[0])
    assert set(zip(fpr[:-1], overlap[:-1], strict=True)) <= set(zip(*whole, strict=True))
    assert area(fpr, overlap) / 0.3 == pytest.approx(aupro(gt_mask, anomaly_map, 0.3), abs=20 / points**2)


def test_aupro_by_hand() -> None:
    # A region of two pixels (9 and 4) and one of one pixel (6), three columns apart; five normal pixels.
    # Scores downwards: 9 -> overlap 1/4; 7, normal -> rate 1/5; 6 -> 3/4; 5, normal -> rate 2/5; 4 -> 1; then 3, 2, 1.
    # Up to a rate of 0.3: 1/4 over the first 0.2, 3/4 over the other 0.1: 0.05 + 0.075 = 0.125, over 0.3.
    gt_mask = np.array([[[1, 1, 0, 0, 0, 0, 1, 0]]], dtype=bool)
    anomaly_map = np.array([[[9, 4, 7, 5, 3, 2, 6, 1]]], dtype=np.float32)
    assert aupro(gt_mask, anomaly_map) == pytest.approx(0.125 / 0.3, abs=1e-15)
    # To a rate of 1 the overlap is 1/4, 3/4 and then three times 1 over a fifth each.
    assert aupro(gt_mask, anomaly_map, limit=1.0) == pytest.approx((1 / 4 + 3 / 4 + 3) / 5, abs=1e-15)


def test_aupro_interpolates_inside_a_tie() -> None:
    # The anomalous pixel ties with two of four normal ones: the overlap rises from 0 to 1 while the rate goes from 0
    # to 1/2. At 0.3 it is 0.6, the triangle below is 0.3 x 0.6 / 2 = 0.09, over 0.3 that is 0.3.
    gt_mask = np.array([[[1, 0, 0, 0, 0]]], dtype=bool)
    anomaly_map = np.array([[[5, 5, 5, 1, 0]]], dtype=np.float32)
    assert aupro(gt_mask, anomaly_map, limit=0.3) == pytest.approx(0.3, abs=1e-15)


def test_corners_join_a_region_and_images_do_not() -> None:
    # Found at once: the diagonal pair's upper pixel, and nothing else before all normal pixels. One region of two gives
    # an overlap of 1/2; the same two pixels in two images are two regions, and a third, lone pixel tells the weights.
    anomaly_map = np.full((2, 3, 5), 1, dtype=np.float32)
    gt_mask = np.zeros((2, 3, 5), dtype=bool)
    for pixel in ((0, 0, 0), (0, 1, 1), (0, 0, 4)):
        gt_mask[pixel], anomaly_map[pixel] = True, 0
    anomaly_map[0, 0, 4] = 2
    assert aupro(gt_mask, anomaly_map) == 0.5  # regions {pair}, {found}: a third each if corners did not join
    gt_mask[0, 1, 1], anomaly_map[0, 1, 1], gt_mask[1, 0, 0], anomaly_map[1, 0, 0] = False, 1, True, 0
    assert aupro(gt_mask, anomaly_map) == pytest.approx(1 / 3, abs=1e-15)  # one half if images were joined


@pytest.mark.parametrize("limit", [0.01, 0.3, 0.7, 1.0])
def test_perfect_map_has_aupro_one(limit: float) -> None:
    gt_mask, _ = masks_and_maps(7, 3)
    assert aupro(gt_mask, gt_mask.astype(np.float32), limit) == 1.0
    assert aupro(gt_mask, -gt_mask.astype(np.float32), limit) == 0.0


def test_random_map_has_aupro_of_half_the_limit() -> None:
    rng = np.random.default_rng(0)
    gt_mask = np.zeros((20, 100, 100), dtype=bool)
    gt_mask[:, 10:30, 10:30] = gt_mask[:, 50:80, 60:70] = True
    anomaly_map = rng.random(gt_mask.shape, dtype=np.float32)
    assert aupro(gt_mask, anomaly_map, 0.3) == pytest.approx(0.15, abs=0.01)


# What must not matter, and what must be refused.


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("transform", [lambda s: 8 * s, lambda s: np.arctan(s.astype(np.float64)), lambda s: s**3])
def test_monotone_transformation_changes_nothing(metric: Callable, transform: Callable) -> None:
    gt_mask, anomaly_map = masks_and_maps(1, 20)
    np.testing.assert_array_equal(metric(gt_mask, transform(anomaly_map)), metric(gt_mask, anomaly_map))


@pytest.mark.parametrize("metric", [auroc, average_precision, roc_curve])
def test_order_and_shape_of_samples_do_not_matter(metric: Callable) -> None:
    gt, score = tied_samples(5, 3000)
    order = np.random.default_rng(0).permutation(gt.size)
    expected = metric(gt, score)
    np.testing.assert_array_equal(metric(gt[order], score[order]), expected)
    np.testing.assert_array_equal(metric(gt.reshape(3, 20, 50), score.reshape(3, 20, 50)), expected)


@pytest.mark.parametrize("flip", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1]])
def test_aupro_does_not_depend_on_the_order_of_images_or_pixels(flip: tuple | slice) -> None:
    gt_mask, anomaly_map = masks_and_maps(2, 20)
    assert aupro(gt_mask[flip], anomaly_map[flip]) == pytest.approx(aupro(gt_mask, anomaly_map), abs=1e-12)


@pytest.mark.parametrize("metric", ALL)
def test_inputs_are_left_as_they_were(metric: Callable) -> None:
    gt_mask, anomaly_map = masks_and_maps(2, 20)
    gt_before, map_before = gt_mask.copy(), anomaly_map.copy()
    metric(gt_mask, anomaly_map)
    np.testing.assert_array_equal(gt_mask, gt_before)
    np.testing.assert_array_equal(anomaly_map, map_before)


def stack(values: list) -> np.ndarray:
    return np.array(values)[None, None]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("gt", "score", "reason"),
    [
        ([False, False], [0.0, 1.0], "only one class.*anomalous"),
        ([True, True], [0.0, 1.0], "only one class.*normal"),
        ([True, False], [0.5, 0.5], "all scores are equal"),
        ([True, False], [-0.0, 0.0], "all scores are equal"),
        ([True, True, False], [0.0, np.nan, 1.0], "not all finite"),
        ([True, False, False], [0.0, np.nan, 1.0], "not all finite"),
        ([True, False, False], [0.0, np.inf, 1.0], "not all finite"),
        ([True, True, False], [0.0, -np.inf, 1.0], "not all finite"),
    ],
)
def test_undefined_is_never_a_number(metric: Callable, gt: list, score: list, reason: str) -> None:
    with pytest.raises(UndefinedMetric, match=reason):
        metric(stack(gt), stack(score))


@pytest.mark.parametrize("metric", ALL)
def test_empty_is_undefined(metric: Callable) -> None:
    with pytest.raises(UndefinedMetric, match="there are no test images"):
        metric(np.zeros((0, 4, 4), dtype=bool), np.zeros((0, 4, 4), dtype=np.float32))


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("gt", "score", "reason"),
    [
        (stack([True, False]), stack([0.0, 1.0, 2.0]), "shape"),
        (stack([True, False]), stack([0.0, 1.0]).reshape(2, 1, 1), "shape"),
        (stack([1, 0]).astype(np.uint8), stack([0.0, 1.0]), "must be bool.*not uint8"),
        (stack([True, False]), stack([0, 1]), "floating point.*int64"),
    ],
)
def test_wrong_inputs_are_refused(metric: Callable, gt: np.ndarray, score: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        metric(gt, score)
    assert caught.type is ValueError  # a mistake of the caller, not a property of the data


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_auroc_of_many_pixels_is_lean(share: float) -> None:
    rng = np.random.default_rng(0)
    gt = rng.random(2_000_000) < share
    score = rng.standard_normal(gt.size, dtype=np.float32)
    tracemalloc.start()
    try:
        auroc(gt, score)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 4 * gt.size < peak < 60e6  # the lower bound: numpy does report, the sorted scores alone take as much
