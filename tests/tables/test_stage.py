"""The tables: summaries by hand, the paper's numbers to the digit, three renderings of the same cells."""

import csv
import hashlib
import html
import math
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import findings
import noisy
import numpy as np
import pandas as pd
import planted
import pytest
from vouched import vouch

from adtr.config.paths import Paths
from adtr.config.study import Plan, Run, resolve
from adtr.errors import UserError
from adtr.evaluate.bootstrap import compare
from adtr.tables import comparison, render, sizes
from adtr.tables import paper as printed
from adtr.tables import stage as tables
from adtr.tables.latex import BEYOND, escape, latex
from adtr.tables.specs import read_specs
from adtr.tables.summary import collect, study_metrics, summarize
from adtr.tables.uncertainty import BEHIND, intervals, level_with_best

PARAMS = planted.REPOSITORY / "params"
SPECS = read_specs(PARAMS)
B4 = {"adtr": {"backbone": "efficientnet_b4", "image_size": 256, "grid_size": 16}}
LITE = {"adtr": B4["adtr"] | {"backbone": "efficientnet_lite0"}}
PRINTED = [name for name, spec in SPECS.items() if "ours" in spec]  # with the paper's rows as they are printed
NOBODY = pd.DataFrame(columns=["method", "category", "value", "source"])  # no third party
DASH = "–"
UNTRAINED = {"padim", "spade", "patchcore", "kde"}


def run(
    category: str, seed: int, value: float, experiment: str = "adtr", metric: str = "image_auroc", dataset: str = "d"
) -> dict[str, Any]:
    """A row of a run's metrics.csv."""
    labels = {"dataset": dataset, "experiment": experiment, "category": category, "seed": seed}
    return labels | {"metric": metric, "value": value, "note": "", "provenance": f"{experiment}/{category}/{seed}@abc"}


def summary(*rows: dict[str, Any]) -> pd.DataFrame:
    return summarize(pd.DataFrame(list(rows)))


def cell(table: pd.DataFrame, **where: str) -> Any:
    """The one row that has these values."""
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1, where
    return table.iloc[0]


def shown(table: pd.DataFrame, row: str, column: str) -> str:
    return str(render.wide(table).loc[row, column])


# Summaries over seeds and categories


def test_mean_and_standard_deviation_over_seeds_by_hand() -> None:
    found = cell(summary(run("cat", 0, 90), run("cat", 1, 92), run("cat", 2, 97)), category="cat")
    assert found["mean"] == 93
    assert found.sd == pytest.approx(math.sqrt((9 + 1 + 16) / 2), rel=1e-12)  # n - 1
    assert found.n == 3
    assert found.provenance == "adtr/cat/0@abc adtr/cat/1@abc adtr/cat/2@abc"


def test_the_mean_over_categories_is_taken_for_each_seed() -> None:
    rows = [run("cat", 0, 90), run("dog", 0, 80), run("cat", 1, 70), run("dog", 1, 96)]
    found = cell(summary(*rows), category="mean")
    assert found["mean"] == 84  # of 85 and 83
    assert found.sd == pytest.approx(math.sqrt(2), rel=1e-12)  # not that of the four runs
    assert found.n == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_an_undefined_cell_makes_its_mean_undefined(seed: int) -> None:
    rows = [run("cat", 0, 90), run("cat", 1, 90), run("dog", 1 - seed, 80), run("dog", seed, math.nan)]
    found = summary(*rows)
    assert math.isnan(cell(found, category="dog")["mean"])
    assert math.isnan(cell(found, category="mean")["mean"])
    assert cell(found, category="cat")["mean"] == 90


def test_a_metric_that_a_category_lacks_has_no_mean() -> None:
    rows = [run("cat", 0, 90), run("dog", 0, 80), run("cat", 0, 70, metric="pixel_auroc")]
    found = summary(*rows)
    assert math.isnan(cell(found, category="mean", metric="pixel_auroc")["mean"])
    assert cell(found, category="mean", metric="image_auroc")["mean"] == 85


def test_data_sets_experiments_and_metrics_are_kept_apart() -> None:
    rows = [
        run("cat", 0, 1.0),
        run("cat", 0, 2.0, dataset="e"),
        run("cat", 0, 3.0, experiment="spade"),
        run("cat", 0, 4.0, metric="image_ap"),
    ]
    found = summary(*rows)
    assert found[found.category == "cat"]["mean"].tolist() == [1, 2, 3, 4]
    assert found[found.category == "mean"]["mean"].tolist() == [1, 2, 3, 4]


def test_an_experiment_of_one_seed_is_summarized_beside_one_of_several() -> None:
    rows = [run(c, seed, 90 + seed) for c in ("cat", "dog") for seed in (0, 1, 2)]
    found = summary(*rows, run("cat", 0, 70, "spade"), run("dog", 0, 80, "spade"))
    single, several = (cell(found, category="mean", experiment=name) for name in ("spade", "adtr"))
    assert (single["mean"], single.n, several["mean"], several.n) == (75, 1, 91, 3)
    assert math.isnan(single.sd)
    table = render.wide(found.assign(row=found.experiment, column=found.category, note="", printed=""))
    assert table.loc["spade"].tolist() == ["70.0", "80.0", "75.0"]


