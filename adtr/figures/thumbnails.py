"""The gallery of a category on the report's page: small images, and predictions at the threshold of the best F1."""

import base64
import io
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from adtr.data.images import read_mask, read_rgb
from adtr.evaluate.measure import upsampled
from adtr.figures.category import Category, spread
from adtr.figures.look import SCORES, scale_of

SIDE = 96  # px
EACH = 12  # at most, of normal and of anomalous images
NOTE = (
    "The threshold is the lowest score with the largest F1 on the test images, as in anomalib; an image is predicted "
    "anomalous from that score on. It is for looking only: no number of the tables depends on it."
)


def thumbnails(category: Category) -> dict[str, Any]:
    """Test images of the first experiment, at even steps of their scores' ranks, as plain values for JSON.

    Keys: experiment, threshold and its f1 (null without both classes), note, and images: image, label, defect,
    score, verdict and pictures, which are image, map and mask (null without one) as data URIs of WebP, 96 px.
    """
    run, tested = category.runs[0], category.tested()
    if tested.empty:
        return {"experiment": run.title, "threshold": None, "f1": None, "note": NOTE, "images": []}
    ranked = tested.sort_values("pred_score", ascending=False, kind="stable")
    sample = pd.concat([spread(ranked[ranked.label == label], EACH) for label in (1, 0)])
    threshold, f1 = best_threshold(tested.label.to_numpy() == 1, tested.pred_score.to_numpy())
    masks = [
        _webp(read_mask(category.root, row["mask"], SIDE, row.mask_sha256), lossless=True) if row["mask"] else None
        for _, row in sample.iterrows()
    ]
    coloured = matplotlib.colormaps[SCORES](scale_of(run)(upsampled(run.maps[sample.index], SIDE)), bytes=True)[..., :3]
    images = [
        {
            "image": row.image,
            "label": int(row.label),
            "defect": row.defect,
            "score": float(row.pred_score),
            "verdict": None if threshold is None else verdict(row.label == 1, row.pred_score >= threshold),
            "pictures": {
                "image": _webp(read_rgb(category.root, row.image, SIDE, row.sha256)),
                "map": _webp(anomaly_map),
                "mask": mask,
            },
        }
        for row, anomaly_map, mask in zip(sample.itertuples(), coloured, masks, strict=True)
    ]
    return {"experiment": run.title, "threshold": threshold, "f1": f1, "note": NOTE, "images": images}


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """The lowest of the scores at which F1 is largest, and that F1; of one class only there is none.

    An image is predicted anomalous where its score is the threshold or more.
    """
    if labels.all() or not labels.any():
        return None, None
    thresholds = np.unique(scores)
    predicted, correct = ((s[None] >= thresholds[:, None]).sum(axis=1) for s in (scores, scores[labels]))
    f1 = 2 * correct / (predicted + labels.sum())
    return float(thresholds[f1.argmax()]), float(f1.max())


def verdict(anomalous: bool, predicted: bool) -> str:
    """The verdict on a prediction of an image's label."""
    return f"{'true' if anomalous == predicted else 'false'} {'positive' if predicted else 'negative'}"


def _webp(pixels: np.ndarray, lossless: bool = False) -> str:
    """(S, S, 3) uint8 or (S, S) bool as a data URI."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels)
    image.save(buffer, "WEBP", quality=75, method=6, lossless=lossless)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
