"""Resampled test images: by hand, by plain resampling, by DeLong's variance, and by simulation."""

import math
from typing import Any

import intervals
import noisy
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from adtr.evaluate import bootstrap, metrics


def images(**counts: tuple[int, int]) -> pd.DataFrame:
    """Of categories with so many normal and anomalous images, each of its own name."""
    rows = [
        (category, f"{category}{label}{i}", label)
        for category, pair in counts.items()
        for label, count in enumerate(pair)
        for i in range(count)
    ]
    return pd.DataFrame(rows, columns=["category", "image", "label"])


# Draws


def test_images_are_drawn_within_normal_and_within_anomalous_ones_of_their_category() -> None:
    pool = images(cat=(5, 8), dog=(4, 3))
    weights = bootstrap.weights(pool).loc[pool.image]
    for _, rows in pool.groupby(["category", "label"]):
        drawn, n = weights.loc[rows.image].to_numpy(), len(rows)
        np.testing.assert_allclose(drawn.sum(axis=0), n, rtol=1e-5)
        times = drawn * (n - 1) / n
        np.testing.assert_allclose(times, times.round(), atol=1e-5)  # n - 1 images were drawn
        assert drawn.mean(axis=1) == pytest.approx(np.ones(n), abs=0.15)


def test_draws_are_the_same_each_time_and_differ_between_categories() -> None:
    pool = images(cat=(9, 9), dog=(9, 9))
    weights = bootstrap.weights(pool)
    pd.testing.assert_frame_equal(weights, bootstrap.weights(pool))
    alone = images(dog=(9, 9))
    pd.testing.assert_frame_equal(weights.loc[alone.image], bootstrap.weights(alone).loc[alone.image])
    assert (weights.filter(like="cat0", axis=0).to_numpy() != weights.filter(like="dog0", axis=0).to_numpy()).any()


def test_an_image_that_several_categories_share_has_one_weight() -> None:
    """As CIFAR-10's: normal in one class, anomalous in the others."""
    shared = pd.DataFrame(
        {"category": ["a"] * 4 + ["b"] * 4, "image": [0, 1, 2, 3] * 2, "label": [0, 0, 1, 1, 1, 1, 0, 0]}
    )
    weights = bootstrap.weights(shared)
    assert sorted(weights.index) == [0, 1, 2, 3]
    assert (weights.loc[[0, 1]].sum() == 2).all()
    assert (weights.loc[[2, 3]].sum() == 2).all()


def test_a_class_of_one_image_has_no_draws() -> None:
    weights = bootstrap.weights(images(cat=(1, 3)))
    assert weights.loc["cat00"].isna().all()
    assert weights.loc["cat10"].notna().all()


@pytest.mark.parametrize("steps", [0, 3])
def test_weights_count_as_copies_of_images(steps: int) -> None:
    rng = np.random.default_rng(1)
    normal, anomalous = rng.normal(size=30), rng.normal(size=50) + 1
    if steps:
        normal, anomalous = np.round(normal * steps) / steps, np.round(anomalous * steps) / steps
    times = [rng.multinomial(n, np.full(n, 1 / n), size=20).T for n in (30, 50)]
    found = bootstrap.auroc(normal, anomalous, times[0].astype(float), times[1].astype(float))
    for draw, value in enumerate(found):
        copies = np.repeat(normal, times[0][:, draw]), np.repeat(anomalous, times[1][:, draw])
        label = np.repeat([False, True], [30, 50])
        assert value == pytest.approx(metrics.auroc(label, np.concatenate(copies)), abs=1e-12)


