"""Bars of a whole data set by category: ours beside the paper's, or all experiments."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


def panels(plan: Plan, dataset: str, metrics: pd.DataFrame, specs: Mapping[str, Any]) -> list[Panel]:
    """The bars of a data set: for each table of the paper that it is shown in, or else for each AUROC measured.

    Args:
        metrics: the tidy rows of all runs.
        specs: the paper's tables, of `adtr.tables.paper.read_specs`.
    """
    definition, experiments = plan.datasets[dataset], plan.study.datasets[dataset]
    categories, own = definition.categories or [], metrics[metrics.dataset == dataset]
    compared = []
    for spec in specs.values():
        if definition.benchmark and spec["benchmark"] == definition.benchmark and "ours" in spec:
            paper, series = spec["paper"].query("category != 'mean'"), []
            for method, experiment in spec["ours"].items():
                printed = paper[paper.method == method].set_index("category").value.astype(float)
                series.append(Series(method, True, printed.to_frame("mean").assign(sd=np.nan)))
                if experiment in experiments:
                    series.append(Series(method, False, _measured(own, experiment, spec["metric"])))
            names = list(dict.fromkeys([*paper.category, *categories]))
            compared.append(Panel(METRICS[spec["metric"]], names, series))
    return compared or [
        Panel(title, categories, [Series(plan.titles[e], False, _measured(own, e, metric)) for e in experiments])
        for metric, title in METRICS.items()
        if (own.metric == metric).any()
    ]


def _measured(metrics: pd.DataFrame, experiment: str, metric: str) -> pd.DataFrame:
    """Mean and standard deviation over the seeds, by category."""
    rows = metrics[(metrics.experiment == experiment) & (metrics.metric == metric)]
    return rows.groupby("category").value.agg(mean="mean", sd="std")


def bars(panels: Sequence[Panel]) -> Figure:
    """Bars by category from chance upwards (or downwards), a panel a metric; the paper's are pale."""
    widths = [0.8 + len(panel.categories) * (0.13 * len(panel.series) + 0.12) for panel in panels]
    size = (max(4.0, *widths), 2.7 * len(panels))
    figure, grid = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="tight")
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _panel(axes, panel)
    most = max(panels, key=lambda panel: len(panel.series))
    handles, labels = grid[panels.index(most), 0].get_legend_handles_labels()
    ncols = 4 if len(panels[0].categories) > 5 else 2
    grid[0, 0].legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=ncols)
    return figure


def _panel(axes: Axes, panel: Panel) -> None:
    width, lowest, others = 0.8 / len(panel.series), [CHANCE], cycle(OTHERS)
    for i, series in enumerate(panel.series):
        colour, hatch = FACES.get(series.method) or next(others)
        values = series.values.reindex(panel.categories)
        at = np.arange(len(panel.categories)) + (i - (len(panel.series) - 1) / 2) * width
        face, edge = (_pale(to_rgb(colour)), colour) if series.printed else (colour, "0.15")
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


def _pale(colour: Iterable[float]) -> tuple[float, ...]:
    """A quarter of the colour on white; opaque, so that no grid line shines through a bar."""
    return tuple(0.75 + 0.25 * channel for channel in colour)
