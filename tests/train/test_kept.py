"""Finished files under a second name."""

from pathlib import Path

import pytest

from adtr.train.kept import bring_back, keep


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "run/scores.csv", tmp_path / "run/maps.npy"]
    made[0].parent.mkdir()
    for number, file in enumerate(made):
        file.write_text(f"content {number}")
    return made


def test_deleted_files_are_brought_back(files: list[Path], tmp_path: Path) -> None:
    keep(tmp_path / "kept", "evaluate", files)
    for file in files:
        file.unlink()
    assert bring_back(tmp_path / "kept", "evaluate", files)
    assert [file.read_text() for file in files] == ["content 0", "content 1"]


def test_what_is_kept_takes_no_space_of_its_own(files: list[Path], tmp_path: Path) -> None:
    keep(tmp_path / "kept", "evaluate", files)
    assert all((tmp_path / "kept" / file.name).samefile(file) for file in files)


def test_files_of_other_work_stay_where_they_are(files: list[Path], tmp_path: Path) -> None:
    keep(tmp_path / "kept", "evaluate", files)
    files[0].unlink()
    assert not bring_back(tmp_path / "kept", "evaluate otherwise", files)
    assert not files[0].exists()


def test_damaged_or_missing_files_are_not_brought_back(files: list[Path], tmp_path: Path) -> None:
    keep(tmp_path / "kept", "evaluate", files)
    (tmp_path / "kept/maps.npy").write_text("cut")
    assert not bring_back(tmp_path / "kept", "evaluate", files)
    (tmp_path / "kept/maps.npy").unlink()
    assert not bring_back(tmp_path / "kept", "evaluate", files)
    assert not bring_back(tmp_path / "nothing", "evaluate", files)


def test_a_file_that_was_not_kept_is_to_be_made(files: list[Path], tmp_path: Path) -> None:
    keep(tmp_path / "kept", "evaluate", files)
    assert not bring_back(tmp_path / "kept", "evaluate", [*files, tmp_path / "run/curve.csv"])
