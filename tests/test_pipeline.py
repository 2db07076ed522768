"""The study `smoke` from end to end, in a fresh copy of the repository."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score
from workshop import TARGETS, Workshop, ran

from adtr.config.paths import Paths
from adtr.config.study import EVALUATED, Plan, resolve
from adtr.train.outdated import outdated

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
    assert runs == 8 * 2 + 4  # experiments of both data sets, categories
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
    assert planned["train"] == 5 * 2 + 2  # ADTR, its ablations, ADTR+; not the autoencoder
    assert "fit" not in planned  # the other baselines
    assert "features" not in planned
    assert "index" not in planned


def test_a_new_method_and_a_new_backbone_rerun_nothing_of_the_others(done: Workshop) -> None:
    made = [done.folder / "adtr/methods/guess.py", done.folder / "adtr/features/backbones/mobilenet.py"]
    for path in made:
        path.write_text('"""New."""\n\nX = 1\n')
    methods = "adtr/config/methods.py"
    section = "class Guess(Method):\n    random: ClassVar[bool] = False\n\n\nclass Params(Section):"
    try:
        assert done.planned() == {}
        with (
            done.edited(methods, "class Params(Section):", section),
            done.edited(methods, "    padim: Padim\n", "    padim: Padim\n    guess: Guess\n"),
            done.edited("params/default.yaml", "padim:\n", "guess: {}\n\npadim:\n"),
        ):
            assert set(done.planned()) == {"write_report", "report"}  # the page names the values of default.yaml
    finally:
        for path in made:
            path.unlink()


def test_an_edited_table_retrains_nothing(done: Workshop) -> None:
    for name, old in (("params/tables.yaml", "Ablation study"), ("adtr/tables/render.py", "DASH = ")):
        with done.edited(name, old, "Ablations" if name.endswith("yaml") else "LINE = 1\nDASH = "):
            planned = done.planned()
        assert set(planned) <= {"tables", "dataset_figures", "write_report", *TARGETS}
        assert planned["tables"] == 1


def test_a_parameter_on_the_command_line_reruns_what_it_decides(done: Workshop) -> None:
    pooled = done.planned(setting="score.pooling=2")
    assert pooled["evaluate"] == 20
    assert "train" not in pooled
    assert done.planned(setting="train.lr=0.001")["train"] == 14
    refitted = done.planned(setting="padim.channels=7")
    assert refitted["fit"] == 2
    assert "train" not in refitted


def test_runs_of_other_parameters_are_not_taken_for_these(done: Workshop, smoke: Plan) -> None:
    paths = Paths(smoke, done.folder)
    assert list(outdated(paths)) == []
    pooled = resolve("smoke", done.folder / "params", {"score.pooling": 2})
    assert set(outdated(Paths(pooled, done.folder))) == {
        paths.run(run) / name for run in smoke.runs() for name in EVALUATED
    }
    slower = resolve("smoke", done.folder / "params", {"train.lr": 0.001})
    trained = [paths.run(run) for run in smoke.runs() if smoke.params[run[:2]].trains]
    assert list(outdated(Paths(slower, done.folder))) == trained
    result = ran(["adtr", "tables", "--study", "smoke", "--set", "train.lr=0.001"], done.folder)
    assert result.returncode == 1
    assert "other parameters" in result.stdout


def test_another_noise_makes_another_bank_and_trains_adtr_plus_alone(done: Workshop) -> None:
    planned = done.planned(setting="confetti.seed=1")
    assert (planned["confetti"], planned["features_of_anomalies"]) == (2, 2)
    assert planned["train"] == 2  # categories


def test_adtr_plus_starts_from_the_run_of_its_category_and_seed(done: Workshop) -> None:
    folders = list(done.folder.glob("results/smoke/runs/*/adtr_plus/*/*"))
    for folder in folders:
        base = folder.parents[2] / "adtr" / folder.parent.name / folder.name
        begun, record = (json.loads((path / "run.json").read_text()) for path in (base, folder))
        assert record["start"] == begun["model"]
        assert record["seed"] == begun["seed"] == int(folder.name)
    assert len(folders) == 3


def test_every_error_in_the_parameters_is_told_before_the_first_job(done: Workshop) -> None:
    result = done.snakemake("all_tables", setting="train.epoch=5 model.heads=5")
    assert result.returncode != 0
    assert "unknown key, did you mean 'epochs'?" in result.stdout
    assert "not a multiple of heads 5" in result.stdout
    assert "Job stats" not in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(("target", "like"), [("reprot", "report"), ("table5", "table4"), ("all-tables", "all_tables")])
def test_a_target_that_does_not_exist_is_told_with_those_that_do(target: str, like: str, done: Workshop) -> None:
    result = done.snakemake(target)
    assert result.returncode != 0
    assert f"no target '{target}', did you mean '{like}'?; targets: all_tables, table1" in result.stdout


def test_missing_data_is_named_once_before_the_first_job(done: Workshop) -> None:
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
        "title": "Own", "recipe": "fast", "seeds": [0], "datasets": {"own": ["padim"]},
        "define": {"own": {"title": "Own images", "layout": "mvtec", "root": "data/own"}},
        "set": yaml.safe_load((done.folder / "params/studies/smoke.yaml").read_text())["set"],
    }  # fmt: skip
    (done.folder / "params/studies/own.yaml").write_text(yaml.safe_dump(study))
    result = done.snakemake(*TARGETS, study="own")
    assert result.returncode == 0, result.stdout
    page = (done.folder / "reports/own/report.html").read_text()
    assert "no masks" in page
    assert "ground truth" not in page
    assert "images of your own" in page


def test_the_plan_of_the_paper_needs_no_data_and_fits_a_screen(done: Workshop) -> None:
    result = done.snakemake("all_tables", "--dry-run", study="paper")
    assert result.returncode == 0, result.stdout
    assert "MVTec-AD: data/mvtec" in result.stdout.partition("Missing:")[2]
    assert re.search(r"^train\s+630$", result.stdout, re.MULTILINE)
    assert re.search(r"^fit\s+200$", result.stdout, re.MULTILINE)
    lines = result.stdout.splitlines()
    assert len(lines) < 150
    assert max(map(len, lines)) <= 200


LOOKS = ["--dry-run all_tables", "--list-rules", "--lint", "--report page.html", "--generate-unit-tests made"]


@pytest.mark.parametrize("words", LOOKS)
def test_looking_changes_nothing_on_disk(words: str, done: Workshop) -> None:
    before = listing(done.folder)
    result = done.snakemake(*words.split())
    assert result.returncode == 0 or words == "--lint", result.stdout
    changed = {name for name, state in listing(done.folder).items() if before.get(name) != state}
    assert {name for name in changed if not name.startswith("made/")} <= {"page.html"}
    assert set(before) <= set(listing(done.folder))


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file but Snakemake's own."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    named = ((str(path.relative_to(folder)), path.stat()) for path in files)
    own = (".snakemake/", "logs/", "__pycache__")
    return {name: (s.st_size, s.st_mtime_ns) for name, s in named if not any(word in name for word in own)}


def test_the_linter_asks_for_nothing_but_an_environment_a_rule(done: Workshop) -> None:
    titles = set(re.findall(r"^    \* (.*):$", done.snakemake("--lint").stdout, re.MULTILINE))
    assert titles == {"Specify a conda environment or container for each rule."}  # why none: docs/design.md


def test_another_workflow_uses_this_one_as_a_module(done: Workshop, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        f"""
module bench:
    snakefile: "{done.folder}/Snakefile"
    config: {{"study": "smoke"}}

use rule * from bench as bench_*

rule all:
    default_target: True
    input: "results/smoke/runs/smoke_mvtec/padim/carpet/0/metrics.csv"
"""
    )
    words = ["snakemake", "--cores", "2", "--snakefile", str(tmp_path / "Snakefile"), "--directory", str(tmp_path)]
    result = ran(words, tmp_path, PYTHONPATH=str(done.folder))
    assert result.returncode == 0, result.stdout
    run = "results/smoke/runs/smoke_mvtec/padim/carpet/0/model.safetensors"
    assert (tmp_path / run).read_bytes() == (done.folder / run).read_bytes()
