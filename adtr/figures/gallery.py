"""Test images of a category with best, middle and worst scores, and their anomaly maps."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adtr.data.images import read_mask, read_rgb
from adtr.evaluate.stage import upsampled
from adtr.figures.category import Category
from adtr.figures.look import ANOMALOUS, CELL, MASK, NORMAL, SCORES, colour_bar, scale_of, show, write


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