# The paper's numbers


@pytest.mark.parametrize("name", PRINTED)
def test_every_number_of_the_paper_is_printed_to_the_digit(name: str) -> None:
    table = printed.of_paper(SPECS[name], summary(run("x", 0, 50)))
    text, means = render.wide(table), table.set_index(["row", "column"])["mean"]
    source = SPECS[name]["paper"]
    assert not source.duplicated(["method", "category"]).any()
    for entry in source.itertuples():
        row = f"{entry.method} " + ("(paper)" if entry.method in SPECS[name]["ours"] else f"[{entry.reference}]")
        assert text.loc[row, entry.category] == (DASH if pd.isna(entry.value) else entry.value)
        assert means[row, entry.category] == pytest.approx(float(entry.value), rel=1e-12, nan_ok=True)


def test_every_number_of_the_ablation_is_printed_to_the_digit() -> None:
    source = SPECS["table4"]["paper"]
    text = render.wide(printed.of_ablation(SPECS["table4"], summary(run("x", 0, 50)), B4))
    for entry in source.itertuples():
        assert text.loc[f"({entry.part}) {entry.label}", "paper"] == entry.value


@pytest.mark.parametrize("name", PRINTED)
def test_a_printed_mean_that_its_cells_do_not_give_has_a_note(name: str) -> None:
    for method, rows in SPECS[name]["paper"].groupby("method"):
        cells = rows[rows.category != "mean"].value.dropna().astype(float)
        mean = rows[rows.category == "mean"].iloc[0]
        digit = 0.1 if "." in mean.value else 1
        differs = bool(len(cells)) and abs(cells.mean() - float(mean.value)) > digit / 2 + 1e-9
        assert ("the printed categories average" in (mean.note or "")) == differs, method
        assert not differs or mean.note == f"the printed categories average {cells.mean():.1f}", method


def test_table_1_has_the_papers_rows_and_notes_and_ours() -> None:
    table = printed.of_paper(SPECS["table1"], summary(run("x", 0, 50)))
    rows = list(dict.fromkeys(table.row))
    assert rows[:2] == ["SSIM-AE [6]", "AnoGAN [31]"]
    own = [f"{method} ({kind})" for method in ("ADTR", "ADTR+") for kind in ("paper", "ours", "difference")]
    assert [row for row in rows if row.startswith("ADTR") and "third" not in row] == own
    assert list(dict.fromkeys(table.column))[-2:] == ["zipper", "mean"]
    listed = render.notes(table)
    assert "P-Net [40], screw: printed '1.00'" in listed
    assert "VEVAE [21], cable: printed '9'; 90 is the value that gives the printed mean" in listed
    assert (
        len([line for line in listed if "third party" not in line]) == (SPECS["table1"]["paper"].note != "").sum() == 4
    )


@pytest.mark.parametrize(("name", "mean"), [("table1", 96.74), ("table2", 97.52)])
def test_third_parties_stand_beside_with_their_source(name: str, mean: float) -> None:
    """ADTR rebuilt by others: every cell of it as they give it, the mean formed here (by hand: sum / 15)."""
    table = printed.of_paper(SPECS[name], summary(run("x", 0, 50)))
    row = table[table.row == "ADTR, EfficientNet-B5 (third party)"].set_index("column")
    others = SPECS[name]["others"].query("method == 'ADTR, EfficientNet-B5'").set_index("category").value.astype(float)
    assert len(others) == 15
    assert row["mean"].drop("mean").to_dict() == others.to_dict()
    assert row["mean"]["mean"] == pytest.approx(mean, abs=0.005)
    assert set(row.provenance) == {"third party"}
    assert any("20 epochs" in note and "fc7dbd50" in note for note in render.notes(table))


# Ours beside the paper's


def ours(*rows: dict[str, Any]) -> pd.DataFrame:
    """The paper's table of one method, printed as 90.0 in each of two categories and as their mean."""
    source = pd.DataFrame({"method": "ADTR", "reference": "", "category": ["cat", "dog", "mean"], "note": ""})
    spec = {"paper": source.assign(value="90.0"), "ours": {"ADTR": "adtr"}, "metric": "image_auroc", "others": NOBODY}
    return printed.of_paper(spec, summary(*rows))


BOTH = [run("cat", 0, 91.26), run("dog", 0, 88)]
OTHERS = [run(c, 0, 99, *names) for c in ("cat", "dog") for names in (("spade",), ("adtr", "image_ap"))]


