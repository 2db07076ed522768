"""Feature differences of a whole data set in a plane (Fig. 5). Shapes: M vectors, C channels."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def pooled(anomalous: Sequence[np.ndarray], each: int) -> np.ndarray:
    """Indices into the vectors of all categories: `each` normal and `each` anomalous, drawn at random, by mark.

    Where there are not so many of a kind, fewer of both.
    """
    marks = np.concatenate(list(anomalous))
    rng = np.random.default_rng(0)
    each = min(each, int(marks.sum()), int((~marks).sum()))
    drawn = [rng.choice(np.flatnonzero(kind), each, replace=False) for kind in (~marks, marks)]
    return np.sort(np.concatenate(drawn))


def possibility(vectors: np.ndarray) -> np.ndarray:
    """(M,) The anomaly score s(u) = ||d(:, u)|| of (M, C), its 1st to 99th percentile stretched over 0..1."""
    scores = np.linalg.norm(vectors, axis=1)
    low, high = np.quantile(scores, [0.01, 0.99])
    return np.clip((scores - low) / max(high - low, 1e-12), 0, 1)


def embedded(vectors: np.ndarray) -> np.ndarray:
    """t-SNE of (M, C) in the plane, (M, 2), the same on every call."""
    perplexity = min(30, max(1, (len(vectors) - 1) // 3))
    with threadpool_limits(1):  # sums over threads differ in their last digits, and t-SNE magnifies them
        return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)


def tsne(vectors: np.ndarray, anomalous: np.ndarray) -> Figure:
    """Difference vectors (M, C) in the plane, circles normal and triangles anomalous (M,), coloured by score."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    if len(vectors) < 2:
        axes.text(0.5, 0.5, "no token is known to be anomalous:\nthere are no masks", ha="center", va="center")
        axes.set_axis_off()
        return figure
    points, colour, handles = embedded(vectors), possibility(vectors), []
    style: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1, "s": 26, "edgecolors": "0.15", "linewidths": 0.4}
    grey: dict[str, Any] = {"markerfacecolor": "0.7", "markeredgecolor": "0.15", "lw": 0}  # no score in the legend
    for members, marker, name in ((~anomalous, "o", "tokens of normal regions"), (anomalous, "^", "tokens of defects")):
        handles.append(Line2D([], [], marker=marker, label=f"{name} ({members.sum()})", **grey))
        x, y = points[members].T
        axes.scatter(x, y, c=colour[members], marker=marker, **style)
    axes.set(xlabel="first axis of t-SNE", ylabel="second axis of t-SNE", xticks=[], yticks=[])
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0)
    bar = figure.colorbar(ScalarMappable(cmap="viridis"), ax=axes, fraction=0.046, pad=0.03)
    bar.set_ticks([0, 1], labels=["low", "high"])
    bar.set_label("anomaly score of the token")
    return figure
