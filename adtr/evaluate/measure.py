"""What decides the numbers of an evaluation: the maps and scores of a run's images, and their metrics.

Shapes: N images, G side of the feature grid in tokens, S side of the input in px, C channels.
"""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from adtr.config.methods import Params
from adtr.config.schema import Score
from adtr.data.images import verified_masks
from adtr.errors import UserError
from adtr.evaluate import conformal, metrics

SPLITS = ["test", "rest"]  # whose images are scored
LEAST = 16  # images at once: of fewer, the last bits of convolutions and small matrix products depend on their number
CALIBRATED = ["image", "pred_score", "map_max"]
Row = dict[str, float | str]
State = dict[str, Tensor]


class Truth(NamedTuple):
    """Which pixels are anomalous, as far as that is known."""

    known: np.ndarray  # (N,) bool: of an image that is normal, or has a mask that marks a pixel at this size
    masks: np.ndarray  # (K, S, S) bool, of those K images


def scored(
    method: ModuleType, state: State, features: np.ndarray, images: pd.DataFrame, params: Params, device: str
) -> tuple[np.ndarray, pd.DataFrame]:
    """Anomaly maps (N, G, G) float32 and scores of features (N, G·G, C) float16; `images` are the manifest's rows."""
    maps, own = raw_scores(method, state, features, params, device)
    return maps, score(maps, images, params.features.image_size, params.score, own)


