"""The study `smoke` from end to end, in a fresh copy of the repository."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score
from workshop import TARGETS, Workshop, ran

from adtr.config.study import EVALUATED, Plan, resolve, run_folder
from adtr.tables.summary import misfits

pytestmark = pytest.mark.pipeline


def test_makes_tables_figures_and_reports(done: Workshop) -> None:
    for n in (1, 2, 3, 4):
        for suffix in ("csv", "md", "tex"):
            assert (done.folder / f"results/smoke/tables/table{n}.{suffix}").stat().st_size > 0
    page = (done.folder / "reports/smoke/report.html").read_text()
    assert "data:image/webp;base64," in page
    brief = (done.folder / "reports/smoke/report.md").read_text()
    shown = re.findall(r"\]\((figures/[^)]+)\)", brief)
    assert shown
    assert all((done.folder / "reports/smoke" / name).is_file() for name in shown)
    assert "results/" not in brief


def test_every_run_has_its_metrics_in_one_tidy_table(done: Workshop) -> None:
    metrics = pd.read_csv(done.folder / "results/smoke/metrics.csv")
    assert list(metrics.columns[:7]) == ["study", "dataset", "experiment", "category", "seed", "metric", "value"]
    runs = metrics.groupby(["dataset", "experiment", "category", "seed"]).ngroups
    assert runs == (11 + 4) * 2 * 2  # experiments of both data sets, categories, seeds
    assert metrics.value.between(0, 100).all()


def test_the_metrics_are_those_of_the_scores(done: Workshop) -> None:
    metrics = pd.read_csv(done.folder / "results/smoke/metrics.csv")
    for row in metrics[metrics.metric == "image_auroc"].itertuples():
        run = done.folder / f"results/smoke/runs/{row.dataset}/{row.experiment}/{row.category}/{row.seed}"
        scores = pd.read_csv(run / "scores.csv").query("split == 'test'")
        assert row.value == pytest.approx(100 * roc_auc_score(scores.label, scores.pred_score), abs=1e-9)


def test_a_second_run_does_nothing(done: Workshop) -> None:
    assert done.planned() == {}


def test_an_edited_loss_retrains_adtr_alone_and_keeps_the_features(done: Workshop) -> None:
    with done.edited("adtr/model/losses.py", ".mean()", ".mean() * 1.0"):
        planned = done.planned()
    assert planned["train"] == (8 + 2) * 2 * 2  # ADTR, its ablations, ADTR+; not the autoencoder
    assert "fit" not in planned  # the other baselines
    assert "features" not in planned
    assert "index" not in planned


def test_an_edited_comment_reruns_nothing(done: Workshop) -> None:
    with done.edited("adtr/model/losses.py", "from torch", "# a comment\nfrom torch"):
        assert done.planned() == {}


def test_an_edited_table_retrains_nothing(done: Workshop) -> None:
    with done.edited("params/tables.yaml", "Ablation study", "Ablations"):
        planned = done.planned()
    assert set(planned) <= {"tables", "bars", "write_report", *TARGETS}
    assert planned["tables"] == 1


def test_a_parameter_on_the_command_line_reruns_what_it_decides(done: Workshop) -> None:
    assert done.planned(setting="score.pooling=2")["evaluate"] == 60
    assert "train" not in done.planned(setting="score.pooling=2")
    assert done.planned(setting="train.lr=0.001")["train"] == 44
    assert done.planned(setting="padim.channels=7")["fit"] == 4
    assert "train" not in done.planned(setting="padim.channels=7")


def test_runs_of_other_parameters_are_not_taken_for_these(done: Workshop, smoke: Plan) -> None:
    results = done.folder / "results/smoke"
    assert list(misfits(smoke, results)) == []
    pooled = resolve("smoke", done.folder / "params", {"score.pooling": 2})
    evaluated = {run_folder(results, *run) / name for run in smoke.runs() for name in EVALUATED}
    assert set(misfits(pooled, results)) == evaluated
    slower = resolve("smoke", done.folder / "params", {"train.lr": 0.001})
    trained = [run for run in smoke.runs() if "train" in smoke.params[run[:2]].method_sections()]
    assert list(misfits(slower, results)) == [run_folder(results, *run) for run in trained]
    result = done.snakemake("all_tables", "--touch", setting="train.lr=0.001")
    assert result.returncode != 0
    assert "cannot be taken for these" in result.stdout
    told = ran(["adtr", "tables", "--study", "smoke", "--set", "train.lr=0.001", "--output", str(results)], done.folder)
    assert told.returncode == 1
    assert "runs of other parameters, such as" in told.stdout


def test_another_noise_makes_another_bank_and_trains_adtr_plus_alone(done: Workshop) -> None:
    planned = done.planned(setting="confetti.seed=1")
    assert (planned["confetti"], planned["features_of_anomalies"]) == (2, 2)
    assert planned["train"] == 4  # categories, seeds
    assert done.planned(setting="adtr_plus.alpha=0.1")["train"] == 8


def test_adtr_plus_starts_from_the_run_of_its_category_and_seed(done: Workshop) -> None:
    for folder in done.folder.glob("results/smoke/runs/*/adtr_plus/*/*"):
        base = folder.parents[2] / "adtr" / folder.parent.name / folder.name
        begun, record = (json.loads((path / "run.json").read_text()) for path in (base, folder))
        assert record["start"] == begun["model"]
        assert record["seed"] == begun["seed"] == int(folder.name)
    assert len(list(done.folder.glob("results/smoke/runs/*/adtr_plus/*/*"))) == 8


def test_every_error_in_the_parameters_is_told_before_the_first_job(done: Workshop) -> None:
    result = done.snakemake("all_tables", setting="train.epoch=5 model.heads=5")
    assert result.returncode != 0
    assert "unknown key, did you mean 'epochs'?" in result.stdout
    assert "not a multiple of heads 5" in result.stdout
    assert "Job stats" not in result.stdout
    assert "Traceback" not in result.stdout


def test_an_unknown_word_of_the_configuration_is_refused(done: Workshop) -> None:
    result = ran(["snakemake", "-n", "all_tables", "--config", "studdy=smoke"], done.folder)
    assert result.returncode != 0
    assert "not studdy" in result.stdout


def test_missing_data_is_told_once_before_the_first_job(done: Workshop) -> None:
    result = done.snakemake("all_tables", study="paper")
    assert result.returncode != 0
    assert result.stdout.count("MVTec-AD: data/mvtec") == 1
    assert "reads and checks the images" not in result.stdout


def test_a_lost_image_is_told_and_leaves_the_results_alone(done: Workshop) -> None:
    image = next((done.folder / "results/generated/smoke_mvtec/carpet/test").glob("[!g]*/000.png"))
    manifest = next(done.folder.glob("results/manifests/smoke_mvtec-*/carpet.csv")).relative_to(done.folder)
    before = (done.folder / "results/smoke/metrics.csv").read_bytes()
    kept = image.read_bytes()
    image.write_bytes(kept[: len(kept) // 2])
    try:
        result = done.snakemake(str(manifest), "--forcerun", "index")
    finally:
        image.write_bytes(kept)
    assert result.returncode != 0
    assert "not readable as an image" in result.stdout
    assert (done.folder / "results/smoke/metrics.csv").read_bytes() == before
    assert done.snakemake(str(manifest)).returncode == 0
    assert done.planned() == {}  # the same manifest again, by its content


def test_images_of_ones_own_without_masks(done: Workshop) -> None:
    made, own = done.folder / "results/generated/smoke_mvtec/carpet", done.folder / "data/own/01"
    shutil.copytree(made, own, ignore=lambda *_: {"ground_truth"})
    study = {
        "title": "Own", "recipe": "fast", "seeds": [0], "datasets": {"own": ["adtr", "adtr_plus", "padim"]},
        "define": {"own": {"title": "Own images", "layout": "mvtec", "root": "data/own"}},
        "set": yaml.safe_load((done.folder / "params/studies/smoke.yaml").read_text())["set"],
    }  # fmt: skip
    (done.folder / "params/studies/own.yaml").write_text(yaml.safe_dump(study))
    result = done.snakemake(*TARGETS, study="own")
    assert result.returncode == 0, result.stdout
    page = (done.folder / "reports/own/report.html").read_text()
    assert "no masks, so that nothing is measured by pixels" in page
    assert "ground truth" not in page
    assert "images of your own" in page


def test_the_plan_of_the_paper_needs_no_data(done: Workshop) -> None:
    result = done.snakemake("all_tables", "--dry-run", study="paper")
    assert result.returncode == 0, result.stdout
    assert "MVTec-AD: data/mvtec" in result.stdout.partition("Missing yet:")[2]
    assert re.search(r"^train\s+630$", result.stdout, re.MULTILINE)
    assert re.search(r"^fit\s+300$", result.stdout, re.MULTILINE)