@pytest.mark.parametrize(
    ("rows", "own", "differences", "runs"),
    [
        (BOTH + OTHERS, ["91.3", "88.0", "89.6"], ["+1.3", "-2.0", "-0.4"], [1, 1, 1]),
        ([run("cat", 0, 90.0), run("dog", 0, 0.0)], ["90.0", "0.0", "45.0"], ["0.0", "-90.0", "-45.0"], [1, 1, 1]),
        ([run("cat", 0, 90.04), run("cat", 1, 94)], ["92.0 ± 2.8", DASH, DASH], ["+2.0", DASH, DASH], [2, 0, 2]),
        ([run("cat", 0, 91), run("dog", 0, math.nan)], ["91.0", DASH, DASH], ["+1.0", DASH, DASH], [1, 1, 1]),
        (OTHERS, [DASH] * 3, [DASH] * 3, [0, 0, 0]),
    ],
    ids=["both", "zero is no missing value", "two seeds of one category", "one undefined", "other runs only"],
)
def test_ours_and_its_signed_difference_from_the_paper(
    rows: list[dict[str, Any]], own: list[str], differences: list[str], runs: list[int]
) -> None:
    """Where a category was not run or is undefined there is a dash, and so for the mean."""
    table = ours(*rows)
    text = render.wide(table)[["cat", "dog", "mean"]]
    assert text.loc["ADTR (paper)"].tolist() == ["90.0"] * 3
    assert text.loc["ADTR (ours)"].tolist() == own
    assert text.loc["ADTR (difference)"].tolist() == differences
    assert table[table.row == "ADTR (ours)"].n.tolist() == runs


def test_the_difference_is_taken_before_rounding() -> None:
    table = ours(run("cat", 0, 90.14), run("cat", 1, 90.16))
    assert shown(table, "ADTR (ours)", "cat") == "90.2 ± 0.0"  # 90.15
    assert cell(table, row="ADTR (difference)", column="cat")["mean"] == pytest.approx(0.15, abs=1e-12)


@pytest.mark.parametrize(("categories", "difference"), [(1, DASH), (2, "-2.2")])
def test_the_ablation_differs_from_the_paper_only_over_the_same_categories(categories: int, difference: str) -> None:
    rows = [run(c, 0, 95.0, metric="pixel_auroc") for c in ("cat", "dog")[:categories]]
    table = printed.of_ablation({**SPECS["table4"], "categories": 2}, summary(*rows), B4)
    assert shown(table, "(a) Attn+Query", "ours") == "95.0"
    assert shown(table, "(a) Attn+Query", "difference") == difference
    assert any("1 of the paper's 2 categories (cat)" in note for note in render.notes(table)) == (categories == 1)
    assert shown(table, "(a) CNN", "ours") == shown(table, "(a) CNN", "difference") == DASH


def test_the_ablation_says_what_each_change_does_to_adtr_there_and_here() -> None:
    values = {"adtr": 95.0, "cnn": 90.5, "no_query": 96.0}
    rows = [run("cat", 0, value, experiment, "pixel_auroc") for experiment, value in values.items()]
    table = printed.of_ablation(SPECS["table4"], summary(*rows), B4)
    assert [shown(table, "(a) CNN", column) for column in printed.TO_ADTR] == ["-2.8", "-4.5"]  # 94.4 - 97.2
    assert [shown(table, "(a) w/o Query", column) for column in printed.TO_ADTR] == ["-3.0", "+1.0"]
    assert [shown(table, "(a) w/o Attn", column) for column in printed.TO_ADTR] == ["-2.4", DASH]
    assert [shown(table, "(a) Attn+Query", column) for column in printed.TO_ADTR] == [DASH, DASH]


def test_another_backbone_does_not_stand_in_the_row_of_the_papers_but_in_one_of_its_own() -> None:
    rows = summary(run("cat", 0, 95.0, metric="pixel_auroc"))
    table = printed.of_ablation({**SPECS["table4"], "categories": 1}, rows, LITE)
    assert shown(table, "(c) Efficient-B4", "ours") == DASH
    assert "efficientnet_lite0" in str(cell(table, row="(c) Efficient-B4", column="ours").note)
    assert shown(table, "(a) Attn+Query", "ours") == "95.0"
    own = [shown(table, "(c) EfficientNet-Lite0", column) for column in ("paper", "ours", "difference")]
    assert own == [DASH, "95.0", DASH]


def test_rows_that_the_paper_does_not_have_stand_in_their_part_where_they_were_run() -> None:
    used = B4 | {"efficientnet_lite1": {"backbone": "efficientnet_lite1", "image_size": 256, "grid_size": 16}}
    used |= {"adtr_512": {"backbone": "efficientnet_b4", "image_size": 512, "grid_size": 32}}
    ran = [run("cat", 0, 95.0, experiment, "pixel_auroc") for experiment in used]
    with_all = printed.of_ablation(SPECS["table4"], summary(*ran), used)
    rows = list(dict.fromkeys(with_all.row))
    assert rows[rows.index("(c) Efficient-B4") + 1 :] == [
        "(c) EfficientNet-Lite1", "(d) Last-layer", "(d) Multi-scale", "(e) 512 px, 32x32"
    ]  # fmt: skip
    without = printed.of_ablation(SPECS["table4"], summary(*ran[:1]), used)
    assert list(dict.fromkeys(without.row)) == [f"({e.part}) {e.label}" for e in SPECS["table4"]["paper"].itertuples()]


