"""What tables say, in sentences computed from their cells: nothing here is written by hand for a result."""

import itertools
import math
from collections.abc import Mapping

import pandas as pd

from adtr.printed import listed
from adtr.statistics import REFERENCE
from adtr.study import Plan
from adtr.summary import MEAN, METRICS

LEVEL = 0.05  # points; means nearer than that are called level


def sentences(table: pd.DataFrame, metric: str, reference: str) -> list[str]:
    """What a table says of each experiment beside `reference`: ahead, behind, level, or not to be compared."""
    rows = {str(row): cells.set_index("column") for row, cells in table.groupby("row", sort=False)}
    return [_compared(name, reference, rows, metric) for name in rows if name != reference]


def _compared(name: str, reference: str, rows: Mapping[str, pd.DataFrame], metric: str) -> str:
    gaps = rows[name]["mean"] - rows[reference]["mean"]
    gap, each = gaps[MEAN], gaps.drop(MEAN)
    if math.isnan(gap):
        missing = listed(row for row in (name, reference) if math.isnan(rows[row]["mean"][MEAN]))
        return f"{name} and {reference} cannot be compared by {metric}: the mean of {missing} is undefined."
    ahead, behind = (each >= LEVEL).sum(), (each <= -LEVEL).sum()
    counts = {"ahead": ahead, "level": len(each) - ahead - behind, "behind": behind}
    tally = ", ".join(f"{side} in {count}" for side, count in counts.items() if count)
    scope = f"mean over {len(each)} categories: {tally}" if len(each) > 1 else f"category {each.index[0]}"
    if abs(gap) < LEVEL:
        return f"{name} is level with {reference} in {metric}, to a tenth of a point ({scope})."
    side = "ahead of" if gap > 0 else "behind"
    within = abs(gap) <= max(rows[name].sd[MEAN], rows[reference].sd[MEAN])
    chance = " That is no more than the spread over the seeds." if within else ""
    return f"{name} is {side} {reference} by {abs(gap):.1f} points of {metric} ({scope}).{chance}"


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
