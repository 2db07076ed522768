"""The command `adtr predict`: what it writes, what it skips, and that it needs nothing but the run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import adtr
from adtr.cli import main
from adtr.data.findings import shown
from adtr.errors import UserError
from adtr.predict.detector import Detector, Prediction, Then
from adtr.predict.names import cell, file_names


def predicted(*words: str) -> tuple[pd.DataFrame, int]:
    """predictions.csv and the exit code."""
    code = 0
    try:
        main(["predict", "run", *words, "--output", "out", "--threads", "2"])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return pd.read_csv("out/predictions.csv", dtype={"pred_score": np.float32}), code


@pytest.mark.usefixtures("alone")
def test_a_folder_gives_a_table_overlays_maps_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    table, code = predicted("today", "--maps")
    scores = pd.read_csv("run/scores.csv", dtype={"pred_score": np.float32})
    expected = dict(zip(scores.image.str.removeprefix("carpet/test"), scores.pred_score, strict=True))
    assert code == 0
    assert dict(zip(table.file.str.removeprefix("today"), table.pred_score, strict=True)) == expected
    assert (table.pred_label == (table.pred_score > table.threshold)).all()
    assert (table.milliseconds > 0).all()
    for row in table.itertuples():
        image = Image.open(str(row.file))
        map_ = np.load(Path("out/maps", Path(str(row.overlay)).stem).with_suffix(".npy"))
        assert (map_.shape, map_.dtype) == ((image.height, image.width), np.float32)
        assert max(Image.open(Path("out", str(row.overlay))).size) == 512
        assert map_[row.peak_y, row.peak_x] == pytest.approx(map_.max(), rel=0.05)
        assert (map_ > row.pixel_threshold).any() == (row.region_area > 0)
    marked = table.dropna(subset="region_area")
    assert len(marked) > 0
    assert (
        marked.region_area <= (marked.region_right - marked.region_left) * (marked.region_bottom - marked.region_top)
    ).all()
    said = capsys.readouterr().out
    assert f"{len(table)} images scored" in said
    assert f"{table.pred_label.sum()} anomalous" in said


@pytest.mark.usefixtures("alone")
def test_bad_images_are_named_and_the_others_scored(caplog: pytest.LogCaptureFixture) -> None:
    image = next(Path("today").glob("*/*.png"))
    Path("cut.png").write_bytes(image.read_bytes()[:200])
    Path("notes.png").write_text("not an image")
    Image.new("I;16", (8, 8)).save("deep.png")
    os.mkfifo("pipe.png")  # which blocks whoever opens it
    table, code = predicted("cut.png", str(image), "notes.png", "deep.png", "nowhere.png", "pipe.png")
    assert code == 3
    assert table.file.tolist() == [str(image)]
    skipped = [message for message in caplog.messages if message.startswith("skipped")]
    names = ["cut.png", "notes.png", "deep.png", "nowhere.png", "pipe.png"]
    assert [message.split()[1] for message in skipped] == [f"{name}:" for name in names]
    assert predicted("cut.png")[1] == 3


@pytest.mark.usefixtures("alone")
def test_what_lies_in_a_folder_and_cannot_be_opened_is_named(caplog: pytest.LogCaptureFixture) -> None:
    image, folder = next(Path("today").glob("*/*.png")), Path("odd")
    folder.mkdir()
    for name, target in {"a.png": str(image.resolve()), "b.png": "gone.png", "c.png": "c.png", "d": "."}.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "e.png")
    table, code = predicted("odd")
    assert (table.file.tolist(), code) == (["odd/a.png"], 3)
    skipped = [message.split()[1] for message in caplog.messages if message.startswith("skipped")]
    assert skipped == ["odd/b.png:", "odd/c.png:", "odd/e.png:"]


@pytest.mark.usefixtures("alone")
def test_nothing_to_score_is_an_error() -> None:
    Path("empty").mkdir()
    with pytest.raises(SystemExit, match="adtr predict: no image to score"):
        main(["predict", "run", "empty", "--output", "out"])
    with pytest.raises(SystemExit, match="today: no run is there"):
        main(["predict", "today", "today", "--output", "out"])
    assert not Path("out").exists()


def test_names_of_any_bytes_are_safe(alone: Path) -> None:
    """By standard input, ended by NUL; a formula, a line break, a terminal's escape, bytes that are no UTF-8."""
    image = next(Path("today").glob("*/*.png"))
    names = [b"=cmd|' C calc'!A0.png", b"-2+3.png", b"@a.png", b"a\nb.png", b"\x1b[31m.png", b"\xff\xfe.png", b"x:12"]
    for name in names:
        shutil.copy(image, os.fsdecode(name))
    command = [sys.executable, "-c", "from adtr.cli import main; main()", "predict", "run", "--output", "out", "-"]
    done = subprocess.run(command, input=b"\0".join(names), capture_output=True, cwd=alone, check=False)
    assert done.returncode == 0, done.stderr
    raw = Path("out/predictions.csv").read_bytes()
    assert b"\x1b" not in raw
    assert raw.decode().count("\n") == 1 + len(names)
    files = pd.read_csv("out/predictions.csv").file.tolist()
    assert files[:4] == ["./=cmd|' C calc'!A0.png", "./-2+3.png", "./@a.png", "a\\nb.png"]
    assert len(list(Path("out/overlays").iterdir())) == len(names)


