"""Sentences on tables, computed from their cells: nothing here is written by hand for a result."""

import itertools
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from adtr.config.study import Plan
from adtr.evaluate.bootstrap import REFERENCE, auroc_error
from adtr.tables.render import listed
from adtr.tables.summary import MEAN, METRICS

LEVEL = 0.05  # points; means nearer than that are called level
CHANCE = 50  # AUROC in per cent of random scores


def sentences(table: pd.DataFrame, metric: str, reference: str) -> list[str]:
    """Which experiments are ahead of `reference`, level or behind, widest gap first; and which are below chance."""
    rows = {str(row): cells.set_index("column") for row, cells in table.groupby("row", sort=False)}
    gaps = {name: rows[name]["mean"] - rows[reference]["mean"] for name in rows if name != reference}
    undefined = [name for name, gap in gaps.items() if math.isnan(gap[MEAN])]
    sides: dict[str, list[str]] = {"Ahead of": [], "Level with": [], "Behind": []}
    for name in sorted([name for name in gaps if name not in undefined], key=lambda name: -abs(gaps[name][MEAN])):
        gap = gaps[name][MEAN]
        side = "Level with" if abs(gap) < LEVEL else "Ahead of" if gap > 0 else "Behind"
        within = abs(gap) <= max(rows[name].sd[MEAN], rows[reference].sd[MEAN])
        sides[side].append(_gap(name, gaps[name], within and side != "Level with"))
    lines = [f"{side} {reference}: {'; '.join(texts)}." for side, texts in sides.items() if texts]
    if undefined:
        missing = [name for name in (*undefined, reference) if math.isnan(rows[name]["mean"][MEAN])]
        lines.append(f"Not compared with {reference}: {listed(undefined)}. The mean of {listed(missing)} is undefined.")
    below = [f"{name} {row['mean'][MEAN]:.1f}" for name, row in rows.items() if row["mean"][MEAN] < CHANCE]
    return lines + [f"Below {CHANCE}, worse than random scores: {listed(below)}."] * ("AUROC" in metric and bool(below))


def _gap(name: str, gaps: pd.Series, within: bool) -> str:
    """'PaDiM by 1.0 (ahead in 2, level in 1)': how far, and in how many categories where there are several."""
    each = gaps.drop(MEAN)
    ahead, behind = (each >= LEVEL).sum(), (each <= -LEVEL).sum()
    counts = {"ahead": ahead, "level": len(each) - ahead - behind, "behind": behind}
    remarks = [f"{side} in {count}" for side, count in counts.items() if count and len(each) > 1]
    remarks += ["no more than the spread over the seeds"] if within else []
    gap = f" by {abs(gaps[MEAN]):.1f}" if abs(gaps[MEAN]) >= LEVEL else ""
    return f"{name}{gap}" + (f" ({', '.join(remarks)})" if remarks else "")


def uncertainty(name: str, aurocs: Sequence[float], images: Sequence[tuple[int, int]]) -> list[str]:
    """How far the choice of test images alone moves the mean image AUROC of an experiment.

    Args:
        aurocs: of each category, in per cent.
        images: of each category, how many normal and anomalous ones.
    """
    if not aurocs or any(math.isnan(auroc) for auroc in aurocs):
        return []
    errors = [auroc_error(auroc / 100, *counts) for auroc, counts in zip(aurocs, images, strict=True)]
    error, normal, anomalous = math.hypot(*errors) / len(errors) * 100, *map(sum, zip(*images, strict=True))
    if error < LEVEL:  # of AUROCs of 100 the formula knows none
        return []
    return [
        f"{normal} normal and {anomalous} anomalous test images leave the mean of {name} a standard error of "
        f"{error:.1f} points (Hanley & McNeil 1982). A gap between experiments, on the same images, is more certain; "
        "one of a fraction of that means nothing."
    ]


def undefined(metrics: pd.DataFrame, plan: Plan) -> list[str]:
    """The runs whose metric could not be measured, and why."""
    if metrics.empty:
        return ["Not measured: the data set has no masks."]
    groups = metrics[metrics.note != ""].groupby(["experiment", "category", "note"], sort=False)
    return [f"{plan.titles[e]}, {c}, seed {listed(rows.seed)}: {note}." for (e, c, note), rows in groups]


def ranking(table: pd.DataFrame, parts: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    """Whether the variants in each part of Table 4 rank as in the paper, and the orders side by side.

    Args:
        table: cells of rows '(a) CNN', columns paper and ours.
        parts: the title of each part by its letter.

    Returns:
        True, False, or None where no part has two variants that were run; a sentence for the whole and one for each
        part.
    """
    means = table.pivot(index="row", columns="column", values="mean").reindex(dict.fromkeys(table.row))
    lines, verdicts = [], []
    for part, title in parts.items():
        rows = means[means.index.str.startswith(f"({part}) ")].dropna(subset=["paper", "ours"])
        if len(rows) > 1:
            rows.index = rows.index.str.removeprefix(f"({part}) ")
            pairs = itertools.combinations(rows.itertuples(), 2)  # that differ in the paper, the same way here
            verdicts.append(all((a.paper - b.paper) * (a.ours - b.ours) > 0 for a, b in pairs if a.paper != b.paper))
            word = "the same order" if verdicts[-1] else "another order"
            lines.append(f"({part}) {title}: {word}. Paper: {_order(rows.paper)}. Ours: {_order(rows.ours)}.")
    if not verdicts:
        return None, []
    wrong = len(verdicts) - sum(verdicts)
    same = f"The variants rank as in the paper in each part of Table 4 that can be compared ({len(verdicts)})."
    other = f"The variants do not rank as in the paper in {wrong} of the {len(verdicts)} parts of Table 4 that can be "
    return not wrong, [other + "compared." if wrong else same, *lines]


def _order(means: pd.Series) -> str:
    """'A 97.2 > B 95.0 = C 95.0', equal where they print alike."""
    ranked = means.sort_values(ascending=False, kind="stable")
    texts = [f"{value:.1f}" for value in ranked]
    signs = ["", *(" = " if a == b else " > " for a, b in itertools.pairwise(texts))]
    return "".join(f"{sign}{name} {text}" for sign, name, text in zip(signs, ranked.index, texts, strict=True))


def certain(plan: Plan, comparison: pd.DataFrame) -> list[str]:
    """Of each data set and metric, which experiments differ from the reference: their interval leaves out 0."""
    lines, reference = [], plan.titles[REFERENCE]
    for (dataset, metric), rows in comparison.groupby(["dataset", "metric"], sort=False):
        defined = rows.dropna(subset=["low", "high"])
        sides = {
            "ahead of": defined[defined.low > 0],
            "behind": defined[defined.high < 0],
            "not distinguishable from": defined[(defined.low <= 0) & (defined.high >= 0)],
            "without an interval against": rows.drop(defined.index),
        }
        texts = [
            f"{side} {reference}: {listed(plan.titles[e] for e in some.experiment)}"
            for side, some in sides.items()
            if len(some)
        ]
        lines.append(f"By {METRICS[metric]} on {plan.datasets[dataset].title}, {'; '.join(texts)}.")
    return lines