def test_baselines_measured_here_follow_the_papers_rows_where_they_were_run() -> None:
    rows = [run("cat", seed, 80 + seed, "padim") for seed in (0, 1)] + [run("cat", 0, 70, "patchcore")]
    source = pd.DataFrame({"method": "PaDiM", "reference": "11", "category": ["cat", "dog", "mean"], "note": ""})
    further = {"PatchCore": "patchcore", "PaDiM": "padim", "KDE": "kde"}
    spec = {"paper": source.assign(value="90.0"), "ours": {}, "metric": "image_auroc", "further": further} | {
        "others": NOBODY
    }
    table = printed.of_paper(spec, summary(*rows))
    assert list(dict.fromkeys(table.row)) == ["PaDiM [11]", "PatchCore (ours)", "PaDiM (ours)"]
    assert [shown(table, "PaDiM (ours)", column) for column in ("cat", "dog", "mean")] == ["80.5 ± 0.7", DASH, DASH]
    (note,) = render.notes(table)
    assert note.startswith("PatchCore and PaDiM: measured here")


DIGESTS = ["282e611461980113", "1be9c4fc02d4d127", "fa6bc7d159c1b50a", "73fc089b62ed49dd"]


@pytest.mark.parametrize(("name", "digest"), [*zip(tables.PAPER, DIGESTS, strict=True)])
def test_the_printed_numbers_are_those_that_were_copied_from_the_paper(name: str, digest: str) -> None:
    """The digest, of all but the notes, was taken of an independent copy."""
    table = pd.read_csv(PARAMS / f"paper/{name}.csv", dtype=str).drop(columns="note").fillna("")
    assert hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16] == digest


# A study's tables


def metrics_of(plan: Plan) -> pd.DataFrame:
    """Metrics of every run of a study, made up: 60, 61, 62, ..."""
    rows = [
        run(r.category, r.seed, 60 + number, r.experiment, metric, r.dataset)
        for number, r in enumerate(plan.runs())
        for dataset, metric in study_metrics(plan)
        if dataset == r.dataset
    ]
    return pd.DataFrame(rows)


def test_a_study_gives_the_papers_tables_and_those_of_its_data_sets(plan: Plan) -> None:
    metrics = metrics_of(plan)
    built = tables.build(plan, summarize(metrics), SPECS)
    own = [
        "smoke_mvtec_image_auroc", "smoke_mvtec_pixel_auroc", "smoke_mvtec_aupro", "smoke_cifar10_image_auroc",
        "smoke_cifar10_image_auroc_all",
    ]  # fmt: skip
    assert tables.table_names(plan) == [*built, *own, *tables.FURTHER]
    assert all(title for title, _ in built.values())
    frames = [tables.of_study(summarize(metrics), plan, *of) for of in study_metrics(plan)]
    for table in [*(table for _, table in built.values()), *frames]:
        assert table.columns.tolist() == printed.CELL
        assert not table.duplicated(["row", "column"]).any()


def test_a_table_of_a_study_has_an_experiment_a_row_and_a_category_a_column(plan: Plan) -> None:
    table = tables.of_study(summarize(metrics_of(plan)), plan, "smoke_mvtec", "image_auroc")
    text = render.wide(table)
    assert text.index.tolist() == [plan.titles[name] for name in plan.study.datasets["smoke_mvtec"]]
    assert text.columns.tolist() == ["carpet", "screw", "mean"]
    assert text.loc["ADTR"].tolist() == ["60.5 ± 0.7", "62.5 ± 0.7", "61.5 ± 0.7"]  # 60, 61; 62, 63; 61, 62


@pytest.mark.parametrize(
    ("asked", "told"), [("float32", "imagenet weights, 64"), ("bfloat16", "imagenet weights in bfloat16,")]
)
def test_a_title_tells_features_that_are_not_in_float32(asked: str, told: str) -> None:
    plan = resolve("smoke", PARAMS, {"features.precision": asked})
    title, _ = tables.build(plan, summarize(metrics_of(plan)), SPECS)["table1"]
    assert told in title


def test_a_table_of_the_paper_takes_the_data_set_that_stands_for_its_benchmark(plan: Plan) -> None:
    _, table = tables.build(plan, summarize(metrics_of(plan)), SPECS)["table1"]
    assert [shown(table, "ADTR (ours)", c) for c in ("carpet", "screw", "grid")] == ["60.5 ± 0.7", "62.5 ± 0.7", DASH]
    assert shown(table, "ADTR (ours)", "mean") == DASH  # two of fifteen categories


def test_all_categories_and_seeds_give_a_mean_beside_the_papers() -> None:
    plan = resolve("paper", PARAMS)
    metrics = metrics_of(plan)
    _, table = tables.build(plan, summarize(metrics), SPECS)["table2"]
    chosen = metrics[(metrics.dataset == "mvtec") & (metrics.experiment == "adtr") & (metrics.metric == "image_auroc")]
    by_seed = [float(rows.value.mean()) for _, rows in chosen.groupby("seed")]
    found = cell(table, row="ADTR (ours)", column="mean")
    assert found["mean"] == pytest.approx(statistics.mean(by_seed), rel=1e-12)
    assert found.sd == pytest.approx(statistics.stdev(by_seed), rel=1e-12)
    assert found.n == len(plan.study.seeds) == 3
    assert cell(table, row="ADTR (difference)", column="mean")["mean"] == pytest.approx(found["mean"] - 96.4, rel=1e-9)


