"""How sure a metric is, and the gap between two experiments: the bootstrap over test images, models held fixed.

The normal and the anomalous test images of a category are two samples of what a user might have photographed. Each is
drawn anew with replacement, one image less than it has (so that the variance has no bias: Rao & Wu, Resampling
Inference with Complex Survey Data, JASA 83, 1988), and with an image come its score, its map and its mask. All
experiments and seeds meet the same draws: their gaps are paired. Categories are what the benchmark is, and are not
drawn.

Intervals are normal on the scale of the logit, with the draws' deviation and Student's quantile: a percentile
interval of an AUROC of 0.98 and 41 normal images holds the truth in 89 cases of 100. docs/protocol.md, "Uncertainty".

Shapes: D draws; N images, Q of them normal and P anomalous; T thresholds.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from adtr.evaluate.pixels import Counts

REFERENCE = "adtr"  # the experiment that the others are compared with
DRAWS, SEED, LEVEL = 1000, 0, 0.95
SAME = 1e-3  # points; draws nearer than that differ by the rounding of their weights
ANGLES = np.linspace(0, 2 * np.pi, 1441)
KEYS = ["dataset", "metric", "experiment", "category", "seed"]
COLUMNS = ["dataset", "metric", "experiment", "reference", "difference", "low", "high", "resolved", "freedom", "sd"]
COLUMNS += ["categories", "pairs", "wins", "ties", "losses"]
Array = NDArray[np.floating]


class Draws(NamedTuple):
    """What the resampled images of a study give.

    Attributes:
        values: per cent, a row a run and metric (index KEYS), a column a draw.
        images: how many normal and anomalous images are drawn from (columns), by data set, metric and category (index).
            Of pixels an anomalous image counts if it has a region.
    """

    values: pd.DataFrame
    images: pd.DataFrame


class Interval(NamedTuple):
    """The ends of a 95 % interval, NaN where there is none."""

    low: float
    high: float


def weights(images: pd.DataFrame) -> pd.DataFrame:
    """(N, D) How often each image is drawn, 1 on average: a row an image, by name; always the same.

    An image belongs to one sample: that of the category where it is normal, else that of the anomalous images of the
    first category that has it. So the classes of CIFAR-10, which share test images, share their draws. A sample of one
    image has no draws: NaN.

    Args:
        images: of all categories of a data set: columns category, image, label.
    """
    owned = images.sort_values("label", kind="stable").drop_duplicates("image")
    drawn = []
    for (category, label), names in owned.groupby(["category", "label"], sort=False).image:
        rng, n = np.random.default_rng([SEED, label, *str(category).encode()]), len(names)
        times = rng.multinomial(n - 1, np.full(n, 1 / n), size=DRAWS) if n > 1 else np.full((DRAWS, 1), np.nan)
        drawn.append(pd.DataFrame(np.ascontiguousarray(times.T) * (n / max(n - 1, 1)), names))
    return pd.concat(drawn or [pd.DataFrame(columns=range(DRAWS))]).astype(np.float32)


def auroc(normal: Array, anomalous: Array, normal_weights: Array, anomalous_weights: Array) -> Array:
    """(D,) The AUROC of scores (Q,) and (P,) for weights (Q, D) and (P, D) of their images; exact, ties included."""
    order = np.argsort(normal)
    reached = np.pad(np.cumsum(normal_weights[order], axis=0), ((1, 0), (0, 0)))
    less, at_most = (np.searchsorted(normal[order], anomalous, side=side) for side in ("left", "right"))
    below = reached[less] if (less == at_most).all() else (reached[less] + reached[at_most]) / 2
    won = np.einsum("pd,pd->d", below, anomalous_weights, dtype=float)
    return np.asarray(won / (reached[-1].astype(float) * anomalous_weights.sum(axis=0)))


def pixel_auroc(counts: Counts, weights: Array) -> Array:
    """(D,) The AUROC of pixels for weights (N, D) of their images, by the trapezoid rule between thresholds."""
    normal = counts.normal.T.astype(float) @ weights
    anomalous = counts.region.T.astype(float) @ weights[counts.image]
    won = ((np.cumsum(normal, axis=0) - normal / 2) * anomalous).sum(axis=0)
    return np.asarray(won / (normal.sum(axis=0) * anomalous.sum(axis=0)))


def aupro(counts: Counts, weights: Array, limit: float) -> Array:
    """(D,) The AUPRO up to a false-positive rate `limit` for weights (N, D) of the images, by the trapezoid rule."""
    shares = counts.region / counts.region.sum(axis=1, keepdims=True)
    curves = []
    for drawn in (counts.normal.T.astype(float) @ weights, shares.T @ weights[counts.image]):
        curve = np.pad(np.cumsum(drawn[::-1], axis=0), ((1, 0), (0, 0)))
        curves.append(curve / curve[-1])
    fpr, overlap = curves
    run, rise = np.diff(fpr, axis=0), np.diff(overlap, axis=0)
    reached = np.clip(limit - fpr[:-1], 0, run)  # of each step, what lies below the limit
    slope = np.divide(rise, run, out=np.zeros_like(run), where=run > 0)
    return np.asarray(((overlap[:-1] + slope * reached / 2) * reached).sum(axis=0) / limit)


def interval(value: float, draws: Array, freedom: float) -> Interval:
    """The interval of a metric: normal on the scale of its logit; NaN where no draw differs, as where all is separated.

    Args:
        value: measured on all images, in per cent.
        draws: (D,), in per cent.
        freedom: degrees of freedom of Student's quantile.
    """
    half = _half(value, draws, freedom)
    if not half > 0:
        return Interval(math.nan, math.nan)
    low, high = special.expit(special.logit(value / 100) + np.array([-half, half])) * 100
    return Interval(float(low), float(high))


def difference(values: tuple[float, float], draws: tuple[Array, Array], freedom: float) -> Interval:
    """The interval of the first metric less the second, paired: NaN where no draw of either differs.

    The logits of both are normal, with the correlation of their draws. The interval goes from the least to the largest
    gap on the ellipse that is a single metric's interval in any direction (a profile likelihood: Venzon & Moolgavkar,
    Applied Statistics 37, 1988). Where one of them does not vary, as what separates all images, its own error is not
    known: then 0 is not left out if as many draws have no gap as may lie on one side. Arguments as of `interval`.
    """
    halves = [_half(value, each, freedom) for value, each in zip(values, draws, strict=True)]
    if any(map(math.isnan, halves)) or max(halves) == 0:
        return Interval(math.nan, math.nan)
    rho = float(np.clip(np.corrcoef(*draws)[0, 1], -1, 1)) if min(halves) > 0 else 0.0
    across = np.cos(ANGLES), rho * np.cos(ANGLES) + math.sqrt(1 - rho**2) * np.sin(ANGLES)
    logits = [special.logit(value / 100) for value in values]
    first, second = (special.expit(x + h * a) for x, h, a in zip(logits, halves, across, strict=True))
    low, high = float((first - second).min()) * 100, float((first - second).max()) * 100
    if min(halves) == 0 and (np.abs(draws[0] - draws[1]) < SAME).mean() >= (1 - LEVEL) / 2:
        return Interval(min(low, 0.0), max(high, 0.0))
    return Interval(low, high)


def _half(value: float, draws: Array, freedom: float) -> float:
    """Half of the interval's length on the scale of the logit; 0 where no draw differs, NaN where some are missing."""
    if math.isnan(value) or np.isnan(draws).any():
        return math.nan
    if not 0 < value < 100 or np.ptp(draws) == 0:
        return 0.0
    share = value / 100
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    return quantile * float(np.std(draws, ddof=1)) / 100 / (share * (1 - share))


