"""The gallery of a category: a figure of best, middle and worst scores, and the data of the report's page."""

import base64
import io
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from adtr.data.images import read_mask, read_rgb
from adtr.evaluate.measure import upsampled
from adtr.figures.category import Category, spread
from adtr.figures.look import ANOMALOUS, CELL, MASK, NORMAL, SCORES, colour_bar, scale_of, show, write

SIDE = 96  # px
EACH = 12  # at most, of normal and of anomalous images
NOTE = (
    "The threshold is the lowest score with the largest F1 on the test images, as in anomalib; an image is predicted "
    "anomalous from that score on. It is for looking only: no number of the tables depends on it."
)


def gallery(category: Category, count: int = 3) -> Figure:
    """Test images and their anomaly maps: `count` each of best, middle and worst, of anomalous and normal ones.

    A column is the image under its score, its mask where there is one, and its map. All maps share one colour scale, so
    that they can be compared.
    """
    run, scores = category.runs[0], category.tested()
    blocks = [block for label in (1, 0) if (block := _extremes(scores, label, count))]
    heights = [CELL * (3 if any(images["mask"].any() for images in block.values()) else 2) + 0.5 for block in blocks]
    panel, scale = CELL * count + 0.1, scale_of(run)
    figure = plt.figure(figsize=(3 * panel + 0.8, sum(heights)))
    for block, top in zip(blocks, np.cumsum([0, *heights]), strict=False):
        for left, (title, images) in zip(np.arange(3) * panel, block.items(), strict=False):
            colour = NORMAL if title.startswith("normal") else ANOMALOUS
            write(figure, title, left + CELL * count / 2, top + 0.2, fontsize=9, color=colour)
            for x, image in zip(left + CELL * np.arange(count), images.itertuples(), strict=False):
                write(figure, f"{image.pred_score:.4g}", x + CELL / 2, top + 0.4, fontsize=8)
                for i, (pixels, style) in enumerate(_column(category, image)):
                    show(figure, pixels, style or {"cmap": SCORES, "norm": scale}, x, top + 0.45 + i * CELL)
    colour_bar(figure, scale, 3 * panel, sum(heights) / 4, sum(heights) / 2)
    return figure


def _column(category: Category, image: Any) -> list[tuple[np.ndarray, dict[str, Any]]]:
    """An image, its mask if it has one, and its map, each with its style; that of a map is empty."""
    run = category.runs[0]
    masks = [(read_mask(category.root, image.mask, run.size), MASK)] if image.mask else []
    pixels = read_rgb(category.root, image.image, run.size)
    return [(pixels, {"cmap": None}), *masks, (upsampled(run.maps[[image.Index]], run.size)[0], {})]


def _extremes(scores: pd.DataFrame, label: int, count: int) -> dict[str, pd.DataFrame]:
    """The best, middle and worst scored images of one label, fewer where there are not so many, under their titles."""
    ranked = scores[scores.label == label].sort_values("pred_score", ascending=not label, kind="stable")
    kind = "anomalous" if label else "normal"
    if len(ranked) < 3:
        return {f"{kind}: all": ranked} if len(ranked) else {}
    best, worst = ("highest", "lowest") if label else ("lowest", "highest")
    count = min(count, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    return {
        f"{kind}, best: {best} scores": ranked[:count],
        f"{kind}, middle": ranked[middle : middle + count],
        f"{kind}, worst: {worst} scores": ranked[len(ranked) - count :],
    }


def thumbnails(category: Category) -> dict[str, Any]:
    """Test images of the first experiment, at even steps of their scores' ranks, as plain values for JSON.

    Keys: experiment, threshold and its f1 (null where there is one class only), note, and images: image, label, defect,
    score, verdict and pictures, which are image, map and mask (null without one) as data URIs of WebP, 96 px.
    """
    run, tested = category.runs[0], category.tested()
    ranked = tested.sort_values("pred_score", ascending=False, kind="stable")
    sample = pd.concat([spread(ranked[ranked.label == label], EACH) for label in (1, 0)])
    threshold, f1 = best_threshold(tested.label.to_numpy() == 1, tested.pred_score.to_numpy())
    coloured = matplotlib.colormaps[SCORES](scale_of(run)(upsampled(run.maps[sample.index], SIDE)), bytes=True)[..., :3]
    images = [
        {
            "image": row.image,
            "label": int(row.label),
            "defect": row.defect,
            "score": float(row.pred_score),
            "verdict": None if threshold is None else verdict(row.label == 1, row.pred_score >= threshold),
            "pictures": {
                "image": _webp(read_rgb(category.root, row.image, SIDE)),
                "map": _webp(anomaly_map),
                "mask": _webp(read_mask(category.root, row.mask, SIDE), lossless=True) if row.mask else None,
            },
        }
        for row, anomaly_map in zip(sample.itertuples(), coloured, strict=True)
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
