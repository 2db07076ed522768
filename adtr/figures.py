"""Figures of a category: ROC curves, score histograms, training curves, and a gallery of anomaly maps.

Each is drawn from the files of the runs, as PNG and SVG, in colours that the colour-blind can tell apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adtr.files import written_atomically
from adtr.images import read_mask, read_rgb
from adtr.metrics import UndefinedMetric, auroc, roc_curve
from adtr.score import upsampled

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
PALETTE = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
DASHES = ["-", "--", "-.", ":"]
LOOK = {
    "grid.color": "0.9",
    "axes.edgecolor": "0.75",
    "legend.framealpha": 1,
    "svg.hashsalt": "adtr",  # with no date in it, the same bytes every time
}
CELL = 1.12  # inches, an image of the gallery


@dataclass(frozen=True)
class Run:
    """What the figures show of a run."""

    title: str
    scores: pd.DataFrame  # of the test split
    maps: np.ndarray  # (N, G, G), in the order of the scores
    history: pd.DataFrame


def read_run(folder: Path, title: str) -> Run:
    """Reads a run's files."""
    scores = pd.read_csv(folder / "scores.csv", keep_default_na=False)
    tested = (scores.split == "test").to_numpy()
    maps = np.load(folder / "maps.npy")[tested]
    return Run(title, scores[tested].reset_index(drop=True), maps, pd.read_csv(folder / "history.csv"))


def draw(runs: list[Run], images: pd.DataFrame, root: Path, size: int, folder: Path, category: str) -> None:
    """Writes every figure of a category to `folder`.

    Args:
        runs: one of each experiment; the gallery shows the first.
        images: the manifest, for the masks.
        root: the data set's folder.
        size: side of the input, px.
    """
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9, rc=LOOK)
    kinds: dict[str, Callable[[], Figure]] = {
        "roc": lambda: roc(runs),
        "histogram": lambda: histogram(runs),
        "training": lambda: training(runs),
        "gallery": lambda: gallery(runs[0], images, root, size),
    }
    for kind, make in kinds.items():
        figure = make()
        for suffix in ("png", "svg"):
            with written_atomically(folder / f"{category}-{kind}.{suffix}") as path:
                metadata = {"Date": None} if suffix == "svg" else None
                figure.savefig(path, format=suffix, dpi=144, metadata=metadata)
        plt.close(figure)