def test_a_note_names_the_experiments_of_one_seed(plan: Plan) -> None:
    _, table = tables.build(plan, summarize(metrics_of(plan)), SPECS)["table3"]
    assert shown(table, "SPADE (ours)", "airplane").replace(".", "").isdigit()
    assert render.notes(table)[0].endswith("over the seeds; no randomness, so one seed: SPADE and KDE.")


def test_the_sizes_of_networks_are_read_of_every_run(plan: Plan, tmp_path: Path) -> None:
    paths = Paths(plan, tmp_path)
    for number, run_of in enumerate(plan.runs()):
        path = paths.run(run_of) / "run.json"
        path.parent.mkdir(parents=True)
        vouch(path, {"parameters": number, "features": {"shape": [9, 64, 512]}})
    found = sizes.networks(paths)
    assert list(found.itertuples(index=False, name=None)) == [(*r, i, 64, 512) for i, r in enumerate(plan.runs())]
    path.unlink()
    with pytest.raises(UserError, match=r"1 of \d+ runs have no record yet"):
        sizes.networks(paths)


def test_metrics_are_collected_of_every_run_and_missing_ones_are_counted(plan: Plan, tmp_path: Path) -> None:
    paths = Paths(plan, tmp_path)
    for names, rows in metrics_of(plan).groupby(["dataset", "experiment", "category", "seed"]):
        folder = paths.results.joinpath("runs", *map(str, names))
        folder.mkdir(parents=True)
        rows.to_csv(folder / "metrics.csv", index=False)
        vouch(folder / "evaluation.json", {}, "metrics.csv")
    pd.testing.assert_frame_equal(collect(paths), metrics_of(plan), check_dtype=False)
    other, own = next((paths.results / "runs").rglob("metrics.csv")).parent, dict[Path, bytes]()
    for path in other.iterdir():  # a whole run in the place of another: each file fits its record
        own[folder / path.name] = (folder / path.name).read_bytes()
        shutil.copy(path, folder)
    with pytest.raises(UserError, match=rf"{folder}/metrics\.csv: not of "):
        collect(paths)
    for path, content in own.items():
        path.write_bytes(content)
    (folder / "metrics.csv").write_text("metric,value\n")
    with pytest.raises(UserError, match=rf"{folder}/metrics\.csv: damaged or edited"):
        collect(paths)
    (folder / "evaluation.json").unlink()
    with pytest.raises(
        UserError, match=rf"1 of {len(list(plan.runs()))} runs have no metrics yet, such as {folder}/evaluation"
    ):
        collect(paths)


def test_a_category_without_masks_beside_one_with_masks_has_undefined_metrics_of_pixels(
    plan: Plan, tmp_path: Path
) -> None:
    paths, made_up = Paths(plan, tmp_path), metrics_of(plan)
    for names, rows in made_up.groupby(["dataset", "experiment", "category", "seed"]):
        folder = paths.results.joinpath("runs", *map(str, names))
        folder.mkdir(parents=True)
        rows[(rows.category != "screw") | (rows.metric == "image_auroc")].to_csv(folder / "metrics.csv", index=False)
        vouch(folder / "evaluation.json", {}, "metrics.csv")
    metrics = collect(paths)
    rows = metrics[(metrics.category == "screw") & (metrics.metric == "aupro")]
    assert len(rows) == len(made_up[(made_up.category == "screw") & (made_up.metric == "aupro")])
    assert rows.value.isna().all()
    assert rows.drop(columns="value").notna().all(axis=None)
    assert set(rows.note) == {"undefined: no image of the category has a mask"}
    assert not metrics[metrics.metric == "image_auroc"].value.isna().any()
    assert summarize(metrics).set_index(["metric", "category"]).loc["aupro", "mean"]["mean"].isna().all()


# Comparisons


def sheet(plan: Plan, metrics: pd.DataFrame, sd: float, images: int = 101) -> render.Sheet:
    return comparison.sheet(plan, compare(metrics, noisy.draws(metrics, sd, images), study_metrics(plan)))


@pytest.mark.parametrize(("sd", "resolved"), [(0.1, "yes"), (2.0, "no")])
def test_the_sheet_has_a_row_for_each_comparison_and_says_what_was_resampled(
    plan: Plan, sd: float, resolved: str
) -> None:
    values = {"adtr": 90.0, "cnn": 88.25}
    rows = [run(c, s, values[e] + s * (e == "cnn"), e, dataset=d) for d, e, c, s in plan.runs() if e in values]
    found = sheet(plan, pd.DataFrame(rows), sd)
    line = found.text.iloc[0]
    names = ["CNN", "generated images in MVTec-AD's layout", "image AUROC"]
    assert line.tolist()[:4] == [*names, "-1.2"]
    low, high = (float(end) for end in line["95 % interval"].strip("[]").split(", "))
    half = 1.96 * sd / math.sqrt(2)  # of two categories, two seeds and two experiments
    assert (low, high) == pytest.approx((-1.25 - half, -1.25 + half), abs=0.15)
    assert line.tolist()[5:] == [resolved, "0.7", "0/0/4"]
    assert "test images of each category are drawn anew 1000 times with replacement" in found.notes[0]
    assert len(found.notes) == 2


