"""How well scores tell anomalous from normal: exact for any number of images or pixels, ties included.

All metrics rest on one count: how many normal samples score above (or as high as) each anomalous one. It takes a
sort of each class, in the scores' own type, and no array that is longer than a class: 11 million pixels fit easily.

Shapes: N images of H x W pixels; `...` any shape; P anomalous and Q normal samples. All results are fractions, not
per cent.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.bool_]
Scores = NDArray[np.floating]
Curve = NDArray[np.float64]

# Pixels of one image that touch by a side or a corner are one region, as in MVTec's evaluation code; images are apart.
TOUCHING = np.zeros((3, 3, 3), dtype=bool)
TOUCHING[1] = True


class UndefinedMetric(ValueError):  # noqa: N818  (a finding about the data, to be reported as such, not a bug)
    """These labels and scores have no value of the metric. The message says why."""


def auroc(gt: Labels, score: Scores) -> float:
    """The area under the ROC curve: how often an anomalous sample outscores a normal one, ties counting half.

    Args:
        gt: (...), True where anomalous; image labels or the pixels of masks.
        score: (...), higher where more anomalous.

    Raises:
        UndefinedMetric: nothing to rank: no samples, one class only, all scores equal, or one that is not finite.
        ValueError: the shapes differ or a type is wrong.
    """
    normal, anomalous = sorted_classes(gt, score)
    above, at_least = _false_alarms(normal, anomalous)
    pairs = normal.size * anomalous.size
    lost_twice = int(above.sum()) + int(at_least.sum())
    return (2 * pairs - lost_twice) / (2 * pairs)  # integers up to here: the only rounding


def average_precision(gt: Labels, score: Scores) -> float:
    """The mean precision over the thresholds at each anomalous sample's score, without interpolation.

    That is the sum of precision x (gain in recall) over all distinct scores, as scikit-learn defines it.
    Arguments and errors as for `auroc`.
    """
    normal, anomalous = sorted_classes(gt, score)
    _, false_alarms = _false_alarms(normal, anomalous)
    hits = anomalous.size - np.searchsorted(anomalous, anomalous, side="left")
    return float(np.mean(hits / (hits + false_alarms)))


def roc_curve(gt: Labels, score: Scores, points: int = 1000) -> tuple[Curve, Curve]:
    """The ROC curve from (0, 0) to (1, 1), to be drawn with straight lines: (fpr, tpr), both ascending.

    Each point lies on the curve. There is one for every distinct score if those are fewer than `points`; otherwise
    every 2 / `points` of either axis (further apart only inside a tie), at most `points` in all.
    Arguments and errors as for `auroc`.
    """
    normal, anomalous = sorted_classes(gt, score)
    thresholds = spaced_thresholds([normal, anomalous], points)
    fpr, tpr = (1 - np.searchsorted(scores, thresholds[::-1]) / scores.size for scores in (normal, anomalous))
    return np.append(0.0, fpr), np.append(0.0, tpr)


def aupro(gt_mask: Labels, anomaly_map: Scores, limit: float = 0.3) -> float:
    """The area under the per-region overlap as a function of the false-positive rate up to `limit`, over `limit`.

    The overlap is the share of a defect's pixels at or above a threshold, averaged over the defects of all images;
    the false-positive rate is over the normal pixels of all images (Bergmann et al., IJCV 2021, "The MVTec Anomaly
    Detection Dataset"). Every distinct score is a threshold; the curve is linear between two of them. A pixel adds
    to the overlap from the rate at which it is found, so the area is a mean over pixels and needs no curve.

    Args:
        gt_mask: (N, H, W), True where anomalous.
        anomaly_map: (N, H, W).
        limit: the largest false-positive rate, in (0, 1].

    Raises: as `auroc`.
    """
    normal, anomalous = sorted_classes(gt_mask, anomaly_map)
    above, at_least = _false_alarms(normal, anomalous)
    # A pixel is found in full from `at_least` false alarms on, and in proportion between `above` and `at_least`, a tie
    most, tie = limit * normal.size, at_least - above
    area = np.clip(most - above, 0, tie) ** 2 / (2 * np.maximum(tie, 1)) + np.maximum(most - at_least, 0)
    area /= most
    region = ndimage.label(gt_mask, TOUCHING)[0][gt_mask]
    region = region[np.argsort(anomaly_map[gt_mask])]  # in the order of `area`; within a tie the areas are the same
    return float(np.mean(np.bincount(region, area)[1:] / np.bincount(region)[1:]))


def pro_curve(gt_mask: Labels, anomaly_map: Scores, limit: float = 0.3, points: int = 1000) -> tuple[Curve, Curve]:
    """The curve whose area, over `limit`, is `aupro`: (fpr, overlap) from (0, 0) to `limit`, both ascending.

    Each point lies on the curve, the last one interpolated. There is one for every distinct score that leads there if
    those are fewer than `points`; otherwise at even steps of rank of the normal and of the anomalous pixels.
    Arguments and errors as for `aupro`.
    """
    normal, anomalous = sorted_classes(gt_mask, anomaly_map)
    region = ndimage.label(gt_mask, TOUCHING)[0][gt_mask]
    weight = 1 / np.bincount(region)[region] / region.max()
    missed = np.append(0.0, np.cumsum(weight[np.argsort(anomaly_map[gt_mask], kind="stable")]))
    last = normal[normal.size - math.ceil(limit * normal.size)]  # the highest score that reaches the limit
    reached = [scores[np.searchsorted(scores, last) :] for scores in (normal, anomalous)]
    thresholds = spaced_thresholds(reached, points)
    fpr = np.append(0.0, 1 - np.searchsorted(normal, thresholds[::-1]) / normal.size)
    overlap = np.append(0.0, 1 - missed[np.searchsorted(anomalous, thresholds[::-1])])
    overlap[-1] = np.interp(limit, fpr[-2:], overlap[-2:])
    fpr[-1] = limit
    return fpr, overlap


def _false_alarms(normal: Scores, anomalous: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(P,), (P,) The number of normal samples above each anomalous one, and of those above or level with it."""
    above = normal.size - np.searchsorted(normal, anomalous, side="right")
    at_least = normal.size - np.searchsorted(normal, anomalous, side="left")
    return above, at_least


def sorted_classes(gt: Labels, score: Scores) -> tuple[Scores, Scores]:
    """(Q,), (P,) The scores of the normal and of the anomalous samples, each ascending. Refuses what has no metric."""
    if gt.shape != score.shape:
        raise ValueError(f"labels {gt.shape} and scores {score.shape} differ in shape")
    if gt.dtype != np.bool_ or not np.issubdtype(score.dtype, np.floating):
        raise ValueError(f"labels must be bool and scores floating point, not {gt.dtype} and {score.dtype}")
    if gt.size == 0:
        raise UndefinedMetric("there are no test images")
    normal, anomalous = score[~gt], score[gt]
    for scores, name in ((normal, "normal"), (anomalous, "anomalous")):
        if scores.size == 0:
            raise UndefinedMetric(f"only one class: no label or mask pixel is {name}")
        scores.sort()
        if not np.isfinite(scores[[0, -1]]).all():  # sorting moves -inf to the front, inf and NaN to the back
            raise UndefinedMetric(f"the scores of {name} samples are not all finite")
    if normal[0] == normal[-1] == anomalous[0] == anomalous[-1]:
        raise UndefinedMetric("all scores are equal")
    return normal, anomalous


def spaced_thresholds(classes: list[Scores], points: int) -> Scores:
    """The distinct scores, ascending; if those are `points` or more, at even steps of rank, the lowest included."""
    distinct = np.unique(np.concatenate(classes))
    if distinct.size < points:
        return distinct
    ranks = [np.linspace(0, len(scores) - 1, (points - 1) // 2).round().astype(int) for scores in classes]
    return np.unique(np.concatenate([s[rank] for s, rank in zip(classes, ranks, strict=True) if s.size]))
