"""What the report says first: the study in a sentence, and one table of methods and metrics."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from adtr.config.methods import Params
from adtr.config.study import Plan
from adtr.report.runs import Row, Runs, runs_of
from adtr.tables.render import DASH, Sheet, interval, listed
from adtr.tables.summary import MEAN, METRICS, OURS, row_order, study_metrics
from adtr.tables.uncertainty import BEHIND

FEW = 3  # names of categories or methods in the sentence; of more, how many
LONG = 20  # characters of a data set's title at the head of a column
TOLD = ("features.backbone", "features.image_size", "features.grid_size", "train.epochs")  # departures told first
BRACKETS = (
    "higher is better. In brackets: 95 % intervals for other test images like these (bootstrap). Bold: the best of "
    "a column, and those that a paired interval does not tell apart from it."
)
PAIRED = (
    "The best of a column less each other method, with the 95 % interval of that difference, for which both meet the "
    "same drawn test images; one that holds 0 does not tell them apart."
)
OTHER = "best other in the paper"  # the last row: methods of the paper that were not run
EMPTY: Row = {"text": "", "interval": "", "behind": "", "paper": "", "value": "", "best": False, "runs": []}  # a cell


def sentence(plan: Plan) -> str:
    """What was run, on what: '2 methods on MVTec-AD (screw): networks transformer and cnn; one seed; recipe “fast”'."""
    methods = len({experiment for _, experiment in plan.params})
    names = [f"{d.title} ({_few(d.categories, 'categories')})" for d in plan.datasets.values()]
    seeds = f"{len(plan.study.seeds)} seeds" if len(plan.study.seeds) > 1 else "one seed"
    what = f"{methods} method{'s' * (methods > 1)} on {listed(names)}"
    varied = "; ".join(_varied(plan))
    what += f": {varied}" if varied else ""
    return f"{what}; {seeds}; recipe “{plan.study.recipe}”."


def _varied(plan: Plan) -> list[str]:
    """Of ours, in what those of a data set differ: 'networks transformer and cnn', '4 backbones'."""
    found = dict[str, list[str]]()
    for dataset, names in plan.study.datasets.items():
        ours = [params for e in names if (params := plan.params[dataset, e]).method in OURS]
        values: dict[str, list[str]] = {
            "sizes": [f"{params.features.image_size} px" for params in ours],
            "grids": [f"{params.features.grid_size}x{params.features.grid_size}" for params in ours],
            "backbones": [params.features.backbone for params in ours],
            "networks": [params.model.variant for params in ours],
            "features": ["standardised" if params.model.standardize else "as they are" for params in ours],
            "distances": [_distance(params) for params in ours],
        }
        for what, varied in values.items():
            if len(set(varied)) > 1:
                found[what] = list(dict.fromkeys([*found.get(what, []), *varied]))
    return [f"{what} " * (len(names) <= FEW) + _few(names, what) for what, names in found.items()]


def _distance(params: Params) -> str:
    of = params.residual
    return "l2" if params.method != "residual" else of.distance + " in equal scale" * of.equal_scale


def answers(plan: Plan, summary: pd.DataFrame) -> list[str]:
    """Of each data set, who is ahead by its first metric, and who is next or not distinguishable from that."""
    lines = []
    for dataset in plan.datasets:
        means = _means(plan, summary, dataset, "image_auroc").dropna(subset="mean")
        if means.empty:
            lines.append(f"{plan.datasets[dataset].title}: no mean is defined; the reasons stand below.")
            continue
        best = means.loc[means["mean"].idxmax()]
        where = plan.datasets[dataset].title
        text = f"{plan.titles[best.name]} has the highest image AUROC on {where}: {best['mean']:.1f} %"
        text += "" if pd.isna(best.low) else f" (95 % interval {best.low:.1f} to {best.high:.1f})"
        same = means["mean"].round(1) == round(best["mean"], 1)
        level = [plan.titles[e] for e in means.index[means.best | same] if e != best.name]
        if level:
            text += f"; not distinguishable from it: {_few(level, 'others')}"
        elif len(means) > 1:
            near = means.drop(best.name)["mean"].idxmax()
            _, low, high = means.loc[near, BEHIND]
            text += f"; next is {plan.titles[near]}, {best['mean'] - means.loc[near, 'mean']:.1f} points behind"
            text += "" if pd.isna(low) else f" (95 % interval of the difference {low:.1f} to {high:.1f})"
        lines.append(f"{text}.")
    return lines


def data(plan: Plan, datasets: list[Row]) -> list[str]:
    """Of each data set, how many images were trained and tested on, and what its definition says to know of it.

    Args:
        datasets: their sections of the report, with the images of each category.
    """
    lines = []
    for section in datasets:
        trained = sum(of["trained"] for of in section["categories"])
        normal, anomalous = (sum(of["counts"][label] for of in section["categories"]) for label in (0, 1))
        tested = f"{normal:,} normal and {anomalous:,} anomalous" if normal + anomalous else "no"
        text = f"{section['title']}: {trained:,} normal training images, {tested} test images"
        text += " without masks: nothing is measured by pixels" if anomalous and not section["masks"] else ""
        lines.append(f"{text}. {plan.datasets[section['name']].note}".strip())
    return lines


def departing(rows: list[list[str]], recipe: str) -> str:
    """How many parameters are not those of a recipe, if any, the most telling ones with their values.

    Args:
        rows: of `protocol.departures`: parameter, the recipe's value, the value here, and more.
    """
    if not rows:
        return f"This is {recipe}"
    told = [f"{name} {here} (there {there})" for name, there, here, *_ in rows if name in TOLD][: len(TOLD)]
    number = len({name for name, *_ in rows})  # one may have several values here
    count = f"{number} parameters are not those of" if number > 1 else "1 parameter is not that of"
    return f"{count} {recipe}" + (f", among them {', '.join(told)}" if told else "")


def table(plan: Plan, summary: pd.DataFrame, specs: Mapping[str, Any], runs: Runs) -> Row:
    """Means over categories: a method a row (ours, baselines, the paper's others), a metric of a data set a column.

    Rows are in `groups`; a cell has text, interval, behind, paper, value, best and runs, all empty where nothing was
    run. There are neither groups nor columns where no mean is defined, as without anomalous test images.
    """
    columns, cells = list[Row](), dict[str, list[Row]]()
    experiments = [e for dataset in plan.datasets for e in row_order(plan, dataset)]
    experiments = sorted(dict.fromkeys(experiments), key=lambda e: not _is_ours(plan, e))
    others: list[str] = []
    for dataset, metric in study_metrics(plan):
        means = _means(plan, summary, dataset, metric)
        if not means["mean"].notna().any():
            continue
        printed, other = _printed(plan, dataset, metric, specs)
        title = plan.datasets[dataset].title if len(plan.datasets) > 1 else ""
        title = title if len(title) < LONG else dataset  # it may be a sentence
        columns.append({"dataset": title, "metric": METRICS[metric], "paper": bool(printed or other)})
        others.append(other)
        for experiment in experiments:
            was_run, paper = experiment in means.index, {"paper": printed.get(experiment, "")}
            cells.setdefault(experiment, []).append(_cell(means.loc[experiment], runs) | paper if was_run else EMPTY)
    rows = {e: {"name": plan.titles[e], "cells": cells[e]} for e in cells}
    groups = [[rows[e] for e in rows if _is_ours(plan, e) is ours] for ours in (True, False)]
    if any(others):
        groups.append([{"name": OTHER, "cells": [EMPTY | {"paper": other} for other in others]}])
    names = [f"{d.title}: mean over {_few(d.categories, 'categories')}" for d in plan.datasets.values()]
    return {
        "title": "Methods and metrics",
        "columns": columns,
        "groups": [*filter(None, groups)],
        "note": "; ".join([*names, BRACKETS]) if columns else "",
    }


def gaps(opening: Row) -> Sheet | None:
    """How far each method of the table is behind the best of a column; None if none is."""
    names = ["points", *(head(column) for column in opening["columns"])]
    rows = [row for group in opening["groups"] for row in group if row["name"] != OTHER]
    lines = [[row["name"], *(cell["behind"] for cell in row["cells"])] for row in rows]
    known = any(text not in ("", DASH) for _, *texts in lines for text in texts)
    return Sheet("How far behind the best", pd.DataFrame(lines, columns=names), [PAIRED]) if known else None


def head(column: Row) -> str:
    """The head of a column: its metric, with the data set where there are several."""
    return ": ".join(filter(None, [column["dataset"], column["metric"]]))


def _few(names: list[str], what: str) -> str:
    return listed(names) if len(names) <= FEW else f"{len(names)} {what}"


def _is_ours(plan: Plan, experiment: str) -> bool:
    return any(params.method in OURS for (_, e), params in plan.params.items() if e == experiment)


def _means(plan: Plan, summary: pd.DataFrame, dataset: str, metric: str) -> pd.DataFrame:
    """The rows of the means over a data set's categories, by experiment."""
    chosen = (summary.dataset == dataset) & (summary.metric == metric) & (summary.category == MEAN)
    means = summary[chosen].set_index("experiment").reindex(row_order(plan, dataset))
    return means.assign(best=means.best.eq(True))


def _cell(mean: pd.Series, runs: Runs) -> Row:
    undefined, (gap, low, high) = pd.isna(mean["mean"]), mean[BEHIND]
    behind = f"{gap:.1f}" if pd.isna(low) else f"{gap:.1f} {interval(low, high)}"
    return {
        "text": DASH if undefined else f"{mean['mean']:.1f}",
        "interval": "" if undefined or pd.isna(mean.low) else interval(mean.low, mean.high),
        "behind": DASH if pd.isna(gap) or gap == 0 else behind,
        "value": "" if undefined else mean["mean"],
        "best": bool(mean.best),
        "runs": [] if undefined else runs_of(mean.provenance, runs),
    }


def _printed(plan: Plan, dataset: str, metric: str, specs: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The paper's values of our experiments, means over the categories that were run; the best of its other methods.

    Those of ablations are means over all of the paper's categories, so they stand only where all were run.
    """
    here, printed, other = plan.datasets[dataset].categories, dict[str, str](), ""
    alike = [spec for spec in specs.values() if spec["benchmark"] == plan.datasets[dataset].benchmark]
    for spec in (spec for spec in alike if spec["metric"] == metric):
        paper = spec["paper"].assign(value=spec["paper"].value.astype(float))
        if "parts" in spec:
            values = paper.drop_duplicates("variant").set_index("variant").value
            found = values.to_dict() if len(here) == spec["categories"] else {}
        else:
            values = paper.pivot(index="method", columns="category", values="value").reindex(columns=here)
            means = values.mean(axis=1, skipna=False).dropna()
            names = {**spec.get("further", {}), **spec["ours"]}
            found = {names[method]: value for method, value in means.items() if method in names}
            rest = means[[method not in spec["ours"] for method in means.index]]
            other = f"{rest.max():.1f} ({rest.idxmax()})" if len(rest) else ""
        printed |= {e: f"{value:.1f}" for e, value in found.items() if e not in printed}
    return printed, other
