"""The study `smoke` under DVC: recorded, pushed, pulled, interrupted, damaged. Snakemake's part was done before."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import cluster
import pytest
import yaml
from vouched import vouch
from workshop import TARGETS, Workshop, environment_of, ran, wait_for

from adtr.records import Record

pytestmark = pytest.mark.dvc

EVERYTHING = ["all_runs", *TARGETS, "plots"]
RUN = "results/smoke/runs/smoke_mvtec/adtr/carpet/0"


def dvc(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return ran(["dvc", *words], folder, **environment)


def well(folder: Path, *words: str, **environment: str) -> str:
    """What DVC said of something that it did."""
    result = dvc(folder, *words, **environment)
    assert result.returncode == 0, result.stdout
    return result.stdout


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Tests", "-c", "user.email=tests@localhost"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def recorded(done: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished study in a repository of its own, recorded by `dvc repro` and pushed to a folder."""
    folder = tmp_path_factory.mktemp("recorded") / "repository"
    shutil.copytree(done.folder, folder, symlinks=True, ignore=lambda *_: {"demo", "killed.log"})
    choice = folder / "params/reproduce.yaml"
    choice.write_text(choice.read_text().replace("study: demo", "study: smoke"))
    git(folder, "init", "--quiet")
    well(folder, "repro")
    well(folder, "remote", "add", "--default", "store", str(folder.parent / "store"))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "smoke, reproduced")
    well(folder, "push")
    return folder


@pytest.fixture
def clone(recorded: Path, tmp_path: Path) -> Path:
    """A fresh clone, in which nothing was pulled."""
    folder = tmp_path / "clone"
    git(recorded, "clone", "--quiet", str(recorded), str(folder))
    return folder


