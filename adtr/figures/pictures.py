"""Pictures of a category: anomaly maps beside their images, and the synthetic anomalies of ADTR+."""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adtr.data.images import read_mask, read_rgb
from adtr.evaluate.maps import upsampled
from adtr.figures.category import Category, Run
from adtr.figures.look import ANOMALOUS, NORMAL, SCORES, place, write

CELL = 1.12  # inches, a picture and the gap to its right
GAP = 0.06
COLUMNS = 10  # of the paper's Figs. A1-A25
COPIES = 6  # of the confetti shown
MASK = {"cmap": "gray", "vmin": 0, "vmax": 1}


@dataclass(frozen=True)
class Row:
    """Pictures side by side: its label, how they are drawn, and each (S, S) or (S, S, 3)."""

    label: str
    style: dict[str, Any]
    pictures: list[np.ndarray]


def scale_of(run: Run) -> Normalize:
    """The colour scale of all anomaly maps of a run: its test images', but for the highest thousandth of the tokens."""
    return Normalize(run.maps.min(), np.quantile(run.maps, 0.999))


def spread(ranked: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows at even steps of rank, the middle of each step; all of them where there are not so many."""
    count = min(count, len(ranked))
    return ranked.iloc[[int((i + 0.5) * len(ranked) / count) for i in range(count)]]


def of_all_defects(tested: pd.DataFrame, columns: int = COLUMNS) -> pd.DataFrame:
    """The images of Figs. A1-A25, none of them chosen by eye: by the rank of their scores, at even steps.

    With masks, one normal image and then all kinds of defect, as many of each as the columns admit, more of the first
    in the alphabet; without masks half normal, half anomalous.

    Args:
        tested: the test images with their `pred_score`, `label`, `defect` and `mask`.
    """
    ranked = tested.sort_values("pred_score", kind="stable")
    normal, anomalous = ranked[ranked.label == 0], ranked[ranked.label == 1]
    if not (tested["mask"] != "").any():
        return pd.concat([spread(normal, columns // 2), spread(anomalous, columns - columns // 2)])
    kinds = dict(list(anomalous.groupby("defect")))
    free = min(max(columns - 1, len(kinds)), len(anomalous))
    counts = dict.fromkeys(kinds, 0)
    while free:
        for kind in [kind for kind in kinds if counts[kind] < len(kinds[kind])][:free]:
            counts[kind] += 1
            free -= 1
    return pd.concat([spread(normal, 1), *(spread(kinds[kind], counts[kind]) for kind in kinds)])


def maps(category: Category) -> Figure:
    """Figs. 4 and A1-A25: samples, their ground truth where there are masks, and the first experiment's maps."""
    run, tested = category.runs[0], category.tested()
    shown, scale = of_all_defects(tested), scale_of(run)
    rows = [Row("sample", {}, [read_rgb(category.root, image, run.size) for image in shown.image])]
    if (tested["mask"] != "").any():
        truth = category.masks(run.size)
        rows.append(Row("ground truth", MASK, [truth[i] for i in shown.index]))
    scores = list(upsampled(run.maps[shown.index], run.size))
    rows.append(Row(run.title, {"cmap": SCORES, "norm": scale}, scores))
    named = zip(shown.defect.replace("good", "normal").str.replace("_", " "), shown.label, strict=True)
    figure = _sheet(rows, [(name, ANOMALOUS if label else NORMAL) for name, label in named])
    _colour_bar(figure, scale, 0.3 + CELL * len(shown), 0.3 + CELL * (len(rows) - 1), CELL - GAP)
    return figure


def confetti(category: Category) -> Figure:
    """Fig. 3: normal images, their noisy copies and the masks of what changed, at even steps through the bank."""
    if category.bank is None:
        raise ValueError(f"{category.name} has no confetti")
    copies, folder, size = category.bank.manifest, category.bank.folder, category.runs[0].size
    shown = spread(copies, COPIES)
    rows = [
        Row("normal sample", {}, [read_rgb(category.root, source, size) for source in shown.source]),
        Row("with confetti", {}, [read_rgb(folder, image, size) for image in shown.image]),
        Row("mask", MASK, [read_mask(folder, mask, size) for mask in shown["mask"]]),
    ]
    return _sheet(rows, [])


def _sheet(rows: list[Row], heads: list[tuple[str, str]]) -> Figure:
    """Pictures in a grid; `heads` are the texts above the columns, with their colours."""
    left, top = 0.3, 0.3 if heads else 0.05
    figure = plt.figure(figsize=(left + CELL * len(rows[0].pictures) + 0.8, top + CELL * len(rows)))
    for i, (head, colour) in enumerate(heads):
        write(figure, head, left + CELL * (i + 0.5) - GAP / 2, top - 0.06, fontsize=8, color=colour)
    for j, row in enumerate(rows):
        y = top + CELL * j
        write(figure, row.label, left - 0.08, y + CELL / 2, fontsize=9, rotation=90, ha="right", va="center")
        for i, pixels in enumerate(row.pictures):
            _show(figure, pixels, row.style, left + CELL * i, y)
    return figure


def _show(figure: Figure, pixels: np.ndarray, style: dict[str, Any], left: float, top: float) -> Axes:
    axes = place(figure, left, top, CELL - GAP, CELL - GAP)
    axes.imshow(pixels, **style)
    axes.set_axis_off()
    return axes


def _colour_bar(figure: Figure, scale: Normalize, left: float, top: float, height: float) -> None:
    bar = figure.colorbar(
        ScalarMappable(scale, SCORES), cax=place(figure, left, top, 0.1, height), extend="max", extendfrac=0.06
    )
    bar.ax.tick_params(labelsize=8)
    bar.set_label("anomaly score", fontsize=8)


def gallery(category: Category, count: int = 3) -> Figure:
    """Test images and their anomaly maps: `count` each of best, middle and worst, of anomalous and normal ones.

    A column is the image under its score, its mask where there is one, and its map. All maps share one colour scale, so
    that they can be compared.
    """
    run, scores = category.runs[0], category.tested()
    blocks = [block for label in (1, 0) if (block := _extremes(scores, label, count))]
    heights = [CELL * (3 if any(piece["mask"].any() for piece in block.values()) else 2) + 0.5 for block in blocks]
    panel, scale = CELL * count + 0.1, scale_of(run)
    figure = plt.figure(figsize=(3 * panel + 0.8, sum(heights)))
    for block, top in zip(blocks, np.cumsum([0, *heights]), strict=False):
        for left, (title, piece) in zip(np.arange(3) * panel, block.items(), strict=False):
            colour = NORMAL if title.startswith("normal") else ANOMALOUS
            write(figure, title, left + CELL * count / 2, top + 0.2, fontsize=9, color=colour)
            for x, cell in zip(left + CELL * np.arange(count), piece.itertuples(), strict=False):
                write(figure, f"{cell.pred_score:.4g}", x + CELL / 2, top + 0.4, fontsize=8)
                _column(figure, category, cell, scale, (x, top + 0.45))
    _colour_bar(figure, scale, 3 * panel, sum(heights) / 4, sum(heights) / 2)
    return figure


def _column(figure: Figure, category: Category, cell: Any, scale: Normalize, at: tuple[float, float]) -> None:
    """An image, below it its mask if it has one, and its map; `at` is the corner, inches from the upper left."""
    run = category.runs[0]
    pictures: list[tuple[np.ndarray, dict[str, Any]]] = [(read_rgb(category.root, cell.image, run.size), {})]
    if cell.mask:
        pictures.append((read_mask(category.root, cell.mask, run.size), MASK))
    pictures.append((upsampled(run.maps[[cell.Index]], run.size)[0], {"cmap": SCORES, "norm": scale}))
    for i, (pixels, style) in enumerate(pictures):
        _show(figure, pixels, style, at[0], at[1] + i * CELL)


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
