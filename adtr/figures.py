"""Figures of a category: ROC curves, score histograms, training curves, and a gallery of anomaly maps.

Each is drawn from the files of the runs, as PNG and SVG, in colours that the colour-blind can tell apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from adtr.files import written_atomically
from adtr.images import read_mask, read_rgb
from adtr.metrics import UndefinedMetric, auroc, roc_curve
from adtr.score import upsampled

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
PALETTE = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
DASHES = ["-", "--", "-.", ":"]


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
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9)
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
                metadata = {"Date": None} if suffix == "svg" else None  # the same bytes every time
                figure.savefig(path, format=suffix, dpi=110, bbox_inches="tight", metadata=metadata)
        plt.close(figure)


def roc(runs: list[Run]) -> Figure:
    """The ROC curves of all experiments, image level."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    for i, run in enumerate(runs):
        labels, scores = run.scores.label.to_numpy() == 1, run.scores.pred_score.to_numpy()
        try:
            fpr, tpr = roc_curve(labels, scores)
            label = f"{run.title}  {100 * auroc(labels, scores):.1f}"
            axes.plot(100 * fpr, 100 * tpr, DASHES[i % 4], color=PALETTE[i % 8], label=label, drawstyle="default")
        except UndefinedMetric as reason:
            axes.plot([], [], label=f"{run.title}: {reason}")
    axes.plot([0, 100], [0, 100], color="0.7", lw=0.8)
    axes.set(xlabel="false positives, % of normal images", ylabel="true positives, % of anomalies")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    axes.legend(title="image AUROC, %", loc="lower right")
    return figure


def histogram(runs: list[Run]) -> Figure:
    """The image scores of normal and anomalous test images, an experiment a panel."""
    figure, grid = plt.subplots(1, len(runs), figsize=(3.4 * len(runs), 2.8), squeeze=False, layout="constrained")
    for axes, run in zip(grid[0], runs, strict=True):
        scores = run.scores.pred_score
        bins = np.linspace(scores.min(), np.quantile(scores, 0.995) + 1e-9, 40)
        for label, colour, name in ((0, NORMAL, "normal"), (1, ANOMALOUS, "anomalous")):
            chosen = scores[run.scores.label == label].clip(upper=bins[-1])
            style = {"histtype": "stepfilled", "alpha": 0.35} if label == 0 else {"histtype": "step", "lw": 1.6}
            axes.hist(chosen, bins=bins, density=True, color=colour, label=name, **style)
        axes.set(title=run.title, xlabel="image score", yticks=[])
    grid[0][0].set_ylabel("density")
    grid[0][-1].legend()
    return figure


def training(runs: list[Run]) -> Figure:
    """The training loss over the epochs of the experiments that have any."""
    figure, axes = plt.subplots(figsize=(4.8, 3.2))
    for i, run in enumerate(runs):
        if len(run.history):
            axes.plot(run.history.epoch, run.history.loss, color=PALETTE[i % 8], marker=".", label=run.title)
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    if axes.lines:
        axes.legend()
    return figure


def gallery(run: Run, images: pd.DataFrame, root: Path, size: int, count: int = 4) -> Figure:
    """Test images and their anomaly maps: `count` each of best, middle and worst, of normal and anomalous ones.

    All maps share one colour scale, so that they can be compared.
    """
    blocks = [_extremes(run.scores, label, count) for label in (1, 0)]
    masks = images.set_index("image")["mask"]
    rows = 3 if any(masks[block.image].ne("").any() for block in blocks) else 2
    low, high = run.maps.min(), np.quantile(run.maps, 0.999)
    size_in = (1.15 * 3 * count, 2 * (1.15 * rows + 0.25))
    figure, grid = plt.subplots(2 * rows, 3 * count, figsize=size_in, layout="constrained")
    for axes in grid.flat:
        axes.set_axis_off()
    for top, block in zip((0, rows), blocks, strict=True):
        for column, cell in enumerate(block.itertuples()):
            axes = grid[top : top + rows, column]
            axes[0].imshow(read_rgb(root, cell.image, size))
            axes[0].set_title(f"{cell.verdict}\n{cell.pred_score:.2f}", fontsize=7)
            if rows == 3:
                mask = masks[cell.image]
                axes[1].imshow(read_mask(root, mask, size) if mask else np.zeros((size, size)), "gray", vmin=0, vmax=1)
            axes[-1].imshow(upsampled(run.maps[[cell.Index]], size)[0], cmap="inferno", vmin=low, vmax=high)
    return figure


def _extremes(scores: pd.DataFrame, label: int, count: int) -> pd.DataFrame:
    """The best, middle and worst scored images of one label, fewer where there are not so many."""
    ranked = scores[scores.label == label].sort_values("pred_score", ascending=not label, kind="stable")
    names = ("found", "middle", "missed") if label else ("passed", "middle", "false alarm")
    kind = "anomaly" if label else "normal"
    count = min(count, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    pieces = (ranked[:count], ranked[middle : middle + count], ranked[len(ranked) - count :])
    return pd.concat([piece.assign(verdict=f"{kind}: {name}") for piece, name in zip(pieces, names, strict=True)])
