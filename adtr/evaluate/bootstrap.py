"""Paired comparison of experiments: how far apart they are, and how sure that is.

Two experiments are compared on what they share: a category and a seed are a pair. The interval of their difference is
the percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993), over the sources of variance
that a benchmark has (Bouthillier et al., Accounting for Variance in Machine Learning Benchmarks, MLSys 2021).
"""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

REFERENCE = "adtr"  # the experiment that the others are compared with
DRAWS, SEED, LEVEL = 10_000, 0, 0.95
COLUMNS = ["dataset", "metric", "experiment", "difference", "low", "high"]  # low and high: the interval's ends
COLUMNS += ["categories", "pairs", "wins", "ties", "losses"]


def compare(metrics: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Each experiment against REFERENCE in tidy `metrics`, by (data set, metric) of `pairs`: COLUMNS."""
    rows = []
    for dataset, metric in pairs:
        chosen = metrics[(metrics.dataset == dataset) & (metrics.metric == metric)]
        values = _by_seed(chosen)
        for experiment in dict.fromkeys(chosen.experiment):
            if experiment == REFERENCE or REFERENCE not in values:
                continue
            gaps = (values[experiment] - values[REFERENCE]).dropna()
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


def interval(groups: list[np.ndarray]) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of the mean over categories of the mean over seeds.

    What is resampled: as many categories as there are, with replacement; in each drawn one, independently of the other
    draws, as many seeds as it has, with replacement. So with one category only its seeds are resampled, with one seed
    only the categories. With less than two differences in all there is no interval: both ends are NaN.
    `groups` are the differences of each category, one a seed.
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


def resamples(counts: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The draws of the bootstrap, of K categories that have `counts` seeds, S at most; always the same.

    Returns:
        categories (draws, K); seeds (draws, K, S), the place of each within its category; which of them count
        (draws, K, S): as many as the category has.
    """
    rng, sizes, most = np.random.default_rng(SEED), np.asarray(counts), max(counts)
    categories = rng.integers(len(sizes), size=(DRAWS, len(sizes)))
    drawn = sizes[categories][:, :, None]
    seeds = (rng.random((DRAWS, len(sizes), most)) * drawn).astype(np.intp)
    return categories, seeds, np.arange(most) < drawn
