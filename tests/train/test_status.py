"""How far a training has come, for whoever asks from outside."""

import errno
import fcntl
import json
import os
import time
from pathlib import Path

import planted
import pytest

from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.files import write_text
from adtr.records import write_only
from adtr.train import status
from adtr.train.lock import is_held, locked
from adtr.train.status import Progress, latest_report, status_table


def test_a_training_says_how_far_it_has_come(case: planted.Case, tmp_path: Path) -> None:
    assert latest_report(tmp_path / "state") is None
    planted.run(case, tmp_path, train={"epochs": 3})
    found = latest_report(tmp_path / "state")
    assert found is not None
    assert (found["epoch"], found["epochs"]) == (3, 3)
    assert found["loss"] > 0
    assert found["seconds_per_epoch"] > 0
    assert 0 <= time.time() - found["time"] < 60


def test_a_method_without_epochs_says_nothing(case: planted.Case, tmp_path: Path) -> None:
    planted.run(case, tmp_path, "spade")
    assert latest_report(tmp_path / "state") is None
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


@pytest.mark.parametrize(("age", "state", "left"), [(40, "at work", "1"), (700, "interrupted", "2")])
def test_the_latest_of_several_sets_of_parameters_counts(
    age: int, state: str, left: str, smoke: Plan, tmp_path: Path
) -> None:
    paths, run = Paths(smoke, tmp_path), next(iter(smoke.runs()))
    for name, older, epoch in (("a", -10, 3), ("b", 0, 1), ("c", 500, 2)):
        report = {"epoch": epoch, "epochs": 4, "loss": 0.5, "seconds_per_epoch": 40, "time": time.time() - age - older}
        write_text(paths.state(run) / name / "progress.json", json.dumps(report))
    (paths.state(run) / "a/progress.json").write_text("{")  # half a file, of another version
    lines = [line.split() for line in status_table(paths).splitlines()]
    assert [*state.split(), str(run), "1/4", "0.5", left] in lines


def test_a_finished_training_of_other_parameters_is_none_of_these(smoke: Plan, tmp_path: Path) -> None:
    paths, run = Paths(smoke, tmp_path), next(iter(smoke.runs()))
    report = {"epoch": 4, "epochs": 4, "loss": 0.5, "seconds_per_epoch": 40, "time": time.time() - 700}
    write_text(paths.state(run) / "a/progress.json", json.dumps(report))
    assert "1 interrupted" in status_table(paths)  # its last file is still to be written
    write_only(paths.run(run) / "run.json", {"method": "adtr", "params": {}, "features": {"features": {}}})
    assert "0 interrupted" in status_table(paths)


@pytest.mark.parametrize(("experiment", "epochs"), [("adtr", ["0/4"]), ("padim", [])])
def test_a_fit_without_a_report_yet_is_at_work(experiment: str, epochs: list[str], smoke: Plan, tmp_path: Path) -> None:
    paths = Paths(smoke, tmp_path)
    run = next(run for run in smoke.runs() if run.experiment == experiment)
    with locked(paths.state(run)):
        lines = [line.split() for line in status_table(paths).splitlines()]
        assert ["at", "work", str(run), *epochs] in lines
    assert "0 at work, 0 interrupted" in status_table(paths)


def test_where_nobody_can_tell_nothing_is_at_work(smoke: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, run = Paths(smoke, tmp_path), next(iter(smoke.runs()))
    write_text(paths.state(run) / "lock", "of an earlier training")

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    assert is_held(paths.state(run)) is None
    assert "0 at work, 0 interrupted" in status_table(paths)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "7", '"a"', "null", '{"time": "x"}', '{"time": NaN, "epoch": 1}', "{" * 5000, "\udcff"]
)
def test_a_damaged_report_counts_as_none(content: str, smoke: Plan, tmp_path: Path) -> None:
    paths, run = Paths(smoke, tmp_path), next(iter(smoke.runs()))
    (folder := paths.state(run) / "a").mkdir(parents=True)
    (folder / "progress.json").write_bytes(content.encode(errors="surrogateescape"))
    assert latest_report(paths.state(run)) is None
    assert "0 at work" in status_table(paths)


def test_a_pipe_in_place_of_a_report_blocks_nobody(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a/progress.json")
    assert latest_report(tmp_path) is None


def test_reports_are_written_every_few_seconds_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: clock[0])
    progress, epochs = Progress(tmp_path / "id", 12, done=2), []
    for epoch in range(3, 13):
        clock[0] += 2
        progress(epoch, loss=1 / epoch)
        epochs.append(json.loads((tmp_path / "id/progress.json").read_text())["epoch"])
    assert epochs == [3, 3, 3, 6, 6, 6, 9, 9, 9, 12]
    assert json.loads((tmp_path / "id/progress.json").read_text())["seconds_per_epoch"] == 2


def test_a_report_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    (tmp_path / "id").touch()
    Progress(tmp_path / "id", 2, done=0)(1, 0.5)
