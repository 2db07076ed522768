"""The table that compares the experiments of a study with its reference, and what it rests on."""

import pandas as pd

from adtr.config.study import Plan
from adtr.evaluate.bootstrap import DRAWS, REFERENCE
from adtr.tables.render import DASH, INTERVAL, Sheet, interval, listed, signed
from adtr.tables.summary import METRICS
from adtr.tables.uncertainty import SAMPLED

FEW = 19  # degrees of freedom; of fewer an interval may be too short: bench/intervals.py, 10 and 10 images
BASIS = (
    f"{SAMPLED} The normal and the anomalous test images of each category are drawn anew {DRAWS} times with "
    "replacement, the same ones for every experiment and seed, and with them scores, maps and masks. Metrics are "
    "averaged over the seeds, then over the categories, which are not drawn (docs/protocol.md)."
)


def sheet(plan: Plan, table: pd.DataFrame) -> Sheet:
    """The comparisons as text."""
    references = dict.fromkeys(table.reference) if len(table) else [REFERENCE]
    rows = [
        {
            "experiment": plan.titles[row.experiment],
            "data set": plan.datasets[row.dataset].title,
            "metric": METRICS[row.metric],
            "difference": DASH if pd.isna(row.difference) else signed(row.difference),
            INTERVAL: interval(row.low, row.high, "+"),
            "resolved": DASH if pd.isna(row.low) else "yes" if row.resolved else "no",
            "± over seeds": DASH if pd.isna(row.sd) else f"{row.sd:.1f}",
            "ahead/level/behind": f"{row.wins}/{row.ties}/{row.losses}",
        }
        for row in table.itertuples()
    ]
    columns = ["experiment", "data set", "metric", "difference", INTERVAL, "resolved", "± over seeds"]
    title = f"Each experiment against {listed(plan.titles[e] for e in references)}: paired differences in points"
    return Sheet(title, pd.DataFrame(rows, columns=[*columns, "ahead/level/behind"]), _notes(plan, table))


def _notes(plan: Plan, table: pd.DataFrame) -> list[str]:
    notes = [
        f"{BASIS} A difference is resolved if its interval leaves out 0; intervals are not corrected for the number of "
        "comparisons.",
        "± over seeds is the standard deviation of the difference over the seeds, which the interval leaves out. "
        "Ahead, level and behind count pairs: a category and a seed that both experiments have.",
    ]
    compared = table[["dataset", "experiment"]].drop_duplicates().itertuples(index=False)
    if any(len(plan.seeds(*pair)) < len(plan.study.seeds) for pair in compared):
        notes.append("What has no randomness ran once, and makes a pair with each seed of the other.")
    for dataset, rows in table.groupby("dataset", sort=False):
        title = plan.datasets[dataset].title
        if not rows.pairs.any():
            notes.append(f"{title}: nothing to compare with.")
        elif (rows.low.isna() & (rows.pairs > 0)).any():
            reasons = "no drawn image changes a metric, a class has one image, or too few images have a mask"
            notes.append(f"{title}: no interval where {reasons}.")
        if len(some := rows[(rows.categories < len(plan.datasets[dataset].categories)) & (rows.pairs > 0)]):
            names = listed(METRICS[metric] for metric in dict.fromkeys(some.metric))
            notes.append(f"{title}: {names} compared over the categories where both have a value.")
        if (rows.freedom < FEW).any():
            notes.append(f"{title}: there are few test images, so that intervals may be too short.")
    return notes