def roc(runs: list[Run]) -> Figure:
    """The ROC curves of all experiments, image level."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="tight")
    axes.plot([0, 100], [0, 100], color="0.7", lw=0.8)
    for i, run in enumerate(runs):
        labels, scores = run.scores.label.to_numpy() == 1, run.scores.pred_score.to_numpy()
        try:
            fpr, tpr = roc_curve(labels, scores)
            label = f"{run.title}  {100 * auroc(labels, scores):.1f}"
            axes.plot(100 * fpr, 100 * tpr, DASHES[i % 4], color=PALETTE[i % 8], label=label)
        except UndefinedMetric as reason:
            axes.plot([], [], label=f"{run.title}: {reason}")
    axes.set(xlabel="false positives, % of normal images", ylabel="true positives, % of anomalies")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.legend(title="image AUROC, %", loc="lower right")
    return figure


def histogram(runs: list[Run]) -> Figure:
    """The image scores of normal and anomalous test images in per cent of each, an experiment a panel, three a row.

    The last bin also holds the highest half per cent of the scores, beyond the axis.
    """
    columns, rows = min(3, len(runs)), -(-len(runs) // 3)
    width, height = 3.4 * columns, 2.8 * rows + 0.3
    figure, grid = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    for axes in grid.flat[len(runs) :]:
        axes.set_axis_off()
    for axes, run in zip(grid.flat, runs, strict=False):
        scores, anomalous = run.scores.pred_score, run.scores.label == 1
        bins = np.linspace(scores.min(), np.quantile(scores, 0.995) + 1e-9, int(np.clip(len(scores) // 8, 10, 40)))
        for chosen, colour, name in ((~anomalous, NORMAL, "normal"), (anomalous, ANOMALOUS, "anomalous")):
            shares = np.full(chosen.sum(), 100 / max(chosen.sum(), 1))
            style = {"histtype": "step", "lw": 1.6} if name == "anomalous" else {"histtype": "stepfilled", "alpha": 0.4}
            axes.hist(scores[chosen].clip(upper=bins[-1]), bins, weights=shares, color=colour, label=name, **style)
        axes.set(title=run.title, xlabel="image score")
        axes.grid(False, axis="x")
    for axes in grid[:, 0]:
        axes.set_ylabel("% of its class")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, loc="lower center", frameon=False)
    figure.tight_layout(rect=(0, 0.3 / height, 1, 1))
    return figure


def training(runs: list[Run]) -> Figure:
    """The training loss over the epochs of the experiments that have any, on a log axis where it falls far."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="tight")
    trained = [(i, run) for i, run in enumerate(runs) if len(run.history)]
    for i, run in trained:
        axes.plot(run.history.epoch, run.history.loss, DASHES[i % 4], color=PALETTE[i % 8], marker=".", label=run.title)
    axes.set(xlabel="epoch", ylabel="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not trained:
        axes.text(0.5, 0.5, "no experiment here\ntrains in epochs", ha="center", transform=axes.transAxes)
        return figure
    losses = pd.concat([run.history.loss for _, run in trained])
    if losses.min() > 0 and losses.max() > 10 * losses.min():
        axes.set_yscale("log")
    axes.legend()
    return figure


def gallery(run: Run, images: pd.DataFrame, root: Path, size: int, count: int = 3) -> Figure:
    """Test images and their anomaly maps: `count` each of best, middle and worst, of anomalous and normal ones.

    A column is the image under its score, its mask where there is one, and its map. All maps share one colour scale, so
    that they can be compared.
    """
    scores = run.scores.assign(mask=images.set_index("image")["mask"].reindex(run.scores.image).to_numpy())
    blocks = [block for label in (1, 0) if (block := _extremes(scores, label, count))]
    heights = [CELL * (3 if any(piece["mask"].any() for piece in block.values()) else 2) + 0.5 for block in blocks]
    panel, scale = CELL * count + 0.1, Normalize(run.maps.min(), np.quantile(run.maps, 0.999))
    figure = plt.figure(figsize=(3 * panel + 0.6, sum(heights)))
    for block, top in zip(blocks, np.cumsum([0, *heights]), strict=False):
        for left, (title, piece) in zip(np.arange(3) * panel, block.items(), strict=False):
            colour = NORMAL if title.startswith("normal") else ANOMALOUS
            _write(figure, title, left + CELL * count / 2, top + 0.2, fontsize=9, color=colour)
            for x, cell in zip(left + CELL * np.arange(count), piece.itertuples(), strict=False):
                _write(figure, f"{cell.pred_score:.4g}", x + CELL / 2, top + 0.4, fontsize=8)
                _column(figure, cell, run.maps[[cell.Index]], root, size, scale, (x, top + 0.45))
    bar = figure.colorbar(
        ScalarMappable(scale, "inferno"), cax=_axes(figure, 3 * panel, sum(heights) / 4, 0.12, sum(heights) / 2)
    )
    bar.ax.tick_params(labelsize=8)
    return figure


def _column(
    figure: Figure, cell: Any, anomaly_map: np.ndarray, root: Path, size: int, scale: Normalize, at: tuple[float, float]
) -> None:
    """An image, below it its mask if it has one, and its map (1, G, G); `at` is the corner, inches from upper left."""
    pictures: list[tuple[np.ndarray, dict[str, Any]]] = [(read_rgb(root, cell.image, size), {})]
    if cell.mask:
        pictures.append((read_mask(root, cell.mask, size), {"cmap": "gray", "vmin": 0, "vmax": 1}))
    pictures.append((upsampled(anomaly_map, size)[0], {"cmap": "inferno", "norm": scale}))
    for i, (pixels, style) in enumerate(pictures):
        axes = _axes(figure, at[0], at[1] + i * CELL, CELL - 0.06, CELL - 0.06)
        axes.imshow(pixels, **style)
        axes.set_axis_off()


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the upper left: a layout engine would not give the same bytes every time."""
    total, tall = figure.get_size_inches()
    return figure.add_axes((left / total, 1 - (top + height) / tall, width / total, height / tall))


def _write(figure: Figure, text: str, x: float, y: float, **style: Any) -> None:
    total, tall = figure.get_size_inches()
    figure.text(x / total, 1 - y / tall, text, ha="center", **style)


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
