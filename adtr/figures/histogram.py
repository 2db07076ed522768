"""Histograms of the image scores of a category."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adtr.figures.category import Category, Run
from adtr.figures.look import ANOMALOUS, NORMAL


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
