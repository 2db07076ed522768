"""The table of scores that know nothing of defects: how far each gets on each category."""

import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.evaluate.shortcuts import FAR, SCORES, SHIFT
from adtr.records import Record
from adtr.tables.render import DASH, Sheet, signed

NOTES = [
    "Image AUROC in per cent of the score alone: 50 is chance; near 0 it ranks the test images as well as near 100, "
    "the other way round. In brackets how far the normal test images lie from the training images, in standard "
    "deviations of these. Sharpness is the variance of the Laplacian.",
    f"A warning is given from {FAR} on and up to {100 - FAR}, if random scores would hardly get there, and for a shift "
    f"of more than {SHIFT}: what a method gains or loses there may have nothing to do with defects.",
]
FIRST = 3  # that a sentence names


def read(paths: Paths) -> pd.DataFrame:
    """What was measured on each category of a study: dataset, category, and the columns of `shortcuts.measure`.

    Raises:
        UserError: a file is missing or damaged.
    """
    found = []
    for dataset, category in paths.plan.categories():
        path = paths.shortcuts(dataset, category)
        table = Record(path.with_suffix(".json")).table(path.name)
        found.append(pd.concat([pd.DataFrame({"dataset": dataset, "category": category}, table.index), table], axis=1))
    return pd.concat(found, ignore_index=True)


def sheet(plan: Plan, table: pd.DataFrame) -> Sheet:
    """A category a row, a score a column: its AUROC, and the shift in brackets."""
    rows = []
    for (dataset, category), scores in table.groupby(["dataset", "category"], sort=False):
        texts = {of.score: _cell(of.auroc, of.shift) for of in scores.itertuples()}
        rows.append({"category": category, "data set": plan.datasets[str(dataset)].title, **texts})
    text = pd.DataFrame(rows, columns=["category", "data set", *SCORES])
    text = text.drop(columns="data set") if len(plan.datasets) == 1 else text
    return Sheet("Scores that know nothing of defects", text, [*_farthest(table), *NOTES])


def _farthest(table: pd.DataFrame) -> list[str]:
    """A sentence: 'Farthest from chance: file size of mono 83.0 (the other way round).'; none without AUROCs."""
    reached = table.assign(reach=table.auroc.clip(lower=100 - table.auroc)).dropna(subset="reach")
    first = reached.sort_values("reach", ascending=False, kind="stable")[:FIRST]
    texts = [
        f"{of.score} of {of.category} {of.reach:.1f}{' (the other way round)' * (of.auroc < of.reach)}"
        for of in first.itertuples()
    ]
    return [f"Farthest from chance: {', '.join(texts)}."] if texts else []


def _cell(auroc: float, shift: float) -> str:
    bracket = "" if pd.isna(shift) else f" ({signed(shift)})"
    return DASH if pd.isna(auroc) else f"{auroc:.1f}{bracket}"
