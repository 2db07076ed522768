"""Sentences that are computed from tables."""

import re
from typing import Any

import pandas as pd
import planted
import pytest

from adtr.config.study import Plan, resolve
from adtr.report import opening, sentences


def table(sd: float = 0.0, **means: dict[str, float]) -> pd.DataFrame:
    """A table's cells from the means of each row, with the mean over categories."""
    rows = [
        {"row": row, "column": column, "mean": mean, "sd": sd, "n": 2, "high": mean + 1}
        for row, values in means.items()
        for column, mean in {**values, "mean": sum(values.values()) / len(values)}.items()
    ]
    return pd.DataFrame(rows)


NAN = float("nan")
DEMO = resolve("demo", planted.REPOSITORY / "params")
UNDEFINED = "Not compared with ADTR: PaDiM. The mean of {} is undefined."


def compared(half: float, sd: float = NAN, **gaps: float) -> pd.DataFrame:
    """Comparisons with ADTR whose intervals reach `half` to either side of the gaps."""
    each = pd.Series(gaps, dtype=float)
    rows = pd.DataFrame({"difference": each, "low": each - half, "high": each + half})
    return rows.assign(resolved=(rows.low > 0) | (rows.high < 0), sd=sd)


@pytest.mark.parametrize(
    ("padim", "adtr", "half", "sd", "said"),
    [
        (
            {"mono": 93.0, "poly": 88.2},
            {"mono": 88.0, "poly": 88.0},
            1.0,
            NAN,
            "Ahead of ADTR: PaDiM by 2.6 (95 % interval 1.6 to 3.6; ahead in 2).",
        ),
        (
            {"mono": 90.0, "poly": 80.0, "thin": 70.0},
            {"mono": 85.0, "poly": 99.0, "thin": 70.01},
            2.0,
            NAN,
            "Behind ADTR: PaDiM by 4.7 (95 % interval 2.7 to 6.7; ahead in 1, level in 1, behind in 1).",
        ),
        ({"a": 92.0}, {"a": 90.0}, 3.0, NAN, "Not resolved: PaDiM +2.0 (95 % interval -1.0 to +5.0)."),
        ({"a": 88.0}, {"a": 90.0}, 2.0, NAN, "Not resolved: PaDiM -2.0 (95 % interval -4.0 to 0.0)."),
        ({"a": 88.0}, {"a": 90.0}, NAN, NAN, "Not resolved: PaDiM -2.0 (no interval)."),
        (
            {"a": 91.0},
            {"a": 90.0},
            0.5,
            1.0,
            "Ahead of ADTR: PaDiM by 1.0 (95 % interval 0.5 to 1.5; no more than the spread over the seeds).",
        ),
        ({"a": 91.0, "b": NAN}, {"a": 90.0, "b": 90.0}, NAN, NAN, UNDEFINED.format("PaDiM")),
        ({"mono": NAN}, {"mono": NAN}, NAN, NAN, UNDEFINED.format("PaDiM and ADTR")),
    ],
    ids=["ahead", "behind", "holds 0", "ends at 0", "no interval", "seeds", "one undefined", "both undefined"],
)
def test_a_sentence_says_what_the_numbers_say(
    padim: dict[str, float], adtr: dict[str, float], half: float, sd: float, said: str
) -> None:
    gap = (sum(padim.values()) - sum(adtr.values())) / len(padim)
    cells = table(ADTR=adtr, PaDiM=padim)
    assert sentences.sentences(cells, "image AUROC", "ADTR", compared(half, sd, PaDiM=gap)) == [said]


