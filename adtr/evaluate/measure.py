"""What decides the numbers of an evaluation: the maps and scores of a run's images, and their metrics.

Shapes: N images, G side of the feature grid in tokens, S side of the input in px, C channels.
"""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
from torch import Tensor

from adtr.config.methods import Params
from adtr.config.schema import Score
from adtr.data.images import verified_masks
from adtr.evaluate import metrics
from adtr.evaluate.maps import score, upsampled

SPLITS = ["test", "rest"]  # whose images are scored
Row = dict[str, float | str]
State = dict[str, Tensor]


def scored(
    method: ModuleType, state: State, features: np.ndarray, images: pd.DataFrame, params: Params, device: str
) -> tuple[np.ndarray, pd.DataFrame]:
    """Anomaly maps (N, G, G) float32, and the table of scores.

    Args:
        method: a module of adtr/methods.
        features: (N, G·G, C) float16.
        images: the N rows of the manifest.
    """
    maps = method.anomaly_map(state, features, params, device)
    own = method.image_score(state, features, params, device) if hasattr(method, "image_score") else None
    return maps, score(maps, images, params.features.image_size, params.score, own)


def masks_of(root: Path, images: pd.DataFrame, size: int) -> np.ndarray | None:
    """(N, S, S) bool; None where no image has a mask.

    Raises:
        UserError: a mask is missing or has changed.
    """
    return verified_masks(root, images, size) if (images["mask"] != "").any() else None


def curve(
    method: ModuleType,
    snapshots: dict[int, State],
    features: np.ndarray,
    images: pd.DataFrame,
    masks: np.ndarray | None,
    params: Params,
    device: str,
) -> pd.DataFrame:
    """The metrics of the snapshots on the split `test`, not the `rest` of CIFAR-10: columns epoch, metric, value.

    Args:
        features: (N, G·G, C) float16 of all SPLITS.
        images: their rows of the manifest.
        masks: (N, S, S) bool.
    """
    test, size = (images.split == "test").to_numpy(), params.features.image_size
    features, images, masks = features[test], images[test], None if masks is None else masks[test]
    rows = []
    for epoch, snapshot in snapshots.items():
        maps = method.anomaly_map(snapshot, features, params, device)
        scores = score(maps, images, size, params.score)
        rows += [row | {"epoch": epoch} for row in measure(scores, maps, masks, size, params.score)]
    return pd.DataFrame(rows, columns=["epoch", "metric", "value"])


def measure(scores: pd.DataFrame, maps: np.ndarray, masks: np.ndarray | None, size: int, params: Score) -> list[Row]:
    """All metrics of a run, in per cent: rows of metric, value and note; an undefined one has no value but a reason.

    Args:
        scores: as `score` gives them.
        maps: (N, G, G), in the same order.
        masks: (N, S, S) bool, in the same order; None where no image has one.
    """
    test = (scores.split == "test").to_numpy()
    rows = [*_image_metrics(scores[test])]
    if not test.all():
        rows.append(_row("image_auroc_all", lambda: metrics.auroc(_labels(scores), scores.pred_score.to_numpy())))
    if masks is not None:
        full = upsampled(maps, size)
        rows.append(_row("pixel_auroc", lambda: metrics.auroc(masks, full)))
        rows.append(_row("pixel_ap", lambda: metrics.average_precision(masks, full)))
        rows.append(_row("aupro", lambda: metrics.aupro(masks, full, params.aupro_limit)))
    return rows


def _image_metrics(scores: pd.DataFrame) -> list[Row]:
    labels = _labels(scores)
    return [
        _row("image_auroc", lambda: metrics.auroc(labels, scores.pred_score.to_numpy())),
        _row("image_ap", lambda: metrics.average_precision(labels, scores.pred_score.to_numpy())),
        _row("image_auroc_max", lambda: metrics.auroc(labels, scores.score_max.to_numpy())),
        _row("image_auroc_mean", lambda: metrics.auroc(labels, scores.score_mean.to_numpy())),
    ]


def _labels(scores: pd.DataFrame) -> np.ndarray:
    return scores.label.to_numpy() == 1


def _row(metric: str, compute: Callable[[], float]) -> Row:
    try:
        return {"metric": metric, "value": 100 * compute(), "note": ""}
    except metrics.UndefinedMetric as reason:
        return {"metric": metric, "value": math.nan, "note": f"undefined: {reason}"}
