"""All experiments on a category: ROC, PRO, the training's losses, metrics over the epochs."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from adtr.evaluate.measure import truth_of, upsampled
from adtr.evaluate.metrics import UndefinedMetric, aupro, auroc, pro_curve, roc_curve
from adtr.figures.category import Category, Run
from adtr.figures.look import DASHES, MARKERS, METRICS, OTHERS
from adtr.tables.colours import is_grey

POINTS = 300  # of a drawn curve at most
SPAN = 2.0  # per cent, the least range of a panel: hundredths of a point are no finding


def roc(category: Category) -> Figure:
    """The ROC curves, image level; the diagonal is chance."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    axes.plot([0, 100], [0, 100], color="0.7", lw=0.8)

    def rates_of(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
        labels, scores = run.scores.label.to_numpy() == 1, run.scores.pred_score.to_numpy()
        return *roc_curve(labels, scores, POINTS), auroc(labels, scores)

    _rates(axes, category.runs, rates_of)
    axes.set(xlabel="normal images called anomalous, %", ylabel="anomalous images called anomalous, %")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    _legend(axes, "image AUROC, in %")
    return figure


def pro(category: Category) -> Figure:
    """The per-region overlap against the false-positive rate of pixels, up to the limit of AUPRO."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    limit = category.aupro_limit
    sizes = {run.size for run in category.runs}
    truths = {size: truth_of(category.root, category.tested(), size) for size in sizes}

    def rates_of(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
        if not (truth := truths[run.size]):
            raise UndefinedMetric("no image has a mask")
        maps = upsampled(run.maps[truth.known], run.size)
        return *pro_curve(truth.masks, maps, limit, POINTS), aupro(truth.masks, maps, limit)

    _rates(axes, category.runs, rates_of)
    axes.set(xlabel="normal pixels called anomalous, %", ylabel="share of a defect that is found, mean, %")
    axes.set(xlim=(-limit, 101 * limit), ylim=(-1, 101), box_aspect=1)
    _legend(axes, f"AUPRO up to {100 * limit:g} %, in %")
    return figure


def training(category: Category) -> Figure:
    """The training loss over the epochs of the experiments that have any, on a log axis where it falls far.

    A training that starts from another's end begins there.
    """
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    for i, run in enumerate(category.runs):
        if len(run.history):
            every = max(1, len(run.history) // 8)
            epochs = run.before + run.history.epoch
            axes.plot(epochs, run.history.loss, **line(i, run), markevery=every, label=run.title)
    axes.set(xlabel="epochs of training", ylabel="training loss")
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
    """The metrics of the snapshots and of the trained model, over the epochs; a panel a metric.

    A training that starts from another's end begins at its last point.
    """
    measured = pd.concat([run.curve for run in category.runs]).dropna(subset="value").metric.unique()
    metrics = [metric for metric in METRICS if metric in measured]
    count = max(1, len(metrics))
    figure, panels = plt.subplots(1, count, figsize=(4.4 * count, 3.8), squeeze=False)
    if not metrics:
        kept = any(len(run.curve) for run in category.runs)
        return _message(figure, "no metric is defined\nof any snapshot" if kept else "no snapshots")
    for axes, metric in zip(panels[0], metrics, strict=True):
        for i, run in enumerate(category.runs):
            if len(run.curve):
                values = _continued(category.runs, run, metric)
                axes.plot(values.epoch, values.value, **line(i, run), label=run.title)
        low, high = axes.get_ylim()
        middle, half = (low + high) / 2, max(high - low, SPAN) / 2
        middle = min(middle, 100 + 0.04 * half - half)  # no more than a marker's room above 100 %
        axes.set(xlabel="epochs of training", ylabel=METRICS[metric], ylim=(middle - half, middle + half))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.subplots_adjust(wspace=0.28)
    _legend(panels[0][-1])
    return figure


def _continued(runs: Sequence[Run], run: Run, metric: str) -> pd.DataFrame:
    """Epochs and values of a metric of a run, behind the last ones of the run that it starts from."""
    values = run.curve[run.curve.metric == metric].assign(epoch=lambda rows: rows.epoch + run.before)
    for start in (each for each in runs if run.start == each.title):
        values = pd.concat([_continued(runs, start, metric)[-1:], values])
    return values


def line(i: int, run: Run) -> dict[str, Any]:
    """The style of a run, the i-th of its figure: its colour, a dash and a marker; grey ones lie behind."""
    if is_grey(run.colour):
        return {"color": run.colour, "marker": ".", "markersize": 3, "lw": 1.1, "zorder": 2}
    dash, marker = DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]
    return {"color": run.colour, "linestyle": dash, "marker": marker, "markersize": 4, "lw": 1.6, "zorder": 3}


def _rates(axes: Axes, runs: Sequence[Run], rates_of: Callable[[Run], tuple[np.ndarray, np.ndarray, float]]) -> None:
    """A curve for each run, of x, y and area as shares of 1, with its area in per cent or why that is undefined."""
    for i, run in enumerate(runs):
        every = (0.02 + 0.017 * (i % len(MARKERS)), 0.18)  # in parts of the diagonal; curves that lie close alternate
        try:
            x, y, area = rates_of(run)
            axes.plot(100 * x, 100 * y, **line(i, run), markevery=every, label=f"{run.title}  {100 * area:.1f}")
        except UndefinedMetric as reason:
            axes.plot([], [], **line(i, run), label=f"{run.title}: {reason}")


def _legend(axes: Axes, title: str = "") -> None:
    """A legend to the right of the axes, where it covers no curve; several grey ones share a line of it."""
    handles, labels = axes.get_legend_handles_labels()
    lines = {label: handle for label, handle in zip(labels, handles, strict=True) if isinstance(handle, Line2D)}
    grey = [label for label, drawn in lines.items() if is_grey(str(drawn.get_color()))]
    if len(grey) > 1:
        lines = {label: drawn for label, drawn in lines.items() if label not in grey} | {OTHERS: lines[grey[0]]}
    axes.legend([*lines.values()], [*lines], loc="upper left", bbox_to_anchor=(1.02, 1.02), handlelength=3, title=title)


def _message(figure: Figure, text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure.axes[0].text(0.5, 0.5, text, ha="center", transform=figure.axes[0].transAxes)
    return figure