def test_the_widest_gap_comes_first() -> None:
    scores = {"ADTR": 90.0, "KDE": 80.0, "PaDiM": 91.0, "SPADE": 95.0, "CNN": 90.01, "PatchCore": 70.0}
    gaps = compared(0.5, **{name: mean - 90 for name, mean in scores.items() if name != "ADTR"})
    cells = table(NAN, **{name: {"a": mean} for name, mean in scores.items()})
    said = sentences.sentences(cells, "AUPRO", "ADTR", gaps)
    names = [re.findall(r"([A-Z]\w+) (?:by|[+-]?\d)", line) for line in said]
    assert names == [["SPADE", "PaDiM"], ["PatchCore", "KDE"], ["CNN"]]
    assert [line.partition(":")[0] for line in said] == ["Ahead of ADTR", "Behind ADTR", "Not resolved"]


@pytest.mark.parametrize(("metric", "count"), [("image AUROC", 2), ("AUPRO", 1)])
def test_an_auroc_below_half_is_pointed_out(metric: str, count: int) -> None:
    cells = table(ADTR={"a": 49.5}, KDE={"a": 25.5})  # intervals end 1 above: ADTR may be random
    said = sentences.sentences(cells, metric, "ADTR", compared(1.0, KDE=-24.0))
    assert said[1:] == ["Below 50, worse than random scores: KDE 25.5."][: count - 1]
    wrong = table(ADTR={"a": 90.0}, KDE={"a": 0.0}).assign(high=NAN)
    said = sentences.sentences(wrong, metric, "ADTR", compared(1.0, KDE=-90.0))
    assert said[1:] == ["Below 50, worse than random scores: KDE 0.0."][: count - 1]


def test_one_experiment_is_compared_with_nothing() -> None:
    assert sentences.sentences(table(ADTR={"a": 90.0}), "AUPRO", "ADTR", compared(1.0)) == []


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


def test_experiments_without_a_metric_for_the_same_reason_share_a_line() -> None:
    rows = [(e, seed, "undefined: why") for e in ("adtr", "padim") for seed in (0, 1)]
    rows += [("cnn", 0, "undefined: why"), ("kde", 0, "over 1 of 2"), ("spade", 0, "")]
    table = pd.DataFrame(rows, columns=["experiment", "seed", "note"]).assign(category="mono")
    assert sentences.undefined(table, DEMO) == [
        "ADTR and PaDiM (mono, seed 0 and 1): undefined: why.",
        "CNN (mono, seed 0): undefined: why.",
        "KDE (mono, seed 0): over 1 of 2.",
    ]


def test_what_is_missed_most_is_named_with_who_does_better(smoke: Plan) -> None:
    rows = [("a", "adtr", 60.0), ("a", "padim", 90.0), ("b", "adtr", 70.0), ("b", "padim", 50.0), ("c", "adtr", 100.0)]
    table = pd.DataFrame(rows, columns=["defect", "experiment", "image_auroc"])
    table = table.assign(dataset="smoke_mvtec", category="screw", images=[1, 1, 5, 5, 9])
    (line,) = sentences.missed(smoke, table, "smoke_mvtec")
    named = "a of screw 60.0 (1 image; best: PaDiM 90.0); b of screw 70.0 (5 images; no other does better)"
    assert line == f"What ADTR misses most, by image AUROC: {named}."
    assert sentences.missed(smoke, table[table.defect == "c"], "smoke_mvtec") == []
    (alone,) = sentences.missed(smoke, table[table.experiment == "adtr"], "smoke_mvtec")
    assert alone.endswith(": a of screw 60.0 (1 image); b of screw 70.0 (5 images).")


def means(**columns: Any) -> pd.DataFrame:
    """The demo's means over categories, a row a method."""
    keys = [("elpv", experiment, "image_auroc", "mean") for experiment in DEMO.study.datasets["elpv"]]
    return pd.DataFrame(keys, columns=["dataset", "experiment", "metric", "category"]).assign(**columns)


def test_where_no_mean_is_defined_the_first_table_is_empty_and_a_sentence_says_so() -> None:
    summary = means(mean=NAN, low=NAN, high=NAN, best=False, provenance="")
    found = opening.table(DEMO, summary, {}, {})
    assert (found["columns"], found["groups"]) == ([], [])
    assert opening.answers(DEMO, summary) == ["ELPV (solar cells): no mean is defined; the reasons stand below."]


