"""How far a training has come, for whoever asks from outside."""

import json
import time
from pathlib import Path

import planted
import pytest

from adtr.train import status
from adtr.train.status import Progress, read_status


def test_a_training_says_how_far_it_has_come(case: planted.Case, tmp_path: Path) -> None:
    assert read_status(tmp_path / "state") is None
    planted.run(case, tmp_path, train={"epochs": 3})
    found = read_status(tmp_path / "state")
    assert found is not None
    assert (found.epoch, found.epochs, found.minutes_left) == (3, 3, 0)
    assert found.loss > 0
    assert 0 <= found.age < 60


def test_a_method_without_epochs_says_nothing(case: planted.Case, tmp_path: Path) -> None:
    planted.run(case, tmp_path, "spade")
    assert read_status(tmp_path / "state") is None
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


def test_the_latest_of_several_sets_of_parameters_counts(tmp_path: Path) -> None:
    for name, age, epoch in (("a", 100, 9), ("b", 40, 4), ("c", 500, 1)):
        report = {"epoch": epoch, "epochs": 10, "loss": 0.5, "seconds_per_epoch": 30, "time": time.time() - age}
        (tmp_path / name).mkdir()
        (tmp_path / name / "progress.json").write_text(json.dumps(report))
    (tmp_path / "a/progress.json").write_text("{")  # half a file, of another version
    found = read_status(tmp_path)
    assert found is not None
    assert (found.epoch, found.loss, found.minutes_left) == (4, 0.5, 3.0)
    assert found.age == pytest.approx(40, abs=5)


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
