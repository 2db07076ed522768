"""All experiments on a category: ROC, PRO, histograms of scores, the training's losses, metrics over the epochs."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from adtr.evaluate.measure import upsampled, with_truth
from adtr.evaluate.metrics import UndefinedMetric, aupro, auroc, pro_curve, roc_curve
from adtr.figures.category import Category, Run
from adtr.figures.look import ANOMALOUS, METRICS, NORMAL, PALETTE

DASHES = ["-", "--", "-.", ":"]
MARKERS = "os^DvP*X<>"
SPAN = 2.0  # per cent, the least range of a panel: hundredths of a point are no finding


def roc(category: Category) -> Figure:
    """The ROC curves, image level; the diagonal is chance."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    axes.plot([0, 100], [0, 100], color="0.7", lw=0.8)

    def rates_of(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
        labels, scores = run.scores.label.to_numpy() == 1, run.scores.pred_score.to_numpy()
        return *roc_curve(labels, scores), auroc(labels, scores)

    _rates(axes, category.runs, rates_of)
    axes.set(xlabel="false positives, % of normal images", ylabel="true positives, % of anomalies")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    _legend(axes, "image AUROC, %")
    return figure


def pro(category: Category) -> Figure:
    """The per-region overlap against the false-positive rate of pixels, up to the limit of AUPRO."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    limit = category.aupro_limit
    known = with_truth(category.tested())
    masks = {size: category.masks(size)[known] for size in {run.size for run in category.runs}}

    def rates_of(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
        maps = upsampled(run.maps[known], run.size)
        return *pro_curve(masks[run.size], maps, limit), aupro(masks[run.size], maps, limit)

    _rates(axes, category.runs, rates_of)
    axes.set(xlabel="false positives, % of normal pixels", ylabel="overlap, mean over the defects, %")
    axes.set(xlim=(-limit, 101 * limit), ylim=(-1, 101), box_aspect=1)
    _legend(axes, f"AUPRO to {100 * limit:g} %, %")
    return figure


def histogram(category: Category) -> Figure:
    """The image scores of normal and anomalous test images in per cent of each, an experiment a panel, three a row.

    The last bin also holds the highest half per cent of the scores, beyond the axis.
    """
    runs = category.runs
    columns, rows = min(3, len(runs)), -(-len(runs) // 3)
    width, height = 3.4 * columns, 2.8 * rows + 0.3
    figure, grid = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    for axes in grid.flat[len(runs) :]:
        axes.set_axis_off()
    for axes, run in zip(grid.flat, runs, strict=False):
        _panel(axes, run)
    for axes in grid[:, 0]:
        axes.set_ylabel("% of its class")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, loc="lower center")
    figure.tight_layout(rect=(0, 0.3 / height, 1, 1))
    return figure


def training(category: Category) -> Figure:
    """The training loss over the epochs of the experiments that have any, on a log axis where it falls far."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    for i, run in enumerate(category.runs):
        if len(run.history):
            every = max(1, len(run.history) // 8)
            axes.plot(run.history.epoch, run.history.loss, **line(i), markevery=every, label=run.title)
    axes.set(xlabel="epoch", ylabel="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses = pd.concat([run.history.loss for run in category.runs])
    if losses.empty:
        return _message(figure, "no experiment here\ntrains in epochs")
    if losses.min() > 0 and losses.max() > 10 * losses.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)
    return figure


def curve(category: Category) -> Figure:
    """The metrics of the snapshots and of the trained model, over the epochs; a panel a metric."""
    measured = pd.concat([run.curve for run in category.runs]).dropna(subset="value").metric.unique()
    metrics = [metric for metric in METRICS if metric in measured]
    count = max(1, len(metrics))
    figure, panels = plt.subplots(1, count, figsize=(4.4 * count, 3.8), squeeze=False)
    if not metrics:
        return _message(figure, "no metric is defined\nof any snapshot")
    for axes, metric in zip(panels[0], metrics, strict=True):
        for i, run in enumerate(category.runs):
            if len(run.curve):
                values = run.curve[run.curve.metric == metric]
                axes.plot(values.epoch, values.value, **line(i), label=run.title)
        low, high = axes.get_ylim()
        middle, half = (low + high) / 2, max(high - low, SPAN) / 2
        axes.set(xlabel="epoch", ylabel=METRICS[metric], ylim=(middle - half, middle + half))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.subplots_adjust(wspace=0.28)
    _legend(panels[0][-1])
    return figure


def _panel(axes: Axes, run: Run) -> None:
    scores, anomalous = run.scores.pred_score, run.scores.label == 1
    count = int(np.clip(len(scores) // 8, 10, 40))
    bins = np.linspace(scores.min(), np.quantile(scores, 0.995) + 1e-9, count).tolist()
    styles: list[dict[str, Any]] = [{"histtype": "stepfilled", "alpha": 0.4, "color": NORMAL, "label": "normal"}]
    styles += [{"histtype": "step", "lw": 1.6, "color": ANOMALOUS, "label": "anomalous"}]
    for members, style in zip((~anomalous, anomalous), styles, strict=True):
        shares = np.full(members.sum(), 100 / max(members.sum(), 1))
        axes.hist(scores[members].clip(upper=bins[-1]), bins, weights=shares, **style)
    axes.set(title=run.title, xlabel="image score")
    axes.grid(False, axis="x")


def line(i: int) -> dict[str, Any]:
    """The style of the experiment at position i: 28 pairs of colour and dash, and a marker."""
    colour, dash, marker = (styles[i % len(styles)] for styles in (PALETTE, DASHES, MARKERS))
    return {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4, "lw": 1.5}


def _rates(axes: Axes, runs: Sequence[Run], rates_of: Callable[[Run], tuple[np.ndarray, np.ndarray, float]]) -> None:
    """A curve for each run, of x, y and area as shares of 1, with its area in per cent or why that is undefined."""
    for i, run in enumerate(runs):
        every = (0.02 + 0.017 * (i % len(MARKERS)), 0.18)  # in parts of the diagonal; curves that lie close alternate
        try:
            x, y, area = rates_of(run)
            axes.plot(100 * x, 100 * y, **line(i), markevery=every, label=f"{run.title}  {100 * area:.1f}")
        except UndefinedMetric as reason:
            axes.plot([], [], **line(i), label=f"{run.title}: {reason}")


def _legend(axes: Axes, title: str = "") -> None:
    """A legend to the right of the axes, where it covers no curve."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), handlelength=3, title=title)


def _message(figure: Figure, text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure.axes[0].text(0.5, 0.5, text, ha="center", transform=figure.axes[0].transAxes)
    return figure
