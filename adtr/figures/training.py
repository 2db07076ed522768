"""Training losses of all experiments on a category."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from adtr.figures.category import Category
from adtr.figures.look import legend, line, message


def training(category: Category) -> Figure:
    """The training loss over the epochs of the experiments that have any, on a log axis where it falls far."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    trained = [(i, run) for i, run in enumerate(category.runs) if len(run.history)]
    for i, run in trained:
        every = max(1, len(run.history) // 8)
        axes.plot(run.history.epoch, run.history.loss, **line(i), markevery=every, label=run.title)
    axes.set(xlabel="epoch", ylabel="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not trained:
        return message(figure, "no experiment here\ntrains in epochs")
    losses = pd.concat([run.history.loss for _, run in trained])
    if losses.min() > 0 and losses.max() > 10 * losses.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    legend(axes)
    return figure
