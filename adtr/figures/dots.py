"""The metrics of a whole data set by category, as dots with their intervals, the paper's values beside them."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adtr.config.study import Plan
from adtr.figures.look import MARKERS, OTHERS, SOFT
from adtr.tables.colours import colours, is_grey
from adtr.tables.summary import MEAN, METRICS, study_metrics

CHANCE = 50  # per cent AUROC
LABELLED = 48  # lines at most that are named one by one; of more, a legend names the experiments
STEP, WIDTH, HEAD = 0.17, 3.1, 1.0  # inches: a named line, a panel, what stands above and below the panels


def panels(plan: Plan, dataset: str, summary: pd.DataFrame, specs: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The dots of each main metric of a data set: title, colour, category, mean, low, high, and printed.

    A row is a dot. `printed` is the paper's value of an experiment that it has, NaN without one.

    Args:
        summary: as of `uncertainty.with_intervals`.
        specs: the paper's tables, of `adtr.tables.specs.read_specs`.
    """
    papers = {
        (spec["metric"], experiment): spec["paper"][spec["paper"].method == method].set_index("category").value
        for spec in specs.values()
        if spec["benchmark"] == plan.datasets[dataset].benchmark
        for method, experiment in spec.get("ours", {}).items()
    }
    for values in papers.values():  # their mean over the categories that were run
        values.loc[MEAN] = str(values.reindex(plan.datasets[dataset].categories).astype(float).mean(skipna=False))
    found = {}
    for metric in (metric for name, metric in study_metrics(plan) if name == dataset):
        rows = summary[(summary.dataset == dataset) & (summary.metric == metric)]
        if rows.category.nunique() == 2:  # the mean of one category is that category
            rows = rows[rows.category != MEAN]
        printed = [papers.get((metric, row.experiment), {}).get(row.category) for row in rows.itertuples()]
        rows = rows.assign(title=rows.experiment.map(plan.titles), colour=rows.experiment.map(colours(plan)))
        rows["printed"] = np.array(printed, float)
        if rows["mean"].notna().any():
            found[METRICS[metric]] = rows[["title", "colour", "category", "mean", "low", "high", "printed"]]
    return found


def dots(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """A panel a metric; categories below each other, in each its experiments: the mean over seeds, its interval.

    Where there are many, grey experiments share a line.
    """
    whole = pd.concat([table[["title", "colour", "category"]] for table in panels.values()]).drop_duplicates()
    titles, categories = (list(dict.fromkeys(whole[name])) for name in ("title", "category"))
    categories = sorted(categories, key=lambda name: name == MEAN, reverse=True)
    named = len(titles) * len(categories) <= LABELLED
    colour_of = dict(zip(whole.title, whole.colour, strict=True))
    shared = [title for title in titles if is_grey(colour_of[title]) and not named]
    alone = [title for title in titles if title not in shared]
    headed = int(named and len(categories) > 1)  # a line for the category's name
    lines = {title: headed + place for place, title in enumerate(alone)}
    lines |= dict.fromkeys(shared, len(alone))
    depth = max(lines.values()) + 2
    inches = (STEP if named else 0.6 * STEP) * depth * len(categories)
    size = (1.5 + WIDTH * len(panels), HEAD + inches)
    figure, grid = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True, layout="tight")
    heights = {(c, t): depth * i + lines[t] for i, c in enumerate(categories) for t in titles}
    for axes, (metric, table) in zip(grid[0], panels.items(), strict=True):
        _panel(axes, metric, table, heights)
    first = grid[0, 0]
    first.set_ylim(depth * len(categories) - 1, -1)
    names = [category.replace("_", " ") for category in categories]
    if named:
        first.set_yticks([*heights.values()], [title for _, title in heights])
        side = {"transform": first.get_yaxis_transform(), "ha": "right", "va": "center", "weight": "bold"}
        for place, name in enumerate(names if headed else []):
            first.text(-0.02, depth * place, name, **side)
    else:
        first.set_yticks([depth * place + (depth - 2) / 2 for place in range(len(names))], names)
    printed = any(table.printed.notna().any() for table in panels.values())
    _legend(figure, {} if named else {title: colour_of[title] for title in alone}, bool(shared), printed)
    return figure


def _panel(axes: Axes, metric: str, table: pd.DataFrame, heights: Mapping[tuple[str, str], int]) -> None:
    table = table[table["mean"].notna()]
    markers = dict(zip(dict.fromkeys(table.title), cycle(MARKERS), strict=False))
    for row in table.itertuples():
        height, style = heights[row.category, row.title], {"color": row.colour, "zorder": 3}
        axes.plot(row.mean, height, marker=markers[row.title], markersize=5, lw=0, **style)
        alone = not is_grey(row.colour) or list(heights.values()).count(height) == 1
        if alone and not pd.isna(row.low):
            axes.plot([row.low, row.high], [height, height], lw=1.4, **style)
        if not pd.isna(row.printed):
            axes.plot(row.printed, height, marker="D", markersize=6, lw=0, markerfacecolor="none", **style)
    lowest = np.nanmin(table[["mean", "low", "printed"]].to_numpy())
    left = 5 * np.floor((lowest - 1) / 5)
    axes.set(xlabel=f"{metric}, %", xlim=(left, 100 + 0.02 * (100 - left)))  # a marker's room above 100 %
    if "AUROC" in metric and lowest < CHANCE:
        axes.axvline(CHANCE, color=SOFT, lw=1, ls=":", label="chance")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _legend(figure: Figure, colour_of: Mapping[str, str], shared: bool, printed: bool) -> None:
    """What the signs mean; the experiments, too, where no line is named: `colour_of` has those."""
    marks = zip(colour_of.items(), cycle(MARKERS), strict=False)
    handles = [Line2D([], [], color=colour, marker=m, markersize=5, lw=1.4, label=t) for (t, colour), m in marks]
    if shared:
        handles.append(Line2D([], [], color="#8a8a8a", marker="o", markersize=5, lw=0, label=OTHERS))
    if printed:
        style: dict[str, Any] = {"marker": "D", "markersize": 6, "markerfacecolor": "none", "lw": 0}
        handles.append(Line2D([], [], color=SOFT, label="as the paper prints it", **style))
    handles += [line for axes in figure.axes for line in axes.lines if line.get_label() == "chance"][:1]
    if handles:
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=4)
