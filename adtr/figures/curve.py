"""Metrics over the epochs of all experiments on a category."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adtr.figures.category import Category
from adtr.figures.look import METRICS, legend, line, message

SPAN = 2.0  # per cent, the least range of a panel: hundredths of a point are no finding


def curve(category: Category) -> Figure:
    """The metrics of the snapshots and of the trained model, over the epochs; a panel a metric."""
    measured = pd.concat([run.curve for run in category.runs]).dropna(subset="value").metric.unique()
    metrics = [metric for metric in METRICS if metric in measured]
    count = max(1, len(metrics))
    figure, panels = plt.subplots(1, count, figsize=(4.4 * count, 3.8), squeeze=False)
    if not metrics:
        return message(figure, "there are\nno snapshots")
    for axes, metric in zip(panels[0], metrics, strict=True):
        for i, run in ((i, run) for i, run in enumerate(category.runs) if len(run.curve)):
            values = run.curve[run.curve.metric == metric]
            axes.plot(values.epoch, values.value, **line(i), label=run.title)
        low, high = axes.get_ylim()
        middle, half = (low + high) / 2, max(high - low, SPAN) / 2
        axes.set(xlabel="epoch", ylabel=METRICS[metric], ylim=(middle - half, middle + half))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.subplots_adjust(wspace=0.28)
    legend(panels[0][-1])
    return figure
