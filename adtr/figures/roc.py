"""ROC curves of all experiments on a category, image level."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from adtr.evaluate.metrics import auroc, roc_curve
from adtr.figures.category import Category, Run
from adtr.figures.look import legend, rates


def roc(category: Category) -> Figure:
    """The ROC curves; the diagonal is chance."""
    figure, axes = plt.subplots(figsize=(4.2, 4.2))
    axes.plot([0, 100], [0, 100], color="0.7", lw=0.8)
    rates(axes, category.runs, _rates)
    axes.set(xlabel="false positives, % of normal images", ylabel="true positives, % of anomalies")
    axes.set(xlim=(-1, 101), ylim=(-1, 101), aspect="equal")
    legend(axes, title="image AUROC, %")
    return figure


def _rates(run: Run) -> tuple[np.ndarray, np.ndarray, float]:
    labels, scores = run.scores.label.to_numpy() == 1, run.scores.pred_score.to_numpy()
    return *roc_curve(labels, scores), auroc(labels, scores)
