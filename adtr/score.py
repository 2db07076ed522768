"""From anomaly maps to scores and metrics: the evaluation stage.

Shapes: N images, G side of the feature grid in tokens, S side of the input in px.
"""

import hashlib
import io
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from adtr import metrics
from adtr.config import Params, Score
from adtr.errors import UserError
from adtr.features import select
from adtr.files import remove_partial, written_atomically
from adtr.images import raw_bytes, read_mask
from adtr.train import check_stores, method_of, read_model

logger = logging.getLogger(__name__)

Row = dict[str, float | str]


def upsampled(maps: np.ndarray, size: int) -> np.ndarray:
    """Anomaly maps (N, G, G) to (N, S, S) float32, bilinear as in UniAD."""
    tensor = torch.from_numpy(maps)[:, None]
    return F.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=True)[:, 0].numpy()


def image_scores(maps: np.ndarray, size: int, pooling: int) -> pd.DataFrame:
    """Maximum and mean of each averagely pooled map (Sec. 3.1): columns max and mean, N rows.

    Args:
        maps: (N, G, G).
        size: S; the kernel is `pooling` grid strides of S / G px, its stride 1.
    """
    kernel = min(size, pooling * size // maps.shape[-1])
    scores = []
    for batch in np.array_split(maps, math.ceil(len(maps) / 64)):
        pooled = F.avg_pool2d(torch.from_numpy(upsampled(batch, size))[:, None], kernel, stride=1).flatten(1)
        scores.append(torch.stack([pooled.amax(1), pooled.mean(1)], dim=1))
    return pd.DataFrame(torch.cat(scores).numpy(), columns=["max", "mean"])


def score(maps: np.ndarray, images: pd.DataFrame, size: int, params: Score) -> pd.DataFrame:
    """The table of scores, a row an image: what it is, `pred_score`, and the score by maximum and by mean.

    Args:
        maps: (N, G, G), in the order of `images`.
        images: the manifest's rows of the test images.
    """
    scores = image_scores(maps, size, params.pooling)
    table = images[["image", "label", "split", "defect"]].reset_index(drop=True)
    return table.assign(pred_score=scores[params.image_score], score_max=scores["max"], score_mean=scores["mean"])


def measure(
    scores: pd.DataFrame, maps: np.ndarray, images: pd.DataFrame, root: Path, size: int, params: Score
) -> list[Row]:
    """All metrics of a run, in per cent: rows of metric, value and note; an undefined one has no value but a reason.

    Args:
        scores: as `score` gives them.
        maps: (N, G, G), in the same order.
        images: the manifest's rows, with their masks below `root`.
    """
    test = (scores.split == "test").to_numpy()
    rows = [*_image_metrics(scores[test])]
    if not test.all():
        rows.append(_row("image_auroc_all", lambda: metrics.auroc(_labels(scores), scores.pred_score.to_numpy())))
    if (images["mask"] != "").any():
        marks = zip(images["mask"], images["mask_sha256"], strict=True)
        masks = np.stack([_mask(root, reference, digest, size) for reference, digest in marks])
        full = upsampled(maps, size)
        rows.append(_row("pixel_auroc", lambda: metrics.auroc(masks, full)))
        rows.append(_row("pixel_ap", lambda: metrics.average_precision(masks, full)))
        rows.append(_row("aupro", lambda: metrics.aupro(masks, full, params.aupro_limit)))
    return rows


def evaluate(
    run: Path,
    manifest: pd.DataFrame,
    stores: dict[str, Path],
    root: Path,
    params: Params,
    labels: list[tuple[str, str]],
    output: Path,
    device: str = "cpu",
) -> None:
    """Scores the test images of a run: writes maps.npy, scores.csv and metrics.csv to `output`.

    Args:
        manifest: of the category.
        stores: the feature store of each of its parts.
        root: the data set's folder.
        labels: columns put before the metrics, and their values.

    Raises:
        UserError: the run is not whole, or the features or masks are not those that belong to it.
    """
    state = read_model(run)
    check_stores(run, stores)
    features, images = select(manifest, stores, ["test", "rest"])
    maps = method_of(params).anomaly_map(state, features, params, device)
    scores = score(maps, images, params.features.image_size, params.score)
    rows = pd.DataFrame(measure(scores, maps, images, root, params.features.image_size, params.score))
    for position, (key, value) in enumerate(labels):
        rows.insert(position, key, value)
    model = json.loads((run / "run.json").read_text(encoding="utf-8"))["model"]
    rows["provenance"] = f"{run}@{model[:12]}"
    saved = io.BytesIO()  # on a full disk np.save itself ends in an error that does not say so
    np.save(saved, maps)
    remove_partial(*(output / name for name in ("maps.npy", "scores.csv", "metrics.csv")))
    with written_atomically(output / "maps.npy") as path:
        path.write_bytes(saved.getbuffer())
    for table, name in ((scores, "scores.csv"), (rows, "metrics.csv")):
        with written_atomically(output / name) as path:
            table.to_csv(path, index=False)
    logger.info("%s", ", ".join(f"{row.metric} {row.value:.1f}" for row in rows.itertuples()))


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


def _mask(root: Path, reference: str, digest: str, size: int) -> np.ndarray:
    if not reference:
        return np.zeros((size, size), bool)
    if not (root / reference).is_file():
        raise UserError(f"{root / reference}: no such mask: is the data set's root right?")
    if hashlib.sha256(raw_bytes(root, reference)).hexdigest() != digest:
        raise UserError(f"{root / reference}: changed since it was indexed: remove its manifest and run again")
    return read_mask(root, reference, size)


def _row(metric: str, compute: Callable[[], float]) -> Row:
    try:
        return {"metric": metric, "value": 100 * compute(), "note": ""}
    except metrics.UndefinedMetric as reason:
        return {"metric": metric, "value": math.nan, "note": f"undefined: {reason}"}
