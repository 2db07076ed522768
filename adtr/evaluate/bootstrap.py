"""Paired comparison of experiments: how far apart they are, and how sure that is.

Two experiments are compared on what they share: a category and a seed are a pair. The interval of their difference is
the percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993), over the sources of variance
that a benchmark has (Bouthillier et al., Accounting for Variance in Machine Learning Benchmarks, MLSys 2021).
"""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from adtr.config.study import Plan
from adtr.tables.render import DASH, Sheet, signed
from adtr.tables.summary import METRICS, study_metrics

REFERENCE = "adtr"  # the experiment that the others are compared with
DRAWS, SEED, LEVEL = 10_000, 0, 0.95
COLUMNS = ["dataset", "metric", "experiment", "difference", "low", "high"]
COLUMNS += ["categories", "pairs", "wins", "ties", "losses"]
FEW = 5  # categories; with fewer an interval is too short

Floats = npt.NDArray[np.float64]


def compare(metrics: pd.DataFrame, pairs: Iterable[tuple[str, str]], reference: str = REFERENCE) -> pd.DataFrame:
    """Each experiment against `reference`, by data set and metric; `low` and `high` are the interval's ends.

    Args:
        metrics: the tidy rows of all runs.
        pairs: (data set, metric) of each comparison.
    """
    rows = []
    for dataset, metric in pairs:
        chosen = metrics[(metrics.dataset == dataset) & (metrics.metric == metric)]
        values = _by_seed(chosen)
        for experiment in dict.fromkeys(chosen.experiment):
            if experiment == reference or reference not in values:
                continue
            gaps = (values[experiment] - values[reference]).dropna()
            groups = [group.to_numpy() for _, group in gaps.groupby(level="category", sort=True)]
            low, high = interval(groups)
            mean = float(np.mean([group.mean() for group in groups])) if groups else np.nan
            tally = [len(groups), len(gaps), (gaps > 0).sum(), (gaps == 0).sum(), (gaps < 0).sum()]
            rows.append((dataset, metric, experiment, mean, low, high, *tally))
    return pd.DataFrame(rows, columns=COLUMNS)


def _by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Values by category and seed, an experiment a column; one with a single seed a category counts for all seeds."""
    values = rows.pivot(index=["category", "seed"], columns="experiment", values="value")
    for experiment, count in rows.groupby(["experiment", "category"]).size().groupby("experiment").max().items():
        if count == 1:
            values[experiment] = values[experiment].groupby(level="category").transform("first")
    return values


def interval(groups: list[Floats]) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the mean over categories of the mean over seeds.

    What is resampled: as many categories as there are, with replacement; in each drawn one, independently of the other
    draws, as many seeds as it has, with replacement. So with one category only its seeds are resampled, with one seed
    only the categories. With less than two differences in all there is no interval: both ends are NaN.

    Args:
        groups: of each category the differences, one a seed.
    """
    if sum(map(len, groups)) < 2:
        return np.nan, np.nan
    categories, seeds, used = resamples([len(group) for group in groups])
    table = np.zeros((len(groups), used.shape[2]))
    for row, group in zip(table, groups, strict=True):
        row[: len(group)] = group
    values = np.where(used, table[categories[:, :, None], seeds], 0)
    means = (values.sum(axis=2) / used.sum(axis=2)).mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def auroc_error(auroc: float, normal: int, anomalous: int) -> float:
    """The standard error of an AUROC, as a share of 1, that drawing so many test images leaves.

    Source: Hanley & McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (anomalous - 1) * (q1 - auroc**2) + (normal - 1) * (q2 - auroc**2)
    return math.sqrt(spread / (normal * anomalous))


def resamples(counts: list[int]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The draws of the bootstrap, the same for every comparison of the same shape.

    Args:
        counts: how many seeds each of the K categories has, S at most.

    Returns:
        categories (draws, K); seeds (draws, K, S), the place of each within its category; which of them count
        (draws, K, S): as many as the category has.
    """
    rng, sizes, most = np.random.default_rng(SEED), np.asarray(counts), max(counts)
    categories = rng.integers(len(sizes), size=(DRAWS, len(sizes)))
    drawn = sizes[categories][:, :, None]
    seeds = (rng.random((DRAWS, len(sizes), most)) * drawn).astype(np.intp)
    return categories, seeds, np.arange(most) < drawn


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
    keys = list(zip(table.dataset, table.metric, strict=True))
    breaks = [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]]
    title = f"Each experiment against {plan.titles[REFERENCE]}: paired differences in points"
    return Sheet(title, pd.DataFrame(rows, columns=columns), _notes(plan, table), breaks=breaks)


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


def comparison(plan: Plan, metrics: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of a study, by the main metrics of its data sets."""
    return compare(metrics, study_metrics(plan))
