"""Files that are whole and of their record, and in the place of others: of another category, or of another study."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from vouched import vouch_again

from adtr.cli import main
from adtr.config import PARAMS
from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.errors import UserError
from adtr.figures.stage import draw_category, draw_dataset
from adtr.report import stage as report
from adtr.tables import stage
from adtr.verify import verify

STUDY = ["--study", "smoke"]
CATEGORIES = ["carpet", "screw"]


@pytest.fixture(scope="module")
def paths(smoke: Plan) -> Paths:
    """Of the study smoke, one experiment of one data set."""
    dataset, experiment = "smoke_mvtec", "padim"
    study = smoke.study.model_copy(update={"datasets": {dataset: [experiment]}, "seeds": [0]})
    params = {(dataset, experiment): smoke.params[dataset, experiment]}
    return Paths(replace(smoke, study=study, datasets={dataset: smoke.datasets[dataset]}, params=params, outliers={}))


@pytest.fixture(scope="module")
def whole(paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["generate", *STUDY, "smoke_mvtec"])
        for category in CATEGORIES:
            main(["index", *STUDY, f"smoke_mvtec/{category}"])
            main(["shortcuts", *STUDY, f"smoke_mvtec/{category}"])
            main(["features", *STUDY, f"smoke_mvtec/padim/{category}"])
            main(["train", *STUDY, f"smoke_mvtec/padim/{category}/0"])
            main(["evaluate", *STUDY, f"smoke_mvtec/padim/{category}/0"])
            draw_category(paths, "smoke_mvtec", category)
        stage.write(paths, PARAMS)
    return folder


@pytest.fixture
def results(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(whole / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


def exchanged(place: Path, name: str, *files: str) -> None:
    """Puts what carpet has in the place of what screw has."""
    for file in files:
        shutil.copy(place / "carpet" / name / file, place / "screw" / name / file)


@pytest.mark.usefixtures("results")
def test_a_sound_study_has_no_problem(paths: Paths) -> None:
    made, problems = verify(paths)
    assert problems == []
    assert made > 40


def exchanged_run(results: Path) -> None:
    folder = results / "smoke/runs/smoke_mvtec/padim"
    exchanged(folder, "0", *(path.name for path in (folder / "carpet/0").iterdir()))


def exchanged_figures(results: Path) -> None:
    folder = results / "smoke/figures/categories/smoke_mvtec"
    exchanged(folder, "", *(path.name for path in (folder / "carpet").iterdir()))


def another_study(results: Path) -> None:
    metrics = results / "smoke/metrics.csv"
    metrics.write_text(metrics.read_text().replace("padim,screw", "padim,carpet"))
    vouch_again(results / "smoke/tables/record.json")


def other_labels(results: Path) -> None:
    (manifest,) = results.glob("manifests/*/screw.csv")
    manifest.write_text(manifest.read_text().replace(",1,test,blob,", ",0,test,good,", 1))
    vouch_again(manifest.with_suffix(".json"))


def record_of_a_store(results: Path) -> None:
    (store,), (shortcuts,) = results.glob("features/*/*/screw.json"), results.glob("shortcuts/*/screw.json")
    shutil.copy(store, shortcuts)


EXCHANGED: dict[Callable[[Path], None], list[str]] = {
    exchanged_run: ["padim/screw/0: trained on other images", "padim/screw/0/metrics.csv: the metrics of another run"],
    exchanged_figures: ["smoke_mvtec/screw: drawn of other scores"],
    another_study: ["metrics.csv: not the metrics of the study's runs"],
    record_of_a_store: [
        "screw.json: the record of something else, which has no files: remove it, then `adtr shortcuts`"
    ],
    other_labels: ["padim/screw/0/scores.csv: of other images or labels"],
}


@pytest.mark.parametrize("exchange", EXCHANGED)
def test_whole_files_in_the_place_of_others_are_named(
    exchange: Callable[[Path], None], results: Path, paths: Paths
) -> None:
    exchange(results)
    text = "\n".join(verify(paths)[1])
    for message in EXCHANGED[exchange]:
        assert message in text


@pytest.mark.parametrize("name", ["tables.yaml", "paper/table1.csv", "paper/table4.csv", "paper/third_party.csv"])
def test_a_digit_of_the_papers_numbers_that_changed_after_the_tables_is_noticed(
    name: str, results: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = shutil.copytree(PARAMS, results.parent / "params")
    monkeypatch.setattr("adtr.verify.PARAMS", params)
    assert verify(paths)[1] == []
    text = (params / name).read_text()
    (params / name).write_text(re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), text, count=1))
    message = f"{params / name}: not as it was for {paths.results}/tables/record.json"
    assert [problem.partition(": restore")[0] for problem in verify(paths)[1]] == [message]
    with pytest.raises(UserError, match=name):
        draw_dataset(paths, "smoke_mvtec", params)
    with pytest.raises(UserError, match=name):
        report.write(paths, params)


def test_a_run_of_another_category_is_not_evaluated(results: Path) -> None:
    exchanged_run(results)
    with pytest.raises(SystemExit, match="padim/screw/0: trained on other images than those of its category"):
        main(["evaluate", *STUDY, "smoke_mvtec/padim/screw/0"])
