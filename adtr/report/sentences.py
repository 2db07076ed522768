"""Sentences on tables, computed from their cells: nothing here is written by hand for a result."""

import itertools
import math
from collections.abc import Mapping

import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.records import Record
from adtr.tables.render import listed, signed
from adtr.tables.summary import MEAN, METRICS

WORST = 3  # kinds of defect that are named
LEVEL = 0.05  # points; categories nearer than that are called level
CHANCE = 50  # AUROC in per cent of random scores


def sentences(table: pd.DataFrame, metric: str, reference: str, compared: pd.DataFrame) -> list[str]:
    """Which experiments are ahead of `reference` or behind, widest gap first; which gaps are not resolved; and chance.

    Args:
        compared: rows of the comparison with `reference`, by the experiment's title.
    """
    rows = {str(row): cells.set_index("column") for row, cells in table.groupby("row", sort=False)}
    gaps = {name: rows[name]["mean"] - rows[reference]["mean"] for name in rows if name != reference}
    undefined = [name for name, gap in gaps.items() if math.isnan(gap[MEAN])]
    sides: dict[str, list[str]] = {f"Ahead of {reference}": [], f"Behind {reference}": [], "Not resolved": []}
    for name in sorted([name for name in gaps if name not in undefined], key=lambda name: -abs(gaps[name][MEAN])):
        ahead, behind, unresolved = sides.values()
        side = unresolved if not compared.resolved[name] else ahead if gaps[name][MEAN] > 0 else behind
        side.append(_gap(name, gaps[name], compared.loc[name], side is unresolved))
    lines = [f"{side}: {'; '.join(texts)}." for side, texts in sides.items() if texts]
    if undefined:
        missing = [name for name in (*undefined, reference) if math.isnan(rows[name]["mean"][MEAN])]
        lines.append(f"Not compared with {reference}: {listed(undefined)}. The mean of {listed(missing)} is undefined.")
    whole = {name: row.loc[MEAN] for name, row in rows.items()}  # where all is wrong there is no interval
    below = [f"{name} {of['mean']:.1f}" for name, of in whole.items() if of.high < CHANCE or of["mean"] == 0]
    return lines + [f"Below {CHANCE}, worse than random scores: {listed(below)}."] * ("AUROC" in metric and bool(below))


def _gap(name: str, gaps: pd.Series, compared: pd.Series, unresolved: bool) -> str:
    """'PaDiM by 1.0 (95 % interval 0.2 to 1.8; ahead in 2, level in 1)'; an unresolved gap and its ends have signs."""
    each = gaps.drop(MEAN)
    ahead, behind = (each >= LEVEL).sum(), (each <= -LEVEL).sum()
    counts = {"ahead": ahead, "level": len(each) - ahead - behind, "behind": behind}
    tally = ", ".join(f"{side} in {count}" for side, count in counts.items() if count and len(each) > 1)
    if unresolved:
        gap, ends = signed(compared.difference), [signed(compared.low), signed(compared.high)]
    else:
        ends = [f"{end:.1f}" for end in sorted([abs(compared.low), abs(compared.high)])]
        gap = f"by {abs(compared.difference):.1f}"
    interval = "no interval" if math.isnan(compared.low) else f"95 % interval {ends[0]} to {ends[1]}"
    within = "no more than the spread over the seeds" if abs(compared.difference) <= compared.sd else ""
    return f"{name} {gap} ({'; '.join(filter(None, [interval, tally, within]))})"


def undefined(metrics: pd.DataFrame, plan: Plan) -> list[str]:
    """The runs whose metric could not be measured, or not on all images, and why; alike experiments in one line."""
    if metrics.empty:
        return ["Not measured: the data set has no masks."]
    groups = metrics[metrics.note != ""].groupby(["experiment", "category", "note"], sort=False).seed.agg(listed)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for (experiment, category, note), seeds in groups.items():
        alike.setdefault((category, seeds, note), []).append(plan.titles[experiment])
    return [f"{listed(titles)} ({c}, seed {seeds}): {note}." for (c, seeds, note), titles in alike.items()]


def settled(paths: Paths, summary: pd.DataFrame) -> list[str]:
    """Of each data set with snapshots, how much the image AUROC still changed from the last but one to the end.

    Args:
        summary: as of `uncertainty.with_intervals`.
    """
    plan, lines, metric = paths.plan, [], "image_auroc"
    means = summary[(summary.category == MEAN) & (summary.metric == metric)].set_index(["dataset", "experiment"])
    for dataset, definition in plan.datasets.items():
        texts, moving = [], []
        for experiment in plan.study.datasets[dataset]:
            params = plan.params[dataset, experiment]
            if not (params.trains and params.train.snapshots):
                continue
            folders = (paths.run(run) for run in plan.runs() if run[:2] == (dataset, experiment))
            curves = pd.concat([Record(folder / "evaluation.json").table("curve.csv") for folder in folders])
            values = curves[curves.metric == metric].groupby("epoch").value.mean().dropna()
            half = (means.high[dataset, experiment] - means.low[dataset, experiment]) / 2
            if len(values) < 2 or math.isnan(half):
                continue
            (before, last), gain = values.index[-2:], values.iloc[-1] - values.iloc[-2]
            title = plan.titles[experiment]
            texts.append(f"{title} {signed(gain)} (epochs {before} to {last}; interval ± {half:.1f})")
            moving += [title] if abs(gain) > half else []
        verdict = f"{listed(moving)}: training had not settled" if moving else "none: whether it has is not known"
        text = f"{METRICS[metric]} on {definition.title} between the last two measurements, in points: "
        text += f"{'; '.join(texts)}. It changed by more than the 95 % interval (not paired) for {verdict}."
        lines += [text[0].upper() + text[1:]] * bool(texts)
    return lines


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


def missed(plan: Plan, defects: pd.DataFrame, dataset: str) -> list[str]:
    """The kinds of defect that a data set's first experiment tells from normal images worst, and the others on these.

    Args:
        defects: as of `defects.by_defect`.
    """
    rows = defects[defects.dataset == dataset].dropna(subset="image_auroc")
    first = plan.study.datasets[dataset][0]
    worst = rows[(rows.experiment == first) & (rows.image_auroc < 100 - LEVEL)]
    texts = []
    for row in worst.sort_values("image_auroc", kind="stable")[:WORST].itertuples():
        alike = rows[(rows.category == row.category) & (rows.defect == row.defect)]
        best = alike.loc[alike.image_auroc.idxmax()]
        others = f"best: {plan.titles[best.experiment]} {best.image_auroc:.1f}"
        others = "no other does better" if best.experiment == first else others
        told = [f"{row.images} image{'s' * (row.images > 1)}", *[others] * (len(alike) > 1)]
        texts.append(f"{row.defect} of {row.category} {row.image_auroc:.1f} ({'; '.join(told)})")
    return [f"What {plan.titles[first]} misses most, by image AUROC: {'; '.join(texts)}."] if texts else []
