"""The table that compares the experiments of a study with its reference, pair by pair."""

import numpy as np
import pandas as pd

from adtr.config.study import Plan
from adtr.evaluate.bootstrap import DRAWS, REFERENCE
from adtr.tables.render import DASH, Sheet, signed
from adtr.tables.summary import METRICS

FEW = 5  # categories; with fewer an interval is too short


def sheet(plan: Plan, table: pd.DataFrame) -> Sheet:
    """The comparisons as text."""
    rows = [
        {
            "experiment": plan.titles[row.experiment],
            "data set": plan.datasets[row.dataset].title,
            "metric": METRICS[row.metric],
            "difference": DASH if np.isnan(row.difference) else signed(row.difference),
            "95 % interval": DASH if np.isnan(row.low) else f"[{signed(row.low)}, {signed(row.high)}]",
            "pairs": str(row.pairs),
            "ahead/level/behind": f"{row.wins}/{row.ties}/{row.losses}",
        }
        for row in table.itertuples()
    ]
    columns = ["experiment", "data set", "metric", "difference", "95 % interval", "pairs", "ahead/level/behind"]
    title = f"Each experiment against {plan.titles[REFERENCE]}: paired differences in points"
    return Sheet(title, pd.DataFrame(rows, columns=columns), _notes(plan, table))


def _notes(plan: Plan, table: pd.DataFrame) -> list[str]:
    notes = [
        "A pair is a category and a seed that both experiments have; categories weigh the same. The interval is the "
        f"percentile bootstrap of {DRAWS} draws: categories with replacement, and seeds with replacement within each "
        "drawn category (Efron & Tibshirani 1993; Bouthillier et al., MLSys 2021). It is not corrected for the number "
        "of comparisons."
    ]
    by_size = table.sort_values("pairs", ascending=False).drop_duplicates("dataset").set_index("dataset")
    for dataset, row in by_size.iterrows():
        title = plan.datasets[dataset].title
        if row.pairs == 0:
            notes.append(f"{title}: nothing to compare with.")
        elif row.pairs == 1:
            notes.append(f"{title}: one category and one seed give no interval.")
        elif row.categories == 1:
            notes.append(f"{title}: one category, so that the interval holds the spread over seeds and nothing else.")
        elif row.categories < FEW:
            notes.append(f"{title}: {row.categories} categories are few: the interval is shorter than it should be.")
    if len(plan.study.seeds) == 1 and (table.categories > 1).any():
        notes.append("One seed: the interval holds the spread over categories and nothing else.")
    return notes