def test_names_of_pictures_are_each_once_on_any_system() -> None:
    paths = [
        Path(name) for name in ("a/1.png", "b/1.png", "B/1.PNG", "c/..png", "d/ü é.png", "e/" + 250 * "x" + ".png")
    ]
    names = file_names(paths)
    assert names[:3] == ["1", "1-2", "1-3"]
    assert len({name.lower() for name in names}) == len(names)
    assert all(name.isascii() and 0 < len(name) <= 104 and not name.startswith(".") for name in names)


@pytest.mark.parametrize(("name", "text"), [("+1", "./+1"), ("a\u202eb", "a\\u202eb"), ("für 1.png", "für 1.png")])
def test_a_cell_is_no_formula_and_one_line(name: str, text: str) -> None:
    assert cell(name) == text
    assert shown(name) == text.removeprefix("./")


@pytest.mark.usefixtures("alone")
def test_pictures_of_an_earlier_prediction_are_not_scored() -> None:
    first = len(predicted("today")[0])
    assert first == len(predicted("today", "run", ".")[0]) - first  # '.' has the same images, and out/ is left out


@pytest.mark.usefixtures("alone")
def test_results_may_lie_above_the_images_and_what_programs_leave_behind_is_no_image() -> None:
    images = sorted(Path("today").rglob("*.png"))
    for name in ("today/._a.png", "today/.thumbnails/a.png"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(images[0], name)
    for _ in range(2):  # at the second time overlays and maps lie there
        main(["predict", "run", "today", "--output", ".", "--maps"])
        assert pd.read_csv("predictions.csv").file.tolist() == [*map(str, images)]


@pytest.mark.usefixtures("alone")
def test_what_was_scored_before_an_interrupt_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predicted("today")[0]

    def interrupted(detector: Detector, paths: list[Path], then: Then | None) -> Iterator[Prediction | UserError]:
        yield from islice(stream(detector, paths, then), 3)
        raise KeyboardInterrupt

    stream = Detector.stream
    monkeypatch.setattr(Detector, "stream", interrupted)
    table, code = predicted("today")
    assert code == 130
    left = [each.drop(columns="milliseconds") for each in (table, whole[:3])]
    pd.testing.assert_frame_equal(*left, check_dtype=False)


def test_neither_checkout_nor_parameters_nor_data_are_needed(alone: Path) -> None:
    """The package alone, elsewhere, without params/: as pip installs it."""
    shutil.copytree(Path(adtr.__file__).parent, alone / "site/adtr", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import adtr, sys; assert 'site' in adtr.__file__; from adtr.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", "run", "today", "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": str(alone / "site")}
    done = subprocess.run(command, cwd=alone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "another version" not in done.stderr
    assert len(pd.read_csv("out/predictions.csv")) == len(pd.read_csv("run/scores.csv"))


@pytest.mark.usefixtures("alone")
def test_a_run_has_a_short_name_in_its_study() -> None:
    shutil.move("run", "results/mine/runs/line4/padim/a/0")
    main(["predict", "line4/padim/a/0", "today", "--study", "mine", "--output", "out"])
    assert len(pd.read_csv("out/predictions.csv"))
    with pytest.raises(SystemExit, match=r"results/mine/runs/line4/padim/a/1: no run is there"):
        main(["predict", "line4/padim/a/1", "today", "--study", "mine", "--output", "out"])