def test_few_images_and_a_missing_interval_are_told(plan: Plan) -> None:
    rows = [run("cat", 0, value, e, dataset="smoke_mvtec") for e, value in (("adtr", 90.0), ("cnn", 91.0))]
    few = sheet(plan, pd.DataFrame(rows), 0.1, 10)
    assert few.notes[2].endswith(": image AUROC compared over the categories where both have a value.")
    assert few.notes[3].endswith("there are few test images, so that intervals may be too short.")
    none = sheet(plan, pd.DataFrame(rows), 0.0)
    assert none.text.iloc[0].tolist()[4:] == [DASH, DASH, DASH, "1/0/0"]
    assert none.notes[2].endswith("a metric, a class has one image, or too few images have a mask.")


def test_each_mean_has_an_interval_in_csv_and_text(plan: Plan, tmp_path: Path) -> None:
    metrics = metrics_of(plan)
    metrics["value"] = metrics.value % 40 + 55
    draws = noisy.draws(metrics, 1.0)
    tables.write_tables(plan, metrics, draws, networks(plan), PARAMS, tmp_path)
    cells = pd.read_csv(tmp_path / "smoke_mvtec_image_auroc.csv")
    assert cells.columns.tolist() == [*printed.CELL, "low", "high", "best", *BEHIND]
    assert (cells.low < cells["mean"]).all()
    assert (cells["mean"] < cells.high).all()
    width = (cells.high - cells.low).groupby(cells.column == "mean").mean()
    assert width[False] == pytest.approx(2 * 1.96 / math.sqrt(2), rel=0.1)  # two seeds
    assert width[True] == pytest.approx(2 * 1.96 / 2, rel=0.1)  # two categories
    line = cells[(cells.row == "ADTR") & (cells.column == "mean")].iloc[0]
    text = re.sub(" +", " ", (tmp_path / "smoke_mvtec_image_auroc.md").read_text())
    assert "| mean | 95 % interval |" in text
    assert f"| {line['mean']:.1f} ± 0.7 | [{line.low:.1f}, {line.high:.1f}] |" in text.replace("**", "")
    bold = cells[cells.best & (cells.column == "mean")]
    assert 0 < len(bold) < (cells.column == "mean").sum()
    for best in bold.itertuples():
        assert f"**{best.mean:.1f} ± 0.7**" in text
        tex = (tmp_path / "smoke_mvtec_image_auroc.tex").read_text()
        assert rf"\textbf{{{best.mean:.1f}$_{{\pm 0.7}}$}}" in tex
        assert re.search(r"\\begin\{tabular\}\{@\{\}lr+@\{\}\}", tex)


@pytest.mark.parametrize(("cat", "level"), [(89.9, True), (88.0, False)])
def test_what_the_paired_interval_does_not_tell_from_the_best_is_level_with_it(cat: float, level: bool) -> None:
    rows = [run("cat", 0, cat, "cnn"), run("cat", 0, 90.0), run("dog", 0, 70.0, "cnn"), run("dog", 0, 70.0)]
    metrics = pd.DataFrame(rows)
    found = level_with_best(metrics, noisy.draws(metrics, 0.2)).set_index(["category", "experiment"])
    assert found.best.loc["cat"].to_dict() == {"adtr": True, "cnn": level}
    gap, low, high = found.loc[("cat", "cnn"), BEHIND]
    assert gap == pytest.approx(90.0 - cat)
    assert low < gap < high
    assert (low > 0) is not level
    assert found.loc[("cat", "adtr"), BEHIND].tolist() == [0, 0, 0]
    assert "dog" not in found  # its values print alike


def test_the_mean_of_an_undefined_category_has_no_interval() -> None:
    metrics = pd.DataFrame([run("cat", 0, 90), run("dog", 0, math.nan)])
    found = intervals(metrics, noisy.draws(metrics)).set_index("category")
    assert found.low.notna().to_dict() == {"cat": True, "dog": False, "mean": False}


# Rendering

AWKWARD = pd.DataFrame(
    {
        "row": ["50 % & more", "50 % & more", "#1_{a}", "#1_{a}", r"~\^$"],
        "column": ["metal_nut", "mean", "metal_nut", "mean", "mean"],
        "mean": [97.24999, 2 / 3, 100.0, math.nan, 12.0],
        "sd": [0.25, math.nan, math.nan, math.nan, 0.04],
        "n": [3, 1, 1, 2, 2],
        "printed": ["", "", "100", "", ""],
        "note": ["", "", "", "undefined: one class", ""],
        "provenance": ["a@1 b@2", "", "paper", "", ""],
    }
)
CELLS = [["97.2 ± 0.2", "0.7"], ["100", DASH], [DASH, "12.0 ± 0.0"]]


def test_cells_are_rounded_in_rendering() -> None:
    assert render.wide(AWKWARD).to_numpy().tolist() == CELLS


