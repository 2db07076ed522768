"""Curves of all experiments on a category: ROC, PRO, training loss, metrics over epochs; and histograms of scores."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from adtr.evaluate.maps import upsampled
from adtr.evaluate.metrics import UndefinedMetric, aupro, auroc, pro_curve, roc_curve
from adtr.figures.category import Category, Run
from adtr.figures.look import ANOMALOUS, NORMAL, legend, line, sparse

SPAN = 2.0  # per cent, the least that a panel of metrics shows: hundredths of a point are no finding
METRICS = {"image_auroc": "image AUROC, %", "pixel_auroc": "pixel AUROC, %"}


def roc(category: Category) -> Figure:
    """The ROC curves, image level."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    axes.plot([0, 100], [0, 100], color="0.7", lw=0.8)
    for i, run in enumerate(category.runs):
        labels, scores = run.scores.label.to_numpy() == 1, run.scores.pred_score.to_numpy()
        try:
            fpr, tpr = roc_curve(labels, scores)
            label = f"{run.title}  {100 * auroc(labels, scores):.1f}"
            axes.plot(100 * fpr, 100 * tpr, **line(i), markevery=sparse(i), label=label)
        except UndefinedMetric as reason:
            axes.plot([], [], **line(i), label=f"{run.title}: {reason}")
    axes.set(xlabel="false positives, % of normal images", ylabel="true positives, % of anomalies")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    legend(axes, title="image AUROC, %")
    return figure


def pro(category: Category) -> Figure:
    """The per-region overlap against the false-positive rate of pixels, up to the limit of AUPRO."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    limit = category.aupro_limit
    masks = {size: category.masks(size) for size in {run.size for run in category.runs}}
    for i, run in enumerate(category.runs):
        maps = upsampled(run.maps, run.size)
        try:
            fpr, overlap = pro_curve(masks[run.size], maps, limit)
            label = f"{run.title}  {100 * aupro(masks[run.size], maps, limit):.1f}"
            axes.plot(100 * fpr, 100 * overlap, **line(i), markevery=sparse(i), label=label)
        except UndefinedMetric as reason:
            axes.plot([], [], **line(i), label=f"{run.title}: {reason}")
    axes.set(xlabel="false positives, % of normal pixels", ylabel="overlap, mean over the defects, %")
    axes.set(xlim=(-limit, 101 * limit), ylim=(-1, 101), box_aspect=1)
    legend(axes, title=f"AUPRO to {100 * limit:g} %, %")
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
        _scores(axes, run)
    for axes in grid[:, 0]:
        axes.set_ylabel("% of its class")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2, loc="lower center")
    figure.tight_layout(rect=(0, 0.3 / height, 1, 1))
    return figure


def _scores(axes: Axes, run: Run) -> None:
    scores, anomalous = run.scores.pred_score, run.scores.label == 1
    count = int(np.clip(len(scores) // 8, 10, 40))
    bins = np.linspace(scores.min(), np.quantile(scores, 0.995) + 1e-9, count).tolist()
    for chosen, colour, name in ((~anomalous, NORMAL, "normal"), (anomalous, ANOMALOUS, "anomalous")):
        shares = np.full(chosen.sum(), 100 / max(chosen.sum(), 1))
        style: dict[str, Any] = {"histtype": "stepfilled", "alpha": 0.4}
        if name == "anomalous":
            style = {"histtype": "step", "lw": 1.6}
        axes.hist(scores[chosen].clip(upper=bins[-1]), bins, weights=shares, color=colour, label=name, **style)
    axes.set(title=run.title, xlabel="image score")
    axes.grid(False, axis="x")


def training(category: Category) -> Figure:
    """The training loss over the epochs of the experiments that have any, on a log axis where it falls far."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    trained = [(i, run) for i, run in enumerate(category.runs) if len(run.history)]
    for i, run in trained:
        marked = max(1, len(run.history) // 8)
        axes.plot(run.history.epoch, run.history.loss, **line(i), markevery=marked, label=run.title)
    axes.set(xlabel="epoch", ylabel="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not trained:
        return _without(figure, "no experiment here\ntrains in epochs")
    losses = pd.concat([run.history.loss for _, run in trained])
    if losses.min() > 0 and losses.max() > 10 * losses.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    legend(axes)
    return figure


def curve(category: Category) -> Figure:
    """The metrics of the models kept on the way and of the trained one, over the epochs; a panel a metric."""
    kept = [(i, run) for i, run in enumerate(category.runs) if len(run.curve)]
    measured = pd.concat([run.curve for run in category.runs]).dropna(subset="value").metric.unique()
    shown = [metric for metric in METRICS if metric in measured]
    figure, panels = plt.subplots(1, max(1, len(shown)), figsize=(4.4 * max(1, len(shown)), 3.8), squeeze=False)
    if not shown:
        return _without(figure, "no model was\nkept on the way")
    for axes, metric in zip(panels[0], shown, strict=True):
        for i, run in kept:
            values = run.curve[run.curve.metric == metric]
            axes.plot(values.epoch, values.value, **line(i), label=run.title)
        axes.set(xlabel="epoch", ylabel=METRICS[metric], ylim=_at_least(SPAN, *axes.get_ylim()))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.subplots_adjust(wspace=0.28)
    legend(panels[0][-1])
    return figure


def _without(figure: Figure, reason: str) -> Figure:
    figure.axes[0].text(0.5, 0.5, reason, ha="center", transform=figure.axes[0].transAxes)
    return figure


def _at_least(span: float, low: float, high: float) -> tuple[float, float]:
    """An interval around the same middle, not shorter than `span`."""
    middle, half = (low + high) / 2, max(high - low, span) / 2
    return middle - half, middle + half
