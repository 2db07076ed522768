"""The study `smoke` from end to end, in a fresh copy of the repository."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

pytestmark = pytest.mark.pipeline

HERE = Path(__file__).parent.parent
TARGETS = ["all_tables", "figures", "report"]


class Workshop:
    """A copy of the repository's files, in which Snakemake runs with the copy's own package."""

    def __init__(self, folder: Path):
        self.folder = folder
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=HERE, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for name in names:
            if (HERE / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(HERE / name, folder / name)
        self.environment = os.environ | {"PYTHONPATH": str(folder)}

    def snakemake(self, *words: str, study: str = "smoke", setting: str = "") -> subprocess.CompletedProcess[str]:
        """Runs Snakemake; its whole output is in stdout."""
        settings = [f"set={setting}"] if setting else []
        command = ["snakemake", *words, "--config", f"study={study}", *settings]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def planned(self, *words: str, setting: str = "") -> dict[str, int]:
        """How many jobs of each rule a dry run plans."""
        result = self.snakemake(*(words or TARGETS), "--dry-run", setting=setting)
        assert result.returncode == 0, result.stdout
        table = result.stdout.partition("Job stats:")[2].partition("total")[0]
        return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}

    def edited(self, name: str, old: str, new: str) -> "Edit":
        return Edit(self.folder / name, old, new)


class Edit:
    """Changes a file of the copy for the length of a block, its times as they were afterwards."""

    def __init__(self, path: Path, old: str, new: str):
        self.path, self.old, self.new = path, old, new

    def __enter__(self) -> None:
        self.text, self.stat = self.path.read_text(), self.path.stat()
        assert self.old in self.text
        self.path.write_text(self.text.replace(self.old, self.new, 1))

    def __exit__(self, *_: object) -> None:
        self.path.write_text(self.text)
        os.utime(self.path, ns=(self.stat.st_atime_ns, self.stat.st_mtime_ns))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The study, run once: killed in the midst of its trainings, then resumed by the same command."""
    shop = Workshop(tmp_path_factory.mktemp("clone"))
    command = ["snakemake", *TARGETS, "--config", "study=smoke"]
    killed = subprocess.Popen(
        command, cwd=shop.folder, env=shop.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(shop.folder.glob("results/smoke/*/*/*/*/run.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert list(shop.folder.glob("results/smoke/*/*/*/*/run.json")), "no training ended within two minutes"
    assert not (shop.folder / "results/smoke/metrics.csv").exists()
    shop.snakemake("--unlock")
    result = shop.snakemake(*TARGETS)
    assert result.returncode == 0, result.stdout
    return shop


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
        run = done.folder / f"results/smoke/{row.dataset}/{row.experiment}/{row.category}/{row.seed}"
        scores = pd.read_csv(run / "scores.csv").query("split == 'test'")
        assert row.value == pytest.approx(100 * roc_auc_score(scores.label, scores.pred_score), abs=1e-9)


def test_a_second_run_does_nothing(done: Workshop) -> None:
    assert done.planned() == {}


def test_an_edited_loss_retrains_adtr_alone_and_keeps_the_features(done: Workshop) -> None:
    with done.edited("adtr/losses.py", ".mean()", ".mean() * 1.0"):
        planned = done.planned()
    assert planned["train"] == (8 + 2) * 2 * 2  # ADTR, its ablations, ADTR+; not the autoencoder
    assert "fit" not in planned  # the other baselines
    assert "features" not in planned
    assert "index" not in planned


def test_an_edited_comment_reruns_nothing(done: Workshop) -> None:
    with done.edited("adtr/losses.py", "from torch", "# a comment\nfrom torch"):
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


def test_another_noise_makes_another_bank_and_trains_adtr_plus_alone(done: Workshop) -> None:
    planned = done.planned(setting="confetti.seed=1")
    assert (planned["confetti"], planned["features_of_anomalies"]) == (2, 2)
    assert planned["train"] == 4  # categories, seeds
    assert done.planned(setting="adtr_plus.alpha=0.1")["train"] == 8


def test_adtr_plus_starts_from_the_run_of_its_category_and_seed(done: Workshop) -> None:
    for folder in done.folder.glob("results/smoke/*/adtr_plus/*/*"):
        base = folder.parents[2] / "adtr" / folder.parent.name / folder.name
        begun, record = (json.loads((path / "run.json").read_text()) for path in (base, folder))
        assert record["start"] == begun["model"]
        assert record["seed"] == begun["seed"] == int(folder.name)
    assert len(list(done.folder.glob("results/smoke/*/adtr_plus/*/*"))) == 8


def test_every_error_in_the_parameters_is_told_before_the_first_job(done: Workshop) -> None:
    result = done.snakemake("all_tables", setting="train.epoch=5 model.heads=5")
    assert result.returncode != 0
    assert "unknown key, did you mean 'epochs'?" in result.stdout
    assert "not a multiple of heads 5" in result.stdout
    assert "Job stats" not in result.stdout
    assert "Traceback" not in result.stdout


def test_an_unknown_word_of_the_configuration_is_refused(done: Workshop) -> None:
    result = subprocess.run(
        ["snakemake", "-n", "all_tables", "--config", "studdy=smoke"],
        cwd=done.folder, env=done.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode != 0
    assert "not studdy" in result.stdout + result.stderr


def test_missing_data_is_told_once_before_the_first_job(done: Workshop) -> None:
    result = done.snakemake("all_tables", study="paper")
    assert result.returncode != 0
    assert result.stdout.count("MVTec-AD: data/mvtec") == 1
    assert "reads and checks the images" not in result.stdout


def test_a_lost_image_is_told_and_leaves_the_results_alone(done: Workshop) -> None:
    image = next((done.folder / "data/generated/smoke_mvtec/carpet/test").glob("[!g]*/000.png"))
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
    made, own = done.folder / "data/generated/smoke_mvtec/carpet", done.folder / "data/own/01"
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
    assert "Not measured: the data set has no masks." in page
    assert "ground truth" not in page
    assert "images of your own" in page


def test_the_plan_of_the_paper_needs_no_data(done: Workshop) -> None:
    result = done.snakemake("all_tables", "--dry-run", study="paper")
    assert result.returncode == 0, result.stdout
    assert re.search(r"^train\s+630$", result.stdout, re.MULTILINE)
    assert re.search(r"^fit\s+300$", result.stdout, re.MULTILINE)
