"""PRO curves of all experiments on a category: the overlap with the defects."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from adtr.evaluate.measure import upsampled
from adtr.evaluate.metrics import aupro, pro_curve
from adtr.figures.category import Category, Run
from adtr.figures.look import legend, rates


def pro(category: Category) -> Figure:
    """The per-region overlap against the false-positive rate of pixels, up to the limit of AUPRO."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    limit = category.aupro_limit
    masks = {size: category.masks(size) for size in {run.size for run in category.runs}}

    def rates_of(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
        maps = upsampled(run.maps, run.size)
        return *pro_curve(masks[run.size], maps, limit), aupro(masks[run.size], maps, limit)

    rates(axes, category.runs, rates_of)
    axes.set(xlabel="false positives, % of normal pixels", ylabel="overlap, mean over the defects, %")
    axes.set(xlim=(-limit, 101 * limit), ylim=(-1, 101), box_aspect=1)
    legend(axes, title=f"AUPRO to {100 * limit:g} %, %")
    return figure