def test_csv_keeps_full_precision(tmp_path: Path) -> None:
    tables.write_table([render.sheet(AWKWARD, "Title")], AWKWARD, tmp_path, "t")
    found = pd.read_csv(tmp_path / "t.csv", dtype={"printed": str}, keep_default_na=True)
    assert found["mean"].tolist()[:3] == [97.24999, 2 / 3, 100.0]
    pd.testing.assert_frame_equal(
        found.fillna({"printed": "", "note": "", "provenance": ""}), AWKWARD, check_exact=True, check_dtype=False
    )
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "t.md", "t.tex"}


def unescaped(text: str) -> str:
    """What a reader of Markdown sees."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text))


def cells_of(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [unescaped(cell.strip()) for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]]


def in_latex(table: pd.DataFrame, title: str, label: str) -> str:
    return latex(render.sheet(table, title), label)


@pytest.mark.parametrize("name", [*PRINTED, "awkward"])
def test_a_table_in_markdown_parses_back_to_its_cells(name: str, tmp_path: Path) -> None:
    table = AWKWARD if name == "awkward" else printed.of_paper(SPECS[name], summary(run("x", 0, 50)))
    tables.write_table([render.sheet(table, "A title")], table, tmp_path, name)
    lines = (tmp_path / f"{name}.md").read_text().splitlines()
    head, _, *rows = [cells_of(line) for line in lines if line[:1] == "|"]
    text = render.wide(table)
    assert head == ["per cent", *text.columns]
    assert rows == [[row, *text.loc[row]] for row in text.index]
    assert lines[0] == "### A title"
    assert [unescaped(line[2:]) for line in lines if line.startswith("- ")] == render.notes(table)


def test_a_bar_in_a_name_keeps_a_markdown_table_whole() -> None:
    assert render.markdown(render.Sheet("", pd.DataFrame({"a": ["x|y"]}))).splitlines()[2] == r"| x\|y |"


def test_latex_escapes_what_is_special_to_it() -> None:
    text = in_latex(AWKWARD, "All of 100 % & a_b", "awkward_table")
    assert r"\caption{All of 100 \% \& a\_b}" in text
    assert r"\label{tab:awkward_table}" in text
    rows = re.findall(r"^(.*) \\\\$", text, re.MULTILINE)
    assert rows == [
        r"per cent & metal\_nut & mean",
        r"50 \% \& more & 97.2$_{\pm 0.2}$ & 0.7",
        r"\#1\_\{a\} & 100 & --",
        r"\textasciitilde{}\textbackslash{}\textasciicircum{}\$ & -- & 12.0$_{\pm 0.0}$",
    ]
    assert re.findall(r"\\(?:top|mid|bottom)rule", text) == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"\#1\_\{a\}, mean: undefined: one class" in text  # the note


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-2.0", "$-$2.0"),
        ("[-0.3, +1.2]", "{[}$-$0.3, +1.2]"),
        ("2020-11-22", "2020-11-22"),
        ("64 × 512", r"64 $\times$ 512"),
        ("100.0 ± 12.3", r"100.0$_{\pm 12.3}$"),
        ("± is the deviation", r"$\pm$ is the deviation"),
        ("50 % of a_b \u2603 é – “x”", r"50 \% of a\_b \adtrletter{2603}{U+2603} é -- ``x''"),
        ("5 Ω, 3 μm → x₂\u200b\n\n", r"5 $\Omega$, 3 $\mu$m $\rightarrow$ x\adtrletter{2082}{2}"),
        ("* first", "{*} first"),
    ],
)
def test_signs_are_set_as_signs(text: str, expected: str) -> None:
    assert escape(text) == expected


def any_text(random: np.random.Generator) -> str:
    """Up to 30 signs of all of Unicode, most of them of what has a meaning somewhere."""
    bounds = np.array([[0, 128], [128, 0x250], [0x250, 0xD800], [0xD800, 0xE000], [0xE000, 0x110000]])
    planes = bounds[random.choice(5, random.integers(1, 30), p=[0.5, 0.2, 0.15, 0.05, 0.1])]
    return "".join(map(chr, random.integers(planes[:, 0], planes[:, 1])))


def texts(count: int) -> list[str]:
    random = np.random.default_rng(16)
    return [any_text(random) for _ in range(count)]


def test_whatever_the_text_only_what_pdftex_knows_reaches_latex() -> None:
    for text in texts(3000):
        assert not BEYOND.search(escape(text)), ascii(text)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_a_table_of_any_texts_compiles(tmp_path: Path) -> None:
    drawn = [text.encode("utf-8", "ignore").decode() for text in texts(240)] + ["[x", "*y", "中 日 😀 ✓ ₂ ąŠ Я\u200b"]
    table = pd.DataFrame({"a": drawn, "b": drawn[::-1]})
    sheets = [render.Sheet(drawn[start], table[start : start + 30], drawn[:2]) for start in range(0, 243, 30)]
    parts = [latex(sheet, f"t{place}") for place, sheet in enumerate(sheets)]
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text("\n".join([head, *parts, r"\end{document}"]), encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True)
    log = done.stdout.decode(errors="replace")
    assert [line for line in log.splitlines() if line.startswith("!") or "Missing character" in line] == []
    assert done.returncode == 0


def test_whatever_the_text_a_markdown_table_keeps_its_cells_and_holds_no_markup() -> None:
    markup = ["<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![x][y]", "a|b\\|c", "`x`|", "&lt;b>"]
    for text in [*texts(1500), *markup]:
        escaped = render.escape(text)
        (cells,) = [cells_of(f"| {escaped} | end |")]
        assert cells == [" ".join(text.split()), "end"] or text.isspace(), ascii(text)
        assert "<" not in escaped
        assert not re.search(r"(?<!\\)\][(\[:]", escaped)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("# a", "\\# a"), ("> a", "\\> a"), ("1. a", "1\\. a"), ("12) a", "12\\) a"), ("- a", "\\- a"), ("---", "\\---")]
    + [(text, text) for text in ("-3.0", "1.5", "+2", "a # b", "a 1. b", "== a")],
)
def test_a_line_of_text_begins_no_heading_quotation_list_or_rule(text: str, expected: str) -> None:
    assert render.escape(text) == expected


def test_a_spreadsheet_computes_no_cell(tmp_path: Path) -> None:
    table = AWKWARD.assign(row=["=1+1", "=1+1", "@x", "@x", "-y"], column=["+z", "mean", "+z", "mean", "mean"])
    tables.write_table([render.sheet(table, "Title")], table, tmp_path, "t")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["'=1+1", "'=1+1", "'@x", "'@x", "'-y"]
    assert rows[0]["column"] == "'+z"
    assert rows[1]["mean"] == str(2 / 3)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_a_study_of_baselines_only_has_a_table_of_no_networks(tmp_path: Path) -> None:
    plan = resolve("demo", PARAMS)
    empty = networks(plan).assign(parameters=0)
    sheet = sizes.sheet(plan, sizes.parameters(plan, empty))
    assert (sheet.text.columns.tolist(), len(sheet.text)) == (["experiment"], 0)
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    body = latex(sheet, "parameters")
    (tmp_path / "t.tex").write_text(f"{head}{body}\\end{{document}}", encoding="utf-8")
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def networks(plan: Plan) -> pd.DataFrame:
    """Sizes of the networks of every run, made up."""
    rows = [(*r, 0 if r[1] in UNTRAINED else 48_000 + 1_000 * len(r[1]), 64, 512) for r in plan.runs()]
    return pd.DataFrame(rows, columns=[*Run._fields, "parameters", "tokens", "channels"])


def test_parameters_of_trained_networks_beside_those_of_adtr(plan: Plan) -> None:
    table = sizes.parameters(plan, networks(plan))
    assert not set(table.experiment) & UNTRAINED
    row = cell(table, experiment="cnn", dataset="smoke_mvtec")
    assert (row.parameters, row.tokens, row.channels) == (51_000, 64, 512)
    assert row.ratio == pytest.approx(51 / 52, rel=1e-12)
    text = sizes.sheet(plan, table).text.set_index("experiment")
    assert text.loc["CNN"].tolist() == ["64 × 512", "51,000 (0.98)", DASH, DASH]
    assert text.loc["ADTR"].tolist() == ["64 × 512", "52,000 (1.00)"] * 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of the study `paper`: 15 and 10 categories, three seeds, all experiments; its folder."""
    folder, plan = tmp_path_factory.mktemp("tables"), resolve("paper", PARAMS)
    metrics = metrics_of(plan)
    metrics["value"] = metrics.value % 40 + 60
    tables.write_tables(plan, metrics, noisy.draws(metrics), networks(plan), PARAMS, folder)
    tables.write_findings(plan, *findings.of(metrics), folder)
    return folder


