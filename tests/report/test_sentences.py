"""Sentences that are computed from tables."""

import pandas as pd
import planted
import pytest

from adtr.config.study import resolve
from adtr.report import sentences


def table(sd: float = 0.0, **means: dict[str, float]) -> pd.DataFrame:
    """A table's cells from the means of each row, with the mean over categories."""
    rows = [
        {"row": row, "column": column, "mean": mean, "sd": sd, "n": 2}
        for row, values in means.items()
        for column, mean in {**values, "mean": sum(values.values()) / len(values)}.items()
    ]
    return pd.DataFrame(rows)


NAN = float("nan")
UNDEFINED = "Not compared with ADTR: PaDiM. The mean of {} is undefined."


@pytest.mark.parametrize(
    ("padim", "adtr", "sd", "said"),
    [
        ({"mono": 93.0, "poly": 88.2}, {"mono": 88.0, "poly": 88.0}, 0.1, "Ahead of ADTR: PaDiM by 2.6 (ahead in 2)."),
        (
            {"mono": 90.0, "poly": 80.0, "thin": 70.0},
            {"mono": 85.0, "poly": 99.0, "thin": 70.01},
            0.1,
            "Behind ADTR: PaDiM by 4.7 (ahead in 1, level in 1, behind in 1).",
        ),
        ({"mono": 97.24}, {"mono": 97.26}, 0.0, "Level with ADTR: PaDiM."),
        ({"a": 91.0}, {"a": 90.0}, 1.0, "Ahead of ADTR: PaDiM by 1.0 (no more than the spread over the seeds)."),
        ({"a": 90.1}, {"a": 90.0}, NAN, "Ahead of ADTR: PaDiM by 0.1."),
        ({"a": 91.0, "b": NAN}, {"a": 90.0, "b": 90.0}, 0.0, UNDEFINED.format("PaDiM")),
        ({"mono": NAN}, {"mono": NAN}, NAN, UNDEFINED.format("PaDiM and ADTR")),
    ],
    ids=["ahead", "behind", "level", "within the spread", "one seed", "one undefined", "both undefined"],
)
def test_a_sentence_says_what_the_numbers_say(
    padim: dict[str, float], adtr: dict[str, float], sd: float, said: str
) -> None:
    assert sentences.sentences(table(sd, ADTR=adtr, PaDiM=padim), "image AUROC", "ADTR") == [said]


def test_the_widest_gap_comes_first_and_level_stands_between() -> None:
    scores = {"ADTR": 90.0, "KDE": 80.0, "PaDiM": 91.0, "SPADE": 95.0, "CNN": 90.01, "PatchCore": 70.0}
    said = sentences.sentences(table(NAN, **{name: {"a": mean} for name, mean in scores.items()}), "AUPRO", "ADTR")
    assert said == [
        "Ahead of ADTR: SPADE by 5.0; PaDiM by 1.0.",
        "Level with ADTR: CNN.",
        "Behind ADTR: PatchCore by 20.0; KDE by 10.0.",
    ]


@pytest.mark.parametrize(("metric", "count"), [("image AUROC", 2), ("AUPRO", 1)])
def test_an_auroc_below_half_is_pointed_out(metric: str, count: int) -> None:
    said = sentences.sentences(table(NAN, ADTR={"a": 50.0}, KDE={"a": 25.5}), metric, "ADTR")
    assert said[1:] == ["Below 50, worse than random scores: KDE 25.5."][: count - 1]


def test_one_experiment_is_compared_with_nothing() -> None:
    assert sentences.sentences(table(ADTR={"a": 90.0}), "AUPRO", "ADTR") == []


def test_the_test_images_leave_a_standard_error() -> None:
    (said,) = sentences.uncertainty("ADTR", [89.3, 89.3], [(58, 51), (58, 51)])
    assert said.startswith(
        "116 normal and 102 anomalous test images leave the mean of ADTR a standard error of 2.3 points"
    )  # 3.2 of one category, over the root of two
    assert sentences.uncertainty("ADTR", [NAN], [(58, 0)]) == []
    assert sentences.uncertainty("ADTR", [100.0], [(58, 51)]) == []


def ablation(**ours: float) -> pd.DataFrame:
    """Cells of Table 4: three variants of part a, of which the paper says 97, 95 and 94, and one of part b."""
    printed = {"(a) Full": 97.0, "(a) Less": 95.0, "(a) Least": 94.0, "(b) Full": 97.0}
    rows = [{"row": row, "column": "paper", "mean": mean} for row, mean in printed.items()]
    means = {row: ours.get(row.split()[-1], NAN) for row in printed}
    return pd.DataFrame(rows + [{"row": row, "column": "ours", "mean": mean} for row, mean in means.items()])


@pytest.mark.parametrize(
    ("ours", "agrees", "said"),
    [
        ({"Full": 80.0, "Less": 70.0, "Least": 60.0}, True, "(a) Part: the same order. Paper: Full 97.0 > "),
        ({"Full": 80.0, "Less": 60.0, "Least": 70.0}, False, "Ours: Full 80.0 > Least 70.0 > Less 60.0."),
        ({"Full": 80.0, "Less": 60.01, "Least": 60.02}, False, "Ours: Full 80.0 > Least 60.0 = Less 60.0."),
        ({"Full": 80.0, "Least": 90.0}, False, "Paper: Full 97.0 > Least 94.0. Ours: Least 90.0 > Full 80.0."),
        ({"Full": 80.0}, None, ""),
    ],
    ids=["same", "two swapped", "nearly level", "one not run", "one alone"],
)
def test_ranks_are_compared_with_the_papers(ours: dict[str, float], agrees: bool | None, said: str) -> None:
    found, lines = sentences.ranking(ablation(**ours), {"a": "Part", "b": "Other"})
    assert found is agrees
    assert said in " ".join(lines)
    assert ("do not rank" in " ".join(lines)) == (agrees is False)


def test_an_interval_without_zero_sets_an_experiment_apart() -> None:
    rows = [("adtr_plus", 0.1, 2.0), ("cnn", -3.0, -0.2), ("pixels", -1.0, 0.0), ("kde", NAN, NAN), ("padim", 1.0, 2.0)]
    table = pd.DataFrame(rows, columns=["experiment", "low", "high"]).assign(dataset="elpv", metric="image_auroc")
    plan = resolve("demo", planted.REPOSITORY / "params")
    assert sentences.certain(plan, table) == [
        "By image AUROC on ELPV (solar cells), ahead of ADTR: ADTR+ and PaDiM; behind ADTR: CNN; "
        "not distinguishable from ADTR: Pixels; without an interval against ADTR: KDE."
    ]