@pytest.fixture(scope="session")
def base(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with all files, known to Snakemake by the documented command."""
    folder = tmp_path_factory.mktemp("base") / "clone"
    git(recorded, "clone", "--quiet", str(recorded), str(folder))
    well(folder, "pull")
    known(folder)
    return folder


@pytest.fixture
def pulled(base: Path, tmp_path: Path) -> Path:
    """A copy of that clone, which a test may change."""
    shutil.copytree(base, tmp_path / "clone", symlinks=True)
    return tmp_path / "clone"


def known(folder: Path) -> None:
    result = snakemake(folder, *EVERYTHING, "--forceall", "--touch")
    assert result.returncode == 0, result.stdout


def snakemake(folder: Path, *words: str, setting: str = "") -> subprocess.CompletedProcess[str]:
    return ran(Workshop.command(*words, setting=setting), folder)


def test_a_second_reproduction_does_nothing(recorded: Path) -> None:
    assert "Data and pipelines are up to date." in well(recorded, "repro")


def test_metrics_come_with_the_files(pulled: Path) -> None:
    metrics = json.loads(well(pulled, "metrics", "show", "--json"))[""]["data"]["results/smoke/metrics.json"]["data"]
    assert 0 <= metrics["smoke_mvtec"]["adtr"]["image_auroc"]["mean"] <= 100
    assert (pulled / "results/smoke/tables/table1.md").is_file()


def test_results_are_not_in_git(clone: Path) -> None:
    assert git(clone, "ls-files", "results").split() == ["results/README.md"]


def test_plots_need_no_network(pulled: Path) -> None:
    well(pulled, "plots", "show", "--out", "plots")
    page = (pulled / "plots/index.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert page.count("vegaEmbed('#") == 3


def test_what_was_pulled_is_up_to_date_and_parameters_count(pulled: Path) -> None:
    assert "Nothing to be done" in snakemake(pulled, *EVERYTHING, "--dry-run").stdout
    assert "up to date" in well(pulled, "status")
    planned = snakemake(pulled, "all_tables", "--dry-run", setting="train.lr=0.001").stdout
    assert "train " in planned.partition("Job stats:")[2]


@pytest.mark.slow
@pytest.mark.parametrize("links", ["hardlink", "symlink"])
def test_with_links_to_the_cache_it_is_as_well(links: str, clone: Path, recorded: Path) -> None:
    well(clone, "config", "--local", "cache.type", links)
    well(clone, "pull")
    known(clone)
    assert "Nothing to be done" in snakemake(clone, *EVERYTHING, "--dry-run").stdout
    assert "up to date" in well(clone, "status")
    model = clone / RUN / "model.safetensors"
    assert (model.is_symlink(), model.stat().st_nlink > 1) == (links == "symlink", links == "hardlink")
    scores = (recorded / RUN / "scores.csv").read_bytes()
    result = snakemake(clone, f"{RUN}/scores.csv", "--force")
    assert result.returncode == 0, result.stdout
    assert (clone / RUN / "scores.csv").read_bytes() == scores
    assert "up to date" in well(clone, "status")


@pytest.mark.slow
def test_what_was_lost_or_made_otherwise_is_made_again_and_an_interrupted_reproduction_goes_on(pulled: Path) -> None:
    """A model and a feature store are gone, a run is of other parameters, and DVC is killed in the midst."""
    model, store = (
        pulled / RUN / "model.safetensors",
        next((pulled / "results/features").glob("smoke_mvtec-*/*/carpet.npy")),
    )
    before = [file.read_bytes() for file in (model, store)]
    model.unlink()
    store.unlink()
    record = pulled / RUN.replace("/adtr/", "/padim/") / "run.json"
    whole = Record(record)
    record.unlink()
    vouch(record, json.loads(json.dumps(whole.values).replace('"channels": 100', '"channels": 99')), *whole.files)
    said = pulled / "killed.log"
    with said.open("w") as log:
        process = subprocess.Popen(
            ["dvc", "repro"], cwd=pulled, env=environment_of(pulled), start_new_session=True, stdout=log, stderr=log
        )
    wait_for(lambda: "Running stage" in said.read_text(), "the first to have DVC's lock")
    second = dvc(pulled, "repro")
    assert second.returncode != 0
    assert f"(PID {process.pid})" in second.stdout
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert snakemake(pulled, "--unlock").returncode == 0
    again = well(pulled, "repro")
    assert f"removed {record.parent.relative_to(pulled)}" in said.read_text() + again
    assert '"channels": 100' in record.read_text()
    assert [file.read_bytes() for file in (model, store)] == before
    assert "up to date" in well(pulled, "status")


def test_a_damaged_file_of_the_cache_is_named_and_fetched_again(clone: Path) -> None:
    well(clone, "fetch")
    record = next(out for out in lock(clone)["stages"]["checkpoints"]["outs"] if out["path"].endswith("runs"))
    listing = json.loads(cached(clone, record["md5"]).read_text())
    item = next(item for item in listing if item["relpath"].endswith("model.safetensors"))
    damaged = cached(clone, item["md5"])
    damaged.chmod(0o644)
    damaged.write_bytes(b"damaged")
    well(clone, "checkout")
    assert "not in cache" in well(clone, "status")
    assert item["relpath"] in well(clone, "data", "status", "--granular")
    (clone / "results/smoke/runs" / item["relpath"]).unlink()  # DVC takes the copy of the damaged file for whole
    well(clone, "pull")
    assert "up to date" in well(clone, "status")
    assert (clone / "results/smoke/runs" / item["relpath"]).stat().st_size > 1000


def cached(folder: Path, digest: str) -> Path:
    return folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def lock(folder: Path) -> dict:
    return yaml.safe_load((folder / "dvc.lock").read_text())


def test_data_of_ones_own_goes_to_the_remote_and_back(clone: Path, tmp_path: Path) -> None:
    own = clone / "data/own/01/train/good"
    own.mkdir(parents=True)
    (own / "x.png").write_bytes(b"an image")
    well(clone, "add", "data/own")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "own data")
    assert "data/own.dvc" in git(clone, "ls-files")
    assert "x.png" not in git(clone, "ls-files")
    well(clone, "push", "data/own")
    git(clone, "clone", "--quiet", str(clone), str(tmp_path / "other"))
    well(tmp_path / "other", "pull")
    assert (tmp_path / "other" / own.relative_to(clone) / "x.png").read_bytes() == b"an image"


@pytest.mark.slow
def test_a_variant_is_compared_and_left_again(pulled: Path) -> None:
    well(pulled, "exp", "run", "-S", "params/default.yaml:padim.channels=7")
    assert "padim.channels" in well(pulled, "params", "diff")
    changed = json.loads(well(pulled, "metrics", "diff", "--json"))["results/smoke/metrics.json"]
    assert {name.split(".")[1] for name in changed} == {"padim"}
    git(pulled, "restore", ".")
    refused = ran(["adtr", "tables", "--study", "smoke"], pulled)
    assert "runs of other parameters" in refused.stdout
    well(pulled, "checkout")
    known(pulled)
    assert "up to date" in well(pulled, "status")


@pytest.mark.slurm
def test_a_profile_runs_the_stages_on_a_cluster(slurm: Path, pulled: Path) -> None:
    model = pulled / RUN / "model.safetensors"
    before = model.read_bytes()
    shutil.rmtree(pulled / RUN)
    well(pulled, "repro", SNAKEMAKE_PROFILE="slurm")
    assert model.read_bytes() == before
    assert "up to date" in well(pulled, "status")
    ours = [job for job in cluster.ended(slurm) if job["WorkDir"] == str(pulled)]
    assert ours
    assert {job["JobState"] for job in ours} == {"COMPLETED"}


@pytest.mark.slow
def test_a_category_that_the_study_no_longer_has_leaves_nothing(pulled: Path) -> None:
    study = pulled / "params/studies/smoke.yaml"
    text = study.read_text()
    assert "smoke_cifar10: [adtr, adtr_plus, spade, kde]" in text
    study.write_text(text.replace(", spade, kde]", ", spade]"))
    well(pulled, "repro")
    assert not list(pulled.glob("results/smoke/**/kde"))
    assert "kde" not in (pulled / "results/smoke/metrics.csv").read_text()
    assert "up to date" in well(pulled, "status")