def test_the_first_sentence_says_who_is_next_and_how_far_behind() -> None:
    summary = means(mean=[87.7, 91.2, 89.3], low=[85.0, 90.0, 88.0], high=[89.0, 92.0, 90.0])
    gaps = {"behind": [3.5, 0.0, 1.9], "behind_low": [2.5, 0.0, 0.7], "behind_high": [4.5, 0.0, 3.0]}
    told = "PaDiM has the highest image AUROC on ELPV (solar cells): 91.2 % (95 % interval 90.0 to 92.0); "
    next_one = "next is PatchCore, 1.9 points behind (95 % interval of the difference 0.7 to 3.0)."
    alone = summary.assign(best=[False, True, False], **gaps)
    assert opening.answers(DEMO, alone) == [told + next_one]
    assert opening.answers(DEMO, alone.assign(best=[False, True, True])) == [
        told + "not distinguishable from it: PatchCore."
    ]


def test_who_is_next_is_said_where_there_is_no_interval() -> None:
    """As where every image is right."""
    summary = means(low=NAN, high=NAN, best=False, behind=NAN, behind_low=NAN, behind_high=NAN)
    first = "ADTR has the highest image AUROC on ELPV (solar cells): 100.0 %; "
    (level,) = opening.answers(DEMO, summary.assign(mean=[100.0, 100.0, 100.0]))
    assert level == first + "not distinguishable from it: PaDiM and PatchCore."
    nearly = summary.assign(mean=[85.02, 85.01, 80.0], low=75.0, high=90.0)
    assert opening.answers(DEMO, nearly)[0].endswith("not distinguishable from it: PaDiM.")
    (ahead,) = opening.answers(DEMO, summary.assign(mean=[100.0, 98.5, 90.0]))
    assert ahead == first + "next is PaDiM, 1.5 points behind."


def test_the_most_telling_departures_come_with_their_values() -> None:
    rows = [["features.grid_size", "16", "8", "all"], ["train.lr", "1", "2", "all but X"], ["train.lr", "1", "3", "X"]]
    assert opening.departing(rows, "X") == "2 parameters are not those of X, among them features.grid_size 8 (there 16)"
    assert opening.departing(rows[1:], "X") == "1 parameter is not that of X"
    assert opening.departing([], "X") == "This is X"


def test_the_first_sentence_says_in_what_methods_differ() -> None:
    def told(study: str) -> str:
        return opening.sentence(resolve(study, planted.REPOSITORY / "params"))

    assert told("demo") == "3 methods on ELPV (solar cells) (mono and poly); one seed; recipe “fast”."
    assert told("distance_mvtec") == (
        "14 methods on MVTec-AD (bottle and screw): networks transformer, cnn and no_query; "
        "distances l2, standardized and mahalanobis; one seed; recipe “fast”."
    )
    assert "; 5 backbones; 4 networks; " in told("paper")
    assert ": sizes 256 px and 512 px; grids 16x16 and 24x24; one seed" in told("resolution")


def test_how_far_each_method_is_behind_the_best_has_a_table() -> None:
    summary = means(provenance="", mean=[87.7, 91.2, 89.3], low=NAN, high=NAN, best=[False, True, False])
    gaps = {"behind": [3.5, 0.0, 1.9], "behind_low": [2.5, 0.0, NAN], "behind_high": [4.5, 0.0, NAN]}
    found = opening.gaps(opening.table(DEMO, summary.assign(**gaps), {}, {}))
    assert found is not None
    assert found.text.to_numpy().tolist() == [["ADTR", "3.5 [2.5, 4.5]"], ["PaDiM", "–"], ["PatchCore", "1.9"]]
    assert opening.gaps(opening.table(DEMO, summary.assign(**dict.fromkeys(gaps, NAN)), {}, {})) is None
