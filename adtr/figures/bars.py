"""Bars of a whole data set by category: ours beside the paper's, or all experiments."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from adtr.config.study import Plan
from adtr.figures.look import METRICS, NORMAL, PALETTE

CHANCE = 50  # per cent AUROC, where the bars begin
FACES = {"ADTR": (NORMAL, ""), "ADTR+": ("#E69F00", "///")}  # a dark and a light one of Okabe and Ito's
OTHERS = list(zip(PALETTE[2:] + PALETTE[:2], ("...", "xx", "--", "||", "++", "oo", "**"), strict=True))


def panels(plan: Plan, dataset: str, metrics: pd.DataFrame, specs: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The bars of a data set by metric: for each table of the paper that it is shown in, or else for each AUROC.

    A row is a bar: method, printed (in the paper, not measured here), category, mean, sd over the seeds.

    Args:
        metrics: the tidy rows of all runs.
        specs: the paper's tables, of `adtr.tables.paper.read_specs`.
    """
    own = metrics[(metrics.dataset == dataset) & metrics.metric.isin(METRICS)]
    ours = own.groupby(["metric", "experiment", "category"], sort=False).value.agg(mean="mean", sd="std").reset_index()
    compared = {}
    for spec in specs.values():
        if plan.datasets[dataset].benchmark == spec["benchmark"] and "ours" in spec:
            paper = spec["paper"].query("category != 'mean'").astype({"value": float}).rename(columns={"value": "mean"})
            here = ours[ours.metric == spec["metric"]]
            series = []
            for method, experiment in spec["ours"].items():
                series.append(paper[paper.method == method].assign(printed=True))
                series.append(here[here.experiment == experiment].assign(method=method, printed=False))
            compared[METRICS[spec["metric"]]] = pd.concat(series, ignore_index=True)
    titled = ours.assign(method=ours.experiment.map(plan.titles), printed=False)
    return compared or {METRICS[m]: titled[titled.metric == m] for m in METRICS if (ours.metric == m).any()}


def bars(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """Bars by category from chance upwards (or downwards), a panel a metric; the paper's are pale."""
    series = [table.groupby(["method", "printed"]).ngroups for table in panels.values()]
    counts = [table.category.nunique() for table in panels.values()]
    widths = [0.8 + count * (0.13 * number + 0.12) for count, number in zip(counts, series, strict=True)]
    size = (max(4.0, *widths), 2.7 * len(panels))
    figure, grid = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="tight")
    for axes, (metric, table) in zip(grid[:, 0], panels.items(), strict=True):
        _panel(axes, metric, table)
    handles, labels = grid[series.index(max(series)), 0].get_legend_handles_labels()
    ncols = 4 if counts[0] > 5 else 2
    grid[0, 0].legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=ncols)
    return figure


def _panel(axes: Axes, metric: str, table: pd.DataFrame) -> None:
    categories, groups = list(dict.fromkeys(table.category)), table.groupby(["method", "printed"], sort=False)
    width, others = 0.8 / groups.ngroups, cycle(OTHERS)
    for i, ((method, printed), rows) in enumerate(groups):
        colour, hatch = FACES.get(method) or next(others)
        values = rows.set_index("category").reindex(categories)
        at = np.arange(len(categories)) + (i - (groups.ngroups - 1) / 2) * width
        pale = tuple(0.75 + 0.25 * channel for channel in to_rgb(colour))  # opaque: no grid line shines through
        face, edge = (pale, colour) if printed else (colour, "0.15")
        style: dict[str, Any] = {"facecolor": face, "edgecolor": edge, "hatch": hatch, "lw": 0.8}
        source = ", the paper" if printed else ", here" if table.printed.any() else ""
        axes.bar(at, values["mean"] - CHANCE, 0.92 * width, CHANCE, **style, label=method + source)
        spread = values["sd"].notna()
        axes.errorbar(at[spread], values["mean"][spread], values["sd"][spread], fmt="none", ecolor="0", capsize=2, lw=1)
    lowest = (table["mean"] - table["sd"].fillna(0)).min()
    axes.set(ylabel=metric, ylim=(min(CHANCE, lowest) - 2, 101))
    axes.axhline(CHANCE, color="0.3", lw=0.8)
    names = [category.replace("_", " ") for category in categories]
    axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.yaxis.set_major_locator(MultipleLocator(10))
    axes.set_axisbelow(True)
    axes.grid(False, axis="x")
