"""What a study no longer names is removed, and nothing else."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from vouched import vouch

from adtr.config.paths import Paths
from adtr.config.study import EVALUATED, Plan, Run
from adtr.prune import prune


@pytest.fixture
def results(smoke: Plan, tmp_path: Path) -> Path:
    """What the study made, as empty files."""
    paths = Paths(smoke, tmp_path)
    results = paths.results
    touch(paths.run(run) / "model.safetensors" for run in smoke.runs())
    touch(paths.category_figures(run.dataset, run.category) / "roc.svg" for run in smoke.runs())
    touch(paths.dataset_figures(dataset) / "dots.svg" for dataset in smoke.datasets)
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
    assert list(prune(Paths(smoke, tmp_path))) == []
    assert content(tmp_path) == before


def test_what_the_study_no_longer_names_is_removed(smoke: Plan, results: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    gone = {
        "runs/smoke_mvtec/adtr/grid": "0/run.json",
        "runs/smoke_mvtec/adtr/carpet/7": "run.json",
        "runs/elpv": "adtr/mono/0/run.json",
        "figures/categories/smoke_mvtec/grid": "roc.png",
        "figures/datasets/elpv": "dots.svg",
        "tables/table9.csv": "",
        "differences/smoke_mvtec/adtr/grid": "0.npz",
    }
    touch(results / top / below for top, below in gone.items())
    assert set(prune(Paths(smoke, tmp_path))) == {results / top for top in gone}
    assert content(tmp_path) == before


def recorded(plan: Plan, run: Run) -> tuple[dict, dict]:
    """What training and evaluation write down of a run with the plan's parameters."""
    params = plan.params[run[:2]].decisive()
    sections = plan.params[run[:2]].method_sections()
    trained = {"method": params["method"], "seed": run.seed, "params": {name: params[name] for name in sections}}
    features = {"features": {"features": params["features"]}}
    return trained | features | {"model": "m"}, {"model": "m", "score": params["score"]}


# What differs in the records of the run, of its evaluation and of its start; which files are removed
OTHERS: dict[str, tuple[dict, dict, dict, list[str]]] = {
    "nothing": ({}, {}, {}, []),
    "training": ({"params": {"train": {}}}, {}, {}, [""]),
    "features": ({"features": {"features": {}}}, {}, {}, [""]),
    "start": ({}, {}, {"model": "t"}, [""]),
    "evaluation": ({}, {"score": {}}, {}, EVALUATED),
    "model": ({}, {"model": "other"}, {}, EVALUATED),
}


@pytest.mark.parametrize(("trained", "evaluated", "start", "removed"), OTHERS.values(), ids=OTHERS.keys())
def test_a_run_of_other_parameters_is_removed_or_its_evaluation(
    smoke: Plan, tmp_path: Path, trained: dict, evaluated: dict, start: dict, removed: list[str]
) -> None:
    paths, run = Paths(smoke, tmp_path), Run("smoke_mvtec", "adtr_plus", "carpet", 0)
    base, folder = run._replace(experiment="adtr"), paths.run(run)
    training, evaluation = recorded(smoke, run)
    touch([*(folder / name for name in EVALUATED), paths.run(base) / "run.json"])
    vouch(folder / "run.json", training | {"start": "s"} | trained)
    vouch(folder / "evaluation.json", evaluation | evaluated)
    vouch(paths.run(base) / "run.json", recorded(smoke, base)[0] | {"model": "s"} | start)
    assert set(prune(paths)) == {folder / name for name in removed}
    assert list(prune(paths)) == []


def test_an_evaluation_without_a_record_is_removed(smoke: Plan, tmp_path: Path) -> None:
    paths, run = Paths(smoke, tmp_path), next(iter(smoke.runs()))
    files = [paths.run(run) / name for name in EVALUATED if name != "evaluation.json"]
    touch(files)
    vouch(paths.run(run) / "run.json", recorded(smoke, run)[0])
    assert set(prune(paths)) == set(files)


def test_an_evaluation_whose_training_is_gone_is_left_alone(smoke: Plan, tmp_path: Path) -> None:
    folder = Paths(smoke, tmp_path).run(next(iter(smoke.runs())))
    folder.mkdir(parents=True)
    vouch(folder / "evaluation.json", {"model": "m", "score": {}})
    assert list(prune(Paths(smoke, tmp_path))) == []


def test_a_link_is_removed_and_not_what_it_leads_to(smoke: Plan, results: Path, tmp_path: Path) -> None:
    touch([tmp_path / "elsewhere/kept"])
    (results / "runs/link").symlink_to(tmp_path / "elsewhere")
    assert list(prune(Paths(smoke, tmp_path))) == [results / "runs/link"]
    assert (tmp_path / "elsewhere/kept").exists()
