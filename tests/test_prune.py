"""What a study no longer names is removed, and nothing else."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from adtr.figures import all_files
from adtr.prune import prune
from adtr.study import Plan, run_folder


@pytest.fixture
def results(smoke: Plan, tmp_path: Path) -> Path:
    """What the study made, as empty files."""
    results = tmp_path / "results/smoke"
    touch(run_folder(results, *run) / "model.safetensors" for run in smoke.runs())
    touch(results / "figures" / name for name in all_files(smoke))
    others = ["smoke/differences/smoke_mvtec/adtr/carpet/0.npz", "smoke/tables/table1.csv", "features/a/b.npy"]
    touch(tmp_path / "results" / name for name in others)
    return results


def touch(files: Iterable[Path]) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def content(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.usefixtures("results")
def test_nothing_of_the_study_is_removed(smoke: Plan, tmp_path: Path) -> None:
    before = content(tmp_path)
    assert list(prune(smoke, tmp_path)) == []
    assert content(tmp_path) == before


def test_what_the_study_no_longer_names_is_removed(smoke: Plan, results: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    gone = {
        "runs/smoke_mvtec/adtr/grid": "0/run.json",
        "runs/smoke_mvtec/adtr/carpet/7": "run.json",
        "runs/elpv": "adtr/mono/0/run.json",
        "figures/smoke_mvtec/grid-roc.png": "",
        "tables/table9.csv": "",
        "differences/smoke_mvtec/adtr/grid": "0.npz",
    }
    touch(results / top / below for top, below in gone.items())
    assert set(prune(smoke, tmp_path)) == {results / top for top in gone}
    assert content(tmp_path) == before


def test_a_link_is_removed_and_not_what_it_leads_to(smoke: Plan, results: Path, tmp_path: Path) -> None:
    touch([tmp_path / "elsewhere/kept"])
    (results / "runs/link").symlink_to(tmp_path / "elsewhere")
    assert list(prune(smoke, tmp_path)) == [results / "runs/link"]
    assert (tmp_path / "elsewhere/kept").exists()
