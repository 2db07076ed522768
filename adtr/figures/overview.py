"""Figures of a whole data set: what was measured beside the paper's numbers, and feature differences in a plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from adtr.figures.look import NORMAL, PALETTE

CHANCE = 50  # per cent AUROC, where the bars begin
FACES = {"ADTR": (NORMAL, ""), "ADTR+": ("#E69F00", "///")}  # a dark and a light one of Okabe and Ito's
OTHERS = list(zip(PALETTE[2:] + PALETTE[:2], ("...", "xx", "--", "||", "++", "oo", "**"), strict=True))


@dataclass(frozen=True)
class Series:
    """Bars of one kind: value by category, with the standard deviation over seeds where there are several."""

    method: str
    printed: bool  # in the paper, not measured here
    values: pd.DataFrame  # indexed by category: mean, sd


@dataclass(frozen=True)
class Panel:
    """The bars of a metric."""

    metric: str
    categories: list[str]
    series: list[Series]


def measured(metrics: pd.DataFrame, dataset: str, experiment: str, metric: str) -> pd.DataFrame:
    """Mean and standard deviation over the seeds, by category."""
    rows = metrics[(metrics.dataset == dataset) & (metrics.experiment == experiment) & (metrics.metric == metric)]
    return rows.groupby("category").value.agg(mean="mean", sd="std")


def bars(panels: Sequence[Panel]) -> Figure:
    """Bars by category from chance upwards (or downwards), a panel a metric; the paper's are pale."""
    widths = [0.8 + len(panel.categories) * (0.13 * len(panel.series) + 0.12) for panel in panels]
    figure, grid = plt.subplots(
        len(panels), 1, figsize=(max(4.0, *widths), 2.7 * len(panels)), squeeze=False, layout="tight"
    )
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _bars(axes, panel)
    most = max(panels, key=lambda panel: len(panel.series))
    handles, labels = grid[panels.index(most), 0].get_legend_handles_labels()
    ncols = 4 if len(panels[0].categories) > 5 else 2
    grid[0, 0].legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=ncols)
    return figure


def _bars(axes: Axes, panel: Panel) -> None:
    width = 0.8 / len(panel.series)
    lowest, others = [CHANCE], cycle(OTHERS)
    for i, series in enumerate(panel.series):
        colour, hatch = FACES.get(series.method) or next(others)
        values = series.values.reindex(panel.categories)
        at = np.arange(len(panel.categories)) + (i - (len(panel.series) - 1) / 2) * width
        face, edge = (_pale(colour), colour) if series.printed else (colour, "0.15")
        style: dict[str, Any] = {"facecolor": face, "edgecolor": edge, "hatch": hatch, "lw": 0.8}
        source = ", the paper" if series.printed else ", here" if any(s.printed for s in panel.series) else ""
        axes.bar(at, values["mean"] - CHANCE, 0.92 * width, CHANCE, **style, label=series.method + source)
        spread = values["sd"].notna()
        axes.errorbar(at[spread], values["mean"][spread], values["sd"][spread], fmt="none", ecolor="0", capsize=2, lw=1)
        lowest.append((values["mean"] - values["sd"].fillna(0)).min())
    axes.set(ylabel=panel.metric, ylim=(min(CHANCE, np.nanmin(lowest) - 2), 101))
    axes.axhline(CHANCE, color="0.3", lw=0.8)
    names = [category.replace("_", " ") for category in panel.categories]
    axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.yaxis.set_major_locator(MultipleLocator(10))
    axes.set_axisbelow(True)
    axes.grid(False, axis="x")


def _pale(colour: str) -> tuple[float, ...]:
    """A quarter of the colour on white; opaque, for no grid line is to be seen through a bar."""
    return tuple(0.75 + 0.25 * channel for channel in to_rgb(colour))


def pooled(vectors: Sequence[np.ndarray], anomalous: Sequence[np.ndarray], each: int, seed: int) -> np.ndarray:
    """Indices into all vectors, one category after the other: `each` normal and `each` anomalous, drawn at random.

    Where there are not so many of a kind, fewer of both.
    """
    marked = np.concatenate(list(anomalous))
    if len(marked) != sum(map(len, vectors)):
        raise ValueError("as many marks as vectors are expected")
    rng = np.random.default_rng(seed)
    each = min(each, int(marked.sum()), int((~marked).sum()))
    chosen = [rng.choice(np.flatnonzero(kind), each, replace=False) for kind in (~marked, marked)]
    return np.sort(np.concatenate(chosen))


def possibility(vectors: np.ndarray) -> np.ndarray:
    """(M,) The anomaly score s(u) = ||d(:, u)|| of (M, C), its 1st to 99th percentile stretched over 0..1."""
    scores = np.linalg.norm(vectors, axis=1)
    low, high = np.quantile(scores, [0.01, 0.99])
    return np.clip((scores - low) / max(high - low, 1e-12), 0, 1)


def embedded(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of (M, C) in the plane, (M, 2), the same on every call."""
    perplexity = min(30, max(1, (len(vectors) - 1) // 3))
    with threadpool_limits(1):  # sums over threads differ in their last digits, and t-SNE magnifies them
        return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)


def tsne(vectors: np.ndarray, anomalous: np.ndarray) -> Figure:
    """Fig. 5: difference vectors (M, C) in the plane, circles normal and triangles anomalous, coloured by score."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    if len(vectors) < 2:
        axes.text(0.5, 0.5, "no token is known to be anomalous:\nthere are no masks", ha="center", va="center")
        axes.set_axis_off()
        return figure
    points, colour, handles = embedded(vectors), possibility(vectors), []
    style: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": 1, "s": 26, "edgecolors": "0.15", "linewidths": 0.4}
    for chosen, marker, name in ((~anomalous, "o", "normal"), (anomalous, "^", "anomalous")):
        # Grey in the legend, where no score is meant
        grey: dict[str, Any] = {"markerfacecolor": "0.7", "markeredgecolor": "0.15", "lw": 0}
        handles.append(Line2D([], [], marker=marker, label=f"{name} ({chosen.sum()})", **grey))
        x, y = points[chosen].T
        axes.scatter(x, y, c=colour[chosen], marker=marker, **style)
    axes.set(xlabel="t-SNE, first axis (no unit)", ylabel="t-SNE, second axis (no unit)", xticks=[], yticks=[])
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0)
    bar = figure.colorbar(ScalarMappable(cmap="viridis"), ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("predicted anomaly possibility:\nscore, its 1st to 99th percentile as 0 to 1", fontsize=9)
    return figure