def delong(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """The variance of an AUROC (DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988, Eq. 4), by its definition."""
    won = (normal[:, None] < anomalous).astype(float) + (normal[:, None] == anomalous) / 2
    return won.mean(axis=1).var(ddof=1) / len(normal) + won.mean(axis=0).var(ddof=1) / len(anomalous)


@pytest.mark.parametrize("counts", [(41, 119), (300, 200), (1000, 1000)])
@pytest.mark.parametrize("auroc", [0.6, 0.9, 0.98])
def test_the_variance_of_the_draws_is_delongs(counts: tuple[int, int], auroc: float) -> None:
    weights = intervals.resampled(counts)
    ratios = []
    for ((normal, anomalous),) in intervals.samples(counts, (auroc,), 0, 20):
        ratios.append(bootstrap.auroc(normal, anomalous, *weights).var(ddof=1) / delong(normal, anomalous))
    assert np.mean(ratios) == pytest.approx(1, abs=0.06)  # 1000 draws know a variance to 4.5 %


# Intervals


def test_an_interval_is_normal_on_the_scale_of_the_logit() -> None:
    draws = 80 + 2 * np.sqrt(999 / 1000) * stats.zscore(np.random.default_rng(0).normal(size=1000), ddof=0)
    low, high = bootstrap.interval(80.0, draws, math.inf)
    half = 1.959964 * 0.02 / (0.8 * 0.2)
    odds = [4 * math.exp(-half), 4 * math.exp(half)]
    assert (low, high) == pytest.approx([100 * each / (1 + each) for each in odds], abs=1e-4)
    wider = bootstrap.interval(80.0, draws, 5)
    assert wider.low < low < high < wider.high


def test_the_interval_of_a_gap_to_a_constant_is_that_of_the_metric() -> None:
    draws = 90 + np.random.default_rng(0).normal(size=1000)
    one = bootstrap.interval(90.0, draws, 40)
    gap = bootstrap.difference((90.0, 100.0), (draws, np.full(1000, 100.0)), 40)
    assert gap == pytest.approx((one.low - 100, one.high - 100), abs=1e-3)


def test_the_interval_of_a_small_gap_is_the_normal_one_and_knows_the_correlation() -> None:
    rng = np.random.default_rng(0)
    shared = 0.2 * rng.normal(size=1000)
    draws = 70 + shared + 0.01 * rng.normal(size=1000), 70.1 + shared + 0.01 * rng.normal(size=1000)
    low, high = bootstrap.difference((70.0, 70.1), draws, math.inf)
    half = 1.959964 * (draws[0] - draws[1]).std(ddof=1)
    assert (low, high) == pytest.approx((-0.1 - half, -0.1 + half), abs=0.002)
    turned = bootstrap.difference((70.1, 70.0), (draws[1], draws[0]), math.inf)
    assert turned == pytest.approx((-high, -low), abs=1e-3)


def test_an_experiment_is_not_resolved_from_itself() -> None:
    draws = 95 + np.random.default_rng(0).normal(size=1000)
    assert bootstrap.difference((95.0, 95.0), (draws, draws), 40) == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize(("lost", "resolved"), [(1, False), (12, True)])
def test_a_gap_to_what_separates_all_images_is_resolved_if_hardly_any_draw_has_none(lost: int, resolved: bool) -> None:
    """Of 20 normal and 63 anomalous images one experiment separates all, the other misses `lost` anomalous ones."""
    weights = intervals.resampled((20, 63))
    normal, anomalous = np.arange(20.0), np.arange(20.0, 83.0)
    missing = np.where(np.arange(63) < lost, 10.5, anomalous)
    values = tuple(intervals.measured(normal, scores) for scores in (anomalous, missing))
    draws = tuple(100 * bootstrap.auroc(normal, scores, *weights) for scores in (anomalous, missing))
    low, high = bootstrap.difference((values[0], values[1]), (draws[0], draws[1]), 19)
    turned = bootstrap.difference((values[1], values[0]), (draws[1], draws[0]), 19)
    assert (low > 0) == resolved
    assert high > values[0] - values[1] > 0
    assert turned == pytest.approx((-high, -low))


@pytest.mark.parametrize("value", [100.0, math.nan])
def test_without_a_draw_that_differs_there_is_no_interval(value: float) -> None:
    flat, missing = np.full(1000, 100.0), np.full(1000, math.nan)
    for draws in (flat, missing):
        assert all(map(math.isnan, bootstrap.interval(value, draws, 40)))
        assert all(map(math.isnan, bootstrap.difference((value, 100.0), (draws, flat), 40)))


@pytest.mark.parametrize("auroc", intervals.SINGLE)
def test_intervals_hold_the_truth_in_95_cases_of_100(auroc: float) -> None:
    """2,000 simulations, and 1,000 + 1,000 images, are in bench/intervals.py; of 600, chance moves 95 % by 0.9."""
    held, *_ = intervals.coverage((41, 119), (auroc,), 0, 600)
    assert 0.925 < held < 0.975


@pytest.mark.parametrize("gap", intervals.GAPS[:4:3])
def test_intervals_of_gaps_hold_the_truth(gap: tuple[float, float, float]) -> None:
    held, *_ = intervals.coverage((41, 119), gap[:2], gap[2], 500)
    assert 0.92 < held < 0.98


# Comparisons


def tidy(values: dict[str, dict[tuple[str, int], float]]) -> pd.DataFrame:
    """Rows of {experiment: {(category, seed): value}}."""
    rows: list[dict[str, Any]] = [
        {"dataset": "d", "experiment": e, "category": c, "seed": s, "metric": "image_auroc", "value": value}
        for e, runs in values.items()
        for (c, s), value in runs.items()
    ]
    return pd.DataFrame(rows)


def compared(values: dict[str, dict[tuple[str, int], float]], sd: float = 0.1) -> Any:
    table = bootstrap.compare(tidy(values), noisy.draws(tidy(values), sd), [("d", "image_auroc")])
    assert len(table) == 1
    return table.iloc[0]


def test_differences_are_of_pairs_and_the_tally_counts_them() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 80.0, ("dog", 0): 70.0, ("dog", 1): 60.0}
    other = {("cat", 0): 91.0, ("cat", 1): 83.0, ("dog", 0): 70.0, ("dog", 1): 58.0}
    found = compared({"adtr": reference, "padim": other})
    assert (found.difference, found.pairs, found.categories, found.freedom) == (0.5, 4, 2, 200)  # of 1, 3, 0, -2
    assert (found.wins, found.ties, found.losses, found.reference) == (2, 1, 1, "adtr")
    assert found.sd == pytest.approx(0)  # 0.5 for either seed


