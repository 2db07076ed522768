"""The paired comparison: by hand, and by a plain loop over the same draws."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adtr.evaluate import bootstrap as statistics


def metrics(values: dict[str, dict[tuple[str, int], float]], metric: str = "image_auroc") -> pd.DataFrame:
    """Tidy rows of {experiment: {(category, seed): value}}."""
    rows: list[dict[str, Any]] = [
        {"dataset": "d", "experiment": e, "category": c, "seed": s, "metric": metric, "value": value}
        for e, runs in values.items()
        for (c, s), value in runs.items()
    ]
    return pd.DataFrame(rows)


def compared(values: dict[str, dict[tuple[str, int], float]]) -> Any:
    table = statistics.compare(metrics(values), [("d", "image_auroc")])
    assert len(table) == 1
    return table.iloc[0]


def test_differences_are_of_pairs_and_the_tally_counts_them() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 80.0, ("dog", 0): 70.0, ("dog", 1): 60.0}
    other = {("cat", 0): 91.0, ("cat", 1): 83.0, ("dog", 0): 70.0, ("dog", 1): 58.0}
    found = compared({"adtr": reference, "padim": other})
    assert (found.difference, found.pairs, found.categories) == (0.5, 4, 2)  # of 1, 3, 0, -2
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)


def test_only_shared_and_defined_pairs_count_and_categories_weigh_the_same() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 90.0, ("dog", 0): 90.0, ("fox", 0): 90.0}
    other = {("cat", 0): 91.0, ("cat", 1): 93.0, ("dog", 0): 98.0, ("dog", 1): 0.0, ("fox", 0): math.nan}
    found = compared({"adtr": reference, "padim": other})
    assert (found.difference, found.pairs, found.categories) == (5.0, 3, 2)  # of 2 (cat) and 8 (dog)


def test_a_run_of_one_seed_is_paired_with_every_seed_of_the_reference() -> None:
    reference = {("cat", 0): 90.0, ("cat", 1): 80.0, ("cat", 2): 85.0, ("dog", 0): 70.0, ("dog", 1): 60.0}
    single = {("cat", 0): 85.0, ("dog", 0): 66.0}
    found = compared({"adtr": reference, "spade": single})
    assert (found.pairs, found.categories, found.wins, found.ties, found.losses) == (5, 2, 2, 1, 2)
    assert found.difference == 0.5  # of -5, 5, 0 (cat) and -4, 6 (dog)
    groups = [np.array([-5.0, 5.0, 0.0]), np.array([-4.0, 6.0])]
    assert (found.low, found.high) == statistics.interval(groups)
    turned = compared({"spade": reference, "adtr": single})
    assert (turned.pairs, turned.difference) == (5, -0.5)


def test_equal_differences_leave_no_doubt() -> None:
    groups = [np.full(3, 1.5), np.full(3, 1.5)]
    assert statistics.interval(groups) == (1.5, 1.5)


def test_an_interval_whose_distribution_is_known() -> None:
    """Of one category with seeds 0 and 1 the mean of two draws is 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4."""
    assert statistics.interval([np.array([0.0, 1.0])]) == (0.0, 1.0)
    categories, seeds, used = statistics.resamples([2])
    means = (np.array([0.0, 1.0])[seeds] * used).sum(axis=2)[:, 0] / 2
    assert categories.max() == 0
    shares = [float((means == value).mean()) for value in (0, 0.5, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_an_interval_of_many_categories_is_that_of_the_central_limit() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=400)
    low, high = statistics.interval([np.array([value]) for value in values])
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


@pytest.mark.parametrize("counts", [[3, 3, 3], [1, 3, 2], [1, 1, 1, 1], [4]])
def test_the_interval_equals_a_plain_loop_over_the_same_draws(counts: list[int]) -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=count) for count in counts]
    means = []
    for categories, seeds, used in zip(*statistics.resamples(counts), strict=True):
        drawn = []
        for slot, category in enumerate(categories):
            chosen = [groups[category][seed] for seed, counts_ in zip(seeds[slot], used[slot], strict=True) if counts_]
            assert len(chosen) == counts[category]
            drawn.append(sum(chosen) / len(chosen))
        means.append(sum(drawn) / len(drawn))
    assert statistics.interval(groups) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), rel=1e-12)


def test_draws_are_uniform_and_the_same_each_time() -> None:
    categories, seeds, _ = statistics.resamples([3, 3])
    again = statistics.resamples([3, 3])
    assert categories.shape == (10_000, 2)
    assert seeds.shape == (10_000, 2, 3)
    np.testing.assert_array_equal(seeds, again[1])
    for drawn, size in ((categories, 2), (seeds, 3)):
        shares = np.bincount(drawn.ravel(), minlength=size) / drawn.size
        assert shares == pytest.approx([1 / size] * size, abs=0.02)


def test_seeds_are_drawn_anew_for_a_category_that_is_drawn_twice() -> None:
    categories, seeds, _ = statistics.resamples([3, 3])
    twice = seeds[categories[:, 0] == categories[:, 1]]
    assert (twice[:, 0] != twice[:, 1]).any()


@pytest.mark.parametrize("groups", [[], [np.array([1.0])]])
def test_one_difference_has_no_interval(groups: list[Any]) -> None:
    assert all(math.isnan(end) for end in statistics.interval(groups))


def test_without_the_reference_there_is_nothing_to_compare() -> None:
    assert statistics.compare(metrics({"padim": {("cat", 0): 90.0}}), [("d", "image_auroc")]).empty