def test_every_table_is_written_in_three_forms(written: Path) -> None:
    names = tables.table_names(resolve("paper", PARAMS))
    assert {path.name for path in written.iterdir()} == {f"{n}.{s}" for n in names for s in ("csv", "md", "tex")}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_every_table_of_a_full_study_compiles_and_fits_the_page(written: Path, tmp_path: Path) -> None:
    files = sorted(written.glob("*.tex"))
    texts = [path.read_text(encoding="utf-8") for path in files] + [in_latex(AWKWARD, "All of 100 % & a_b", "awkward")]
    packages = {name for text in texts for name in re.findall(r"^% Needs \\usepackage{(.*)}", text)[0].split(",")}
    assert packages == {"booktabs", "graphicx", "longtable", "pdflscape"}
    preamble = rf"\documentclass{{article}}\usepackage[margin=2cm]{{geometry}}\usepackage{{{','.join(packages)}}}"
    body = "\\clearpage\n".join(texts)
    (tmp_path / "t.tex").write_text(f"{preamble}\\begin{{document}}\n{body}\\end{{document}}", encoding="utf-8")
    for _ in range(3):  # until longtables have their widths
        subprocess.run(["pdflatex", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True)
    log = (tmp_path / "t.log").read_text(encoding="utf-8", errors="replace")
    assert [line for line in log.splitlines() if line.startswith("!") or "Overfull" in line] == []
    assert "Table widths have changed" not in log
    assert (tmp_path / "t.pdf").stat().st_size > 0
