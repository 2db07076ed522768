"""Images in a grid: anomaly maps (Figs. 4 and A1-A25), best, middle and worst scores, synthetic anomalies (Fig. 3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adtr.data.images import read_mask, read_rgb, verified_masks
from adtr.evaluate.measure import upsampled, with_truth
from adtr.figures.category import Category, spread
from adtr.figures.look import ANOMALOUS, NORMAL, SCORES, scale_of

COLUMNS = 10  # of the paper's Figs. A1-A25
COPIES = 6  # with confetti
MASK = {"cmap": "gray", "vmin": 0, "vmax": 1}
LEFT, HEAD, CELL, GAP = 0.3, 0.3, 1.12, 0.06  # inches: a row's label, its heads, an image with its gap, the gap


@dataclass(frozen=True)
class Row:
    """Images (S, S) or (S, S, 3) side by side, with the style of all and the text and colour above each."""

    label: str
    images: Sequence[np.ndarray | None]  # None leaves its place empty
    style: dict[str, Any] = field(default_factory=dict)
    heads: Sequence[tuple[str, str]] = ()


def maps(category: Category) -> Figure:
    """Samples of every kind of defect, their ground truth where there are masks, and the first experiment's maps."""
    sample = sample_of(category.tested())
    names = sample.defect.replace("good", "normal").str.replace("_", " ")
    masked = (category.tested()["mask"] != "").any()
    return _grid(_with_maps(category, "sample", sample, names, masked), scale_of(category.runs[0]))


def gallery(category: Category) -> Figure:
    """Test images and maps of best, middle and worst scores; anomalous ones above, normal ones below."""
    rows = []
    for label, name in ((1, "anomalous"), (0, "normal")):
        shown = extremes(category.tested(), label)
        heads = shown.place + shown.pred_score.map("{:.4g}".format)
        rows += _with_maps(category, name, shown, heads, (shown["mask"] != "").any()) if len(shown) else []
    return _grid(rows, scale_of(category.runs[0]))


def confetti(category: Category) -> Figure:
    """Normal images, their noisy copies and the masks of the noise, at even steps through the bank."""
    assert category.bank, f"{category.name} has no confetti"
    (manifest, folder), size = category.bank, category.runs[0].size
    copies, digests = spread(manifest, COPIES), category.images.set_index("image").sha256
    masks = zip(copies["mask"], copies.mask_sha256, strict=True)
    rows = [
        Row("normal sample", [read_rgb(category.root, name, size, digests[name]) for name in copies.source]),
        Row("with confetti", [read_rgb(folder, row.image, size, row.sha256) for row in copies.itertuples()]),
        Row("mask", [read_mask(folder, mask, size, digest) for mask, digest in masks], MASK),
    ]
    return _grid(rows)


def extremes(tested: pd.DataFrame, label: int, count: int = 3) -> pd.DataFrame:
    """The best, middle and worst scored images of one label, `count` of each, with their `place`.

    Fewer of each where there are not so many images; all of them, without a place, where there are not three.
    """
    ranked = tested[tested.label == label].sort_values("pred_score", ascending=not label, kind="stable")
    count = min(count, len(ranked) // 3)
    if count == 0:
        return ranked.assign(place="")
    starts = {"best ": 0, "middle ": (len(ranked) - count) // 2, "worst ": len(ranked) - count}
    return pd.concat([ranked[start : start + count].assign(place=place) for place, start in starts.items()])


def sample_of(tested: pd.DataFrame) -> pd.DataFrame:
    """The images of a figure, none of them picked by eye: by the rank of their scores, at even steps.

    With masks, one normal image and then all kinds of defect, as many of each as COLUMNS admit, more of the first
    in the alphabet; without masks half normal, half anomalous.

    Args:
        tested: the test images with their `pred_score`, `label`, `defect` and `mask`.
    """
    ranked = tested.sort_values("pred_score", kind="stable")
    normal, anomalous = ranked[ranked.label == 0], ranked[ranked.label == 1]
    if not (tested["mask"] != "").any():
        return pd.concat([spread(normal, COLUMNS // 2), spread(anomalous, COLUMNS - COLUMNS // 2)])
    kinds = dict(list(anomalous.groupby("defect")))
    free = min(max(COLUMNS - 1, len(kinds)), len(anomalous))
    counts = dict.fromkeys(kinds, 0)
    while free:
        for kind in [kind for kind in kinds if counts[kind] < len(kinds[kind])][:free]:
            counts[kind] += 1
            free -= 1
    return pd.concat([spread(normal, 1), *(spread(kinds[kind], counts[kind]) for kind in kinds)])


def _with_maps(category: Category, label: str, shown: pd.DataFrame, heads: pd.Series, masked: bool) -> list[Row]:
    """Rows of images under their heads, of their masks if they are `masked`, and of the first experiment's maps."""
    run = category.runs[0]
    colours = [ANOMALOUS if anomalous else NORMAL for anomalous in shown.label]
    images = [read_rgb(category.root, row.image, run.size, row.sha256) for row in shown.itertuples()]
    rows = [Row(label, images, heads=list(zip(heads, colours, strict=True)))]
    if masked:
        masks = zip(verified_masks(category.root, shown, run.size), with_truth(shown), strict=True)
        rows.append(Row("ground truth", [mask if known else None for mask, known in masks], MASK))
    style = {"cmap": SCORES, "norm": scale_of(run)}
    return [*rows, Row(run.title, list(upsampled(run.maps[shown.index], run.size)), style)]


def _grid(rows: Sequence[Row], scale: Normalize | None = None) -> Figure:
    """Rows of images, placed in inches as a layout engine would not give the same bytes every time.

    Args:
        scale: that of the anomaly maps, shown beside the last row.
    """
    columns = max(len(row.images) for row in rows)
    tops = np.cumsum([(HEAD if row.heads else 0) + CELL for row in rows]) - CELL
    width, height = LEFT + CELL * columns + 0.8, tops[-1] + CELL
    figure = plt.figure(figsize=(width, height))
    for row, top in zip(rows, tops, strict=True):
        bottom, tall = 1 - (top + CELL - GAP) / height, (CELL - GAP) / height
        for i, pixels in enumerate(row.images):
            axes = figure.add_axes(((LEFT + CELL * i) / width, bottom, (CELL - GAP) / width, tall))
            axes.set_axis_off()
            if pixels is not None:
                axes.imshow(pixels, **row.style)
            if i == 0:
                axes.text(-0.08, 0.5, row.label, transform=axes.transAxes, size=9, rotation=90, ha="right", va="center")
            if row.heads:
                axes.set_title(row.heads[i][0], size=8, color=row.heads[i][1], pad=4)
    if scale:
        axes = figure.add_axes(((LEFT + CELL * columns) / width, bottom, 0.1 / width, tall))
        bar = figure.colorbar(ScalarMappable(scale, SCORES), cax=axes, extend="max", extendfrac=0.06)
        bar.ax.tick_params(labelsize=8)
        bar.set_label("anomaly score", fontsize=8)
    return figure