def freedom(draws: Draws, dataset: str, metric: str, categories: Iterable[str]) -> float:
    """The degrees of freedom of a mean over categories: the sum of those of each one's smaller class with images."""
    images = draws.images.loc[dataset, metric]
    smaller = images.where(images > 0).min(axis=1).fillna(0)  # without test images there is nothing to draw
    return float(sum(max(int(smaller[category]) - 1, 1) for category in categories))


def reference_of(experiments: list[str]) -> str:
    """The experiment that the others on a data set are compared with: ADTR, or the first."""
    return REFERENCE if REFERENCE in experiments else experiments[0]


def compare(metrics: pd.DataFrame, draws: Draws, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Each experiment against its data set's reference, by (data set, metric) of `pairs`: COLUMNS.

    The difference is that of means over categories of means over seeds, of what both have: a category and a seed are a
    pair. It is resolved if its interval leaves out 0. `sd` is its standard deviation over the seeds, NaN of one.

    Args:
        metrics: tidy, in per cent.
    """
    rows = []
    for dataset, metric in pairs:
        chosen = metrics[(metrics.dataset == dataset) & (metrics.metric == metric)]
        names = list(dict.fromkeys(chosen.experiment))
        reference = reference_of(names) if names else ""
        values = {name: of.set_index(["category", "seed"])[["value"]] for name, of in chosen.groupby("experiment")}
        for experiment in (name for name in names if name != reference):
            both = _paired(values[experiment], values[reference])
            gaps = (both[0] - both[1]).value.dropna()
            by_category, by_seed = gaps.groupby(level="category"), gaps.groupby(level="seed").mean()
            low, high, degrees = math.nan, math.nan, math.nan
            if len(gaps):
                means = [_mean(of.loc[gaps.index]) for of in both]
                drawn = [draws.values.loc[dataset, metric, name] for name in (experiment, reference)]
                drawn = [_mean(of.loc[gaps.index]) for of in _paired(*drawn)]
                degrees = freedom(draws, dataset, metric, by_category.groups)
                low, high = difference((means[0].item(), means[1].item()), (drawn[0], drawn[1]), degrees)
            tally = [by_category.ngroups, len(gaps), (gaps > 0).sum(), (gaps == 0).sum(), (gaps < 0).sum()]
            found = by_category.mean().mean(), low, high, low > 0 or high < 0, degrees, by_seed.std()
            rows.append((dataset, metric, experiment, reference, *found, *tally))
    return pd.DataFrame(rows, columns=COLUMNS)


def _paired(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of two experiments by category and seed; those of a single seed stand beside every seed of the other."""
    index = one.index.union(other.index)
    tables = []
    for table in (one, other):
        names = table.index.get_level_values("category")
        if names.is_unique:
            table = table.set_axis(names).reindex(index.get_level_values("category")).set_axis(index)
        tables.append(table.reindex(index))
    return tables[0], tables[1]


def _mean(rows: pd.DataFrame) -> Array:
    """The mean over categories of the mean over seeds of each column."""
    return np.mean([of.to_numpy().mean(axis=0) for _, of in rows.groupby(level="category")], axis=0)