def raw_scores(
    method: ModuleType, state: State, features: np.ndarray, params: Params, device: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Maps (N, G, G) float32, and a method's own scores (N,) if it has them; those of an image are its own alone.

    The transformers give the same bits for an image whatever stands beside it; of other methods, fewer than LEAST
    images are filled up with copies of the last.
    """
    count, transformer = len(features), "model" in params.method_sections() and params.model.variant != "cnn"
    if not count:
        side = math.isqrt(features.shape[1])
        return np.empty((0, side, side), np.float32), np.empty(0, np.float32)
    if count < LEAST and not transformer:
        features = np.concatenate([features, np.repeat(features[-1:], LEAST - count, axis=0)])
    maps = method.anomaly_map(state, features, params, device)[:count]
    own = method.image_score(state, features, params, device)[:count] if hasattr(method, "image_score") else None
    return maps, own


def calibrated(
    method: ModuleType, state: State, features: np.ndarray, images: pd.DataFrame, params: Params, device: str
) -> pd.DataFrame:
    """The scores of the held-out images, a row an image: image, pred_score, and map_max, the largest of its map.

    No interpolation of the map exceeds map_max, so that a threshold of it holds for pixels at any size.
    """
    if images.empty:
        return pd.DataFrame(columns=CALIBRATED)
    maps, scores = scored(method, state, features, images, params, device)
    return scores.assign(map_max=maps.max(axis=(1, 2)))[CALIBRATED]


def upsampled(maps: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Anomaly maps (N, G, G) to (N, S, S), or (N, H, W) of a `size` (H, W), float32, bilinear as in UniAD."""
    tensor, sides = torch.from_numpy(maps)[:, None], (size, size) if isinstance(size, int) else size
    return F.interpolate(tensor, size=sides, mode="bilinear", align_corners=True)[:, 0].numpy()


def colour_scale(maps: np.ndarray) -> tuple[float, float]:
    """The values of maps that have the lowest and the highest colour: the median, the highest but for a thousandth."""
    return float(np.median(maps)), float(np.quantile(maps, 0.999))


def image_scores(maps: np.ndarray, size: int, pooling: int) -> pd.DataFrame:
    """Maximum and mean of each averagely pooled map (N, G, G) (Sec. 3.1): columns max and mean, N rows.

    It is resized to `size` px first; the kernel is `pooling` grid strides of S / G px, its stride 1.
    """
    kernel = min(size, pooling * size // maps.shape[-1])
    scores = []
    if not len(maps):
        return pd.DataFrame(columns=["max", "mean"], dtype=np.float32)
    for batch in np.array_split(maps, math.ceil(len(maps) / 64)):
        images = torch.from_numpy(upsampled(batch, size))[None]  # as channels: three times as fast, the same bits
        images = images.contiguous(memory_format=torch.channels_last)
        pooled = averaged(images, kernel)[0].contiguous().flatten(1)
        scores.append(torch.stack([pooled.amax(1), pooled.mean(1)], dim=1))
    return pd.DataFrame(torch.cat(scores).numpy(), columns=["max", "mean"])


def averaged(maps: Tensor, kernel: int) -> Tensor:
    """Means of squares of `kernel` px of maps (..., S, S): by columns, then by rows, which spares most of the sums."""
    return F.avg_pool2d(F.avg_pool2d(maps, (kernel, 1), stride=1), (1, kernel), stride=1)


def score(
    maps: np.ndarray, images: pd.DataFrame, size: int, params: Score, own: np.ndarray | None = None
) -> pd.DataFrame:
    """The table of scores, a row an image: what it is, `pred_score`, and the score by maximum and by mean.

    Args:
        maps: (N, G, G), in the order of `images`, rows of the manifest.
        own: (N,), the scores of a method that does not take them from its map.
    """
    scores = image_scores(maps, size, params.pooling)
    table = images[["image", "label", "split", "defect"]].reset_index(drop=True)
    predicted = scores[params.image_score] if own is None else own
    return table.assign(pred_score=predicted, score_max=scores["max"], score_mean=scores["mean"])


def with_truth(images: pd.DataFrame) -> np.ndarray:
    """(N,) bool: which images are normal or have a mask, by the columns label and mask."""
    return ((images["label"] == 0) | (images["mask"] != "")).to_numpy()


def truth_of(root: Path, images: pd.DataFrame, size: int) -> Truth | None:
    """The masks of N images, checked as `read_mask` does; None where no image has one.

    A defect of a few pixels may be gone at `size`: its image is not known, else its pixels would count as normal.
    """
    if (images["mask"] == "").all():
        return None
    named = images[with_truth(images)]
    masks = verified_masks(root, named, size)
    marked = masks.any(axis=(1, 2)) | (named["label"] == 0).to_numpy()
    return Truth(images.index.isin(named.index[marked]), masks[marked])


def curve(
    method: ModuleType,
    snapshots: dict[int, State],
    features: np.ndarray,
    images: pd.DataFrame,
    truth: Truth | None,
    params: Params,
    device: str,
) -> pd.DataFrame:
    """The metrics of the snapshots on the split `test`, not the `rest` of CIFAR-10: columns epoch, metric, value.

    Features (N, G·G, C), images and truth are those of all SPLITS.
    """
    test, size = (images.split == "test").to_numpy(), params.features.image_size
    if truth:
        truth = Truth(truth.known[test], truth.masks[test[truth.known]])
    features, images = features[test], images[test]
    rows = []
    for epoch, snapshot in snapshots.items():
        maps, scores = scored(method, snapshot, features, images, params, device)
        rows += [row | {"epoch": epoch} for row in measure(scores, maps, truth, size, params.score)]
    return pd.DataFrame(rows, columns=["epoch", "metric", "value"])


def measure(scores: pd.DataFrame, maps: np.ndarray, truth: Truth | None, size: int, params: Score) -> list[Row]:
    """All metrics of a run, in per cent: rows of metric, value and note; an undefined one has no value but a reason.

    Those of pixels are over the images whose truth is known; where that leaves some out, the note says how many count.
    `scores` of N images are as `score` gives them, `maps` (N, G, G) and `truth` in the same order.
    """
    test = scores[scores.split == "test"]
    gt = test.label.to_numpy() == 1
    rows = [
        _row("image_auroc", metrics.auroc, gt, test.pred_score.to_numpy()),
        _row("image_ap", metrics.average_precision, gt, test.pred_score.to_numpy()),
        _row("image_auroc_max", metrics.auroc, gt, test.score_max.to_numpy()),
        _row("image_auroc_mean", metrics.auroc, gt, test.score_mean.to_numpy()),
    ]
    if len(test) < len(scores):
        rows.append(_row("image_auroc_all", metrics.auroc, scores.label.to_numpy() == 1, scores.pred_score.to_numpy()))
    if truth:
        masks, full = truth.masks, upsampled(maps[truth.known], size)
        of_pixels = [
            _row("pixel_auroc", metrics.auroc, masks, full),
            _row("pixel_ap", metrics.average_precision, masks, full),
            _row("aupro", metrics.aupro, masks, full, params.aupro_limit),
        ]
        anomalous, left_out = int((scores.label == 1).sum()), int((~truth.known).sum())
        counted = f"over {anomalous - left_out} of {anomalous} anomalous images: the others have no mask "
        counted += f"that marks a pixel at {size} px"
        rows += [row | {"note": row["note"] or counted} for row in of_pixels] if left_out else of_pixels
    return rows


def rates(scores: pd.DataFrame, calibration: pd.DataFrame, false_alarms: float) -> list[Row]:
    """False alarms and misses of the test images at the threshold, per cent, with their 95 % intervals, as `measure`.

    Nothing without `calibration`, of `calibrated`.
    """
    if calibration.empty:
        return []
    test, rows = scores[scores.split == "test"], list[Row]()
    try:
        above = test.pred_score > conformal.threshold(calibration.pred_score.to_numpy(), false_alarms)
        reason = ""
    except UserError as error:
        above, reason = None, f"undefined: {error}"
    for metric, label in (("false_alarms", 0), ("misses", 1)):
        of = (test.label == label).sum()
        missing = reason or ("" if of else "undefined: no such test images")
        values = [math.nan] * 3
        if above is not None and of:
            count = int((above[test.label == label] != label).sum())
            values = [count / of, *conformal.interval(count, int(of))]
        names = [metric, f"{metric}_low", f"{metric}_high"]
        rows += [{"metric": n, "value": 100 * v, "note": missing} for n, v in zip(names, values, strict=True)]
    return rows


def _row(metric: str, compute: Callable[..., float], *arguments: Any) -> Row:
    try:
        return {"metric": metric, "value": 100 * compute(*arguments), "note": ""}
    except metrics.UndefinedMetric as reason:
        return {"metric": metric, "value": math.nan, "note": f"undefined: {reason}"}
