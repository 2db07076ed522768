"""From anomaly maps to scores and metrics: the evaluation stage.

Shapes: N images, G side of the feature grid in tokens, S side of the input in px.
"""

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

from adtr import provenance
from adtr.config.methods import Params
from adtr.config.schema import Score
from adtr.config.study import EVALUATED
from adtr.data.images import verified_masks
from adtr.evaluate import metrics
from adtr.features.extract import data_digest, select
from adtr.files import remove_partial, write_bytes, write_text
from adtr.train.stage import check_stores, method_of, read_model, read_snapshots

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


def score(
    maps: np.ndarray, images: pd.DataFrame, size: int, params: Score, own: np.ndarray | None = None
) -> pd.DataFrame:
    """The table of scores, a row an image: what it is, `pred_score`, and the score by maximum and by mean.

    Args:
        maps: (N, G, G), in the order of `images`.
        images: the manifest's rows of the test images.
        own: (N,), of a method that scores images by something else than its map.
    """
    scores = image_scores(maps, size, params.pooling)
    table = images[["image", "label", "split", "defect"]].reset_index(drop=True)
    predicted = scores[params.image_score] if own is None else own
    return table.assign(pred_score=predicted, score_max=scores["max"], score_mean=scores["mean"])


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
    """Scores the test images of a run, measures the scores and writes five files to `output` (study.EVALUATED).

    curve.csv has the metrics of the run's snapshots and of its trained model, by epoch; without snapshots no row. Of
    snapshots only the split `test` is scored, not the `rest` of CIFAR-10. evaluation.json tells what made the others,
    without the time: the same evaluation gives the same bytes.

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
    method, size = method_of(params), params.features.image_size
    maps = method.anomaly_map(state, features, params, device)
    own = method.image_score(state, features, params, device) if hasattr(method, "image_score") else None
    scores = score(maps, images, size, params.score, own)
    masks = verified_masks(root, images, size) if (images["mask"] != "").any() else None
    rows = pd.DataFrame(measure(scores, maps, masks, size, params.score))
    curve = []
    test = (images.split == "test").to_numpy()
    seen, masked = features[test], None if masks is None else masks[test]
    for epoch, snapshot in read_snapshots(run).items():
        then = method.anomaly_map(snapshot, seen, params, device)
        measured = measure(score(then, images[test], size, params.score), then, masked, size, params.score)
        curve.append(pd.DataFrame(measured).assign(epoch=epoch))
    if curve:
        curve.append(rows[rows.metric.isin(curve[0].metric)].assign(epoch=params.train.epochs))
    for position, (key, value) in enumerate(labels):
        rows.insert(position, key, value)
    model = json.loads((run / "run.json").read_text(encoding="utf-8"))["model"]
    rows["provenance"] = f"{run}@{model[:12]}"
    tables = {"scores.csv": scores, "metrics.csv": rows, "curve.csv": _curve(curve)}
    saved = io.BytesIO()  # on a full disk np.save itself ends in an error that does not say so
    np.save(saved, maps)
    remove_partial(*(output / name for name in EVALUATED))
    write_bytes(output / "maps.npy", saved.getbuffer())
    for name, table in tables.items():
        write_text(output / name, table.to_csv(index=False))
    made = provenance.record("evaluate.stage", f"methods.{params.method}")
    record = {
        "model": model,
        "score": params.score.model_dump(mode="json"),
        "data": data_digest(images),
        "device": provenance.device_name(device),
        **{key: made[key] for key in ("code", "python", "torch", "cpu")},
    }
    write_text(output / "evaluation.json", json.dumps(record, indent=1) + "\n")
    logger.info("%s", ", ".join(f"{row.metric} {row.value:.1f}" for row in rows.itertuples()))


def _curve(rows: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["epoch", "metric", "value"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


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
