"""What tables say, in sentences computed from their cells: nothing here is written by hand for a result."""

import itertools
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from adtr.config.study import Plan
from adtr.evaluate.bootstrap import REFERENCE, auroc_error
from adtr.tables.paper import listed
from adtr.tables.summary import MEAN, METRICS

LEVEL = 0.05  # points; means nearer than that are called level
CHANCE = 50  # AUROC in per cent of scores that know nothing


def sentences(table: pd.DataFrame, metric: str, reference: str) -> list[str]:
    """What a table says of the experiments beside `reference`, widest gap first, and which are worse than chance."""
    rows = {str(row): cells.set_index("column") for row, cells in table.groupby("row", sort=False)}
    gaps = {name: rows[name]["mean"] - rows[reference]["mean"] for name in rows if name != reference}
    undefined = [name for name, gap in gaps.items() if math.isnan(gap[MEAN])]
    ordered = sorted(gaps.keys() - undefined, key=lambda name: -abs(gaps[name][MEAN]))
    sides: dict[str, list[str]] = {}
    for name in ordered:
        gap = gaps[name][MEAN]
        side = "Level with" if abs(gap) < LEVEL else "Ahead of" if gap > 0 else "Behind"
        within = abs(gap) <= max(rows[name].sd[MEAN], rows[reference].sd[MEAN])
        sides.setdefault(side, []).append(_told(name, gaps[name], within and side != "Level with"))
    found = [
        f"{side} {reference}: {'; '.join(sides[side])}."
        for side in ("Ahead of", "Level with", "Behind")
        if side in sides
    ]
    if undefined:
        missing = [name for name in (*undefined, reference) if math.isnan(rows[name]["mean"][MEAN])]
        found.append(f"Not compared with {reference}: {listed(undefined)}. The mean of {listed(missing)} is undefined.")
    return found + _worse_than_chance({name: cells["mean"][MEAN] for name, cells in rows.items()}, metric)


def _told(name: str, gaps: pd.Series, within: bool) -> str:
    """'PaDiM by 1.0 (ahead in 2, level in 1)': how far, and in how many categories where there are several."""
    each = gaps.drop(MEAN)
    ahead, behind = (each >= LEVEL).sum(), (each <= -LEVEL).sum()
    counts = {"ahead": ahead, "level": len(each) - ahead - behind, "behind": behind}
    remarks = [f"{side} in {count}" for side, count in counts.items() if count and len(each) > 1]
    remarks += ["no more than the spread over the seeds"] if within else []
    gap = f" by {abs(gaps[MEAN]):.1f}" if abs(gaps[MEAN]) >= LEVEL else ""
    return f"{name}{gap}" + (f" ({', '.join(remarks)})" if remarks else "")


def _worse_than_chance(means: Mapping[str, float], metric: str) -> list[str]:
    below = [f"{name} {mean:.1f}" for name, mean in means.items() if mean < CHANCE]
    if "AUROC" not in metric or not below:
        return []
    return [f"Below {CHANCE}, no better than scores that know nothing: {listed(below)}."]


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
        f"{error:.1f} points (Hanley & McNeil 1982). A gap between experiments, on the same images, is surer; "
        "one of a fraction of that tells nothing."
    ]


def undefined(metrics: pd.DataFrame, plan: Plan) -> list[str]:
    """What of a metric could not be measured, and why."""
    if metrics.empty:
        return ["Not measured: the data set has no masks."]
    found = metrics[metrics.note != ""].groupby(["experiment", "category", "note"], sort=False)
    return [f"{plan.titles[e]}, {c}, seed {listed(rows.seed)}: {note}." for (e, c, note), rows in found]


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
    found, verdicts = [], []
    for part, title in parts.items():
        rows = means[means.index.str.startswith(f"({part}) ")].dropna(subset=["paper", "ours"])
        if len(rows) > 1:
            rows.index = rows.index.str.removeprefix(f"({part}) ")
            verdicts.append(_agrees(rows))
            word = "the same order" if verdicts[-1] else "another order"
            found.append(f"({part}) {title}: {word}. Paper: {_order(rows.paper)}. Ours: {_order(rows.ours)}.")
    if not verdicts:
        return None, []
    wrong = len(verdicts) - sum(verdicts)
    same = f"The variants rank as in the paper in each part of Table 4 that can be compared ({len(verdicts)})."
    other = f"The variants do not rank as in the paper in {wrong} of the {len(verdicts)} parts of Table 4 that can be "
    return not wrong, [other + "compared." if wrong else same, *found]


def _agrees(rows: pd.DataFrame) -> bool:
    """Whether every two variants that differ in the paper differ in the same direction here."""
    pairs = itertools.combinations(rows.itertuples(), 2)
    return all((a.paper - b.paper) * (a.ours - b.ours) > 0 for a, b in pairs if a.paper != b.paper)


def _order(means: pd.Series) -> str:
    """'A 97.2 > B 95.0 = C 95.0', equal where they print alike."""
    ranked = means.sort_values(ascending=False, kind="stable")
    texts = [f"{value:.1f}" for value in ranked]
    signs = ["", *(" = " if a == b else " > " for a, b in itertools.pairwise(texts))]
    return "".join(f"{sign}{name} {text}" for sign, name, text in zip(signs, ranked.index, texts, strict=True))


def certain(plan: Plan, comparison: pd.DataFrame) -> list[str]:
    """Of each data set and metric, which experiments an interval that leaves out 0 sets apart from the reference."""
    found = []
    for (dataset, metric), rows in comparison.groupby(["dataset", "metric"], sort=False):
        place = f"{METRICS[metric]} on {plan.datasets[dataset].title}"
        known = rows.dropna(subset=["low", "high"])
        sides = {
            "ahead of": known[known.low > 0],
            "behind": known[known.high < 0],
            "not told apart from": known[(known.low <= 0) & (known.high >= 0)],
            "without an interval against": rows.drop(known.index),
        }
        names = {how: listed(plan.titles[e] for e in side.experiment) for how, side in sides.items() if len(side)}
        told = [f"{how} {plan.titles[REFERENCE]}: {name}" for how, name in names.items()]
        found.append(f"By {place}, {'; '.join(told)}.")
    return found