def test_the_spread_over_seeds_is_that_of_the_means_over_categories() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 90.0, ("dog", 0): 90.0, ("dog", 1): 90.0}
    other = {("cat", 0): 91.0, ("cat", 1): 93.0, ("dog", 0): 91.0, ("dog", 1): 91.0}
    assert compared({"adtr": reference, "padim": other}).sd == pytest.approx(math.sqrt(0.5))  # of 1 and 2


def test_a_gap_is_resolved_if_its_interval_leaves_out_0() -> None:
    values = {"adtr": {("cat", 0): 90.0}, "padim": {("cat", 0): 91.0}}
    clear, drowned = compared(values, 0.1), compared(values, 2.0)
    assert clear.resolved
    assert 0 < clear.low < 1 < clear.high
    assert not drowned.resolved
    assert drowned.low < 0 < drowned.high
    assert math.isnan(clear.sd)  # one seed


def test_only_shared_and_defined_pairs_count_and_categories_weigh_the_same() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 90.0, ("dog", 0): 90.0, ("fox", 0): 90.0}
    other = {("cat", 0): 91.0, ("cat", 1): 93.0, ("dog", 0): 98.0, ("dog", 1): 0.0, ("fox", 0): math.nan}
    found = compared({"adtr": reference, "padim": other})
    assert (found.difference, found.pairs, found.categories) == (5.0, 3, 2)  # of 2 (cat) and 8 (dog)
    assert 4 < found.low < 5 < found.high < 6


def test_a_run_of_one_seed_is_paired_with_every_seed_of_the_reference() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 80.0, ("cat", 2): 85.0, ("dog", 0): 70.0, ("dog", 1): 60.0}
    single = {("cat", 0): 85.0, ("dog", 0): 66.0}
    found = compared({"adtr": reference, "spade": single})
    assert (found.pairs, found.categories, found.wins, found.ties, found.losses) == (5, 2, 2, 1, 2)
    assert found.difference == 0.5  # of -5, 5, 0 (cat) and -4, 6 (dog)
    assert 0 < found.low < 0.5 < found.high < 1
    turned = compared({"spade": reference, "adtr": single})
    assert (turned.pairs, turned.difference) == (5, -0.5)


def test_without_adtr_the_first_experiment_is_the_reference() -> None:
    found = compared({"padim": {("cat", 0): 90.0}, "spade": {("cat", 0): 80.0}})
    assert (found.experiment, found.reference, found.difference) == ("spade", "padim", -10)


def test_one_experiment_is_compared_with_nothing() -> None:
    table = tidy({"padim": {("cat", 0): 90.0}})
    assert bootstrap.compare(table, noisy.draws(table), [("d", "image_auroc"), ("d", "aupro")]).empty
