"""What a study no longer names is removed, and nothing else."""

from pathlib import Path

import pytest

from adtr.figures import all_files
from adtr.prune import prune
from adtr.study import Plan, resolve, run_folder

ROOT = Path(__file__).parent.parent


@pytest.fixture
def plan() -> Plan:
    return resolve("smoke", ROOT / "params")


@pytest.fixture
def results(plan: Plan, tmp_path: Path) -> Path:
    """What the study made, as empty files."""
    results = tmp_path / "results/smoke"
    files = [run_folder(results, *run) / "run.json" for run in plan.runs()]
    files += [results / "figures" / name for name in all_files(plan)]
    files += [
        results / "differences/smoke_mvtec/adtr/carpet/0.npz",
        results / "tables/table1.csv",
        results / "metrics.csv",
        tmp_path / "results/features/a/b.npy",
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return results


def content(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_nothing_of_the_study_is_removed(plan: Plan, results: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    assert results.is_dir()
    assert list(prune(plan, tmp_path)) == []
    assert content(tmp_path) == before


def test_what_the_study_no_longer_names_is_removed(plan: Plan, results: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    gone = [
        results / "runs/smoke_mvtec/adtr/grid/0/run.json",
        results / "runs/smoke_mvtec/adtr/carpet/7/run.json",
        results / "runs/elpv/adtr/mono/0/run.json",
        results / "figures/smoke_mvtec/grid-roc.png",
        results / "tables/table9.csv",
        results / "differences/smoke_mvtec/adtr/grid/0.npz",
    ]
    for file in gone:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    removed = set(prune(plan, tmp_path))
    assert content(tmp_path) == before
    top = ["runs/smoke_mvtec/adtr/grid", "runs/smoke_mvtec/adtr/carpet/7", "runs/elpv"]
    top += ["differences/smoke_mvtec/adtr/grid"]
    assert removed == {results / name for name in [*top, "figures/smoke_mvtec/grid-roc.png", "tables/table9.csv"]}


def test_a_link_is_removed_and_not_what_it_leads_to(plan: Plan, results: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").touch()
    (results / "runs/link").symlink_to(tmp_path / "elsewhere")
    assert list(prune(plan, tmp_path)) == [results / "runs/link"]
    assert (tmp_path / "elsewhere/kept").exists()
