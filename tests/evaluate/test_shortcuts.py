"""Scores that know nothing of defects: by hand on small images, and what is warned of."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adtr.config.paths import Paths
from adtr.config.study import resolve
from adtr.data.findings import of_study
from adtr.errors import UserError
from adtr.evaluate import shortcuts
from adtr.files import sha256
from adtr.tables.shortcuts import read, sheet


def photographed(root: Path, brightness: Mapping[str, Iterable[int]]) -> pd.DataFrame:
    """The manifest of images with a bright spot on a grey of each value: train, normal, anomalous."""
    rows = []
    for kind, values in brightness.items():
        for i, value in enumerate(values):
            pixels = np.full((16, 16, 3), value, np.uint8)
            pixels[3 + i % 7, 5] = 250
            name = f"{kind}{i}.png"
            Image.fromarray(pixels).save(root / name)
            rows.append((name, int(kind == "anomalous"), "train" if kind == "train" else "test", sha256(root / name)))
    return pd.DataFrame(rows, columns=["image", "label", "split", "sha256"])


def test_the_scores_of_a_board_by_hand(tmp_path: Path) -> None:
    board = np.indices((8, 8)).sum(axis=0) % 2 * 200
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    brightness, contrast, sharpness, size = shortcuts.simple_scores(tmp_path, "board.png")
    assert (brightness, contrast) == (100, 100)
    # Inside four neighbours differ by 200, beyond the edge a pixel is its own neighbour: 3 at a side, 2 in a corner
    laplacian = 200 * np.array([4] * 36 + [3] * 24 + [2] * 4)
    assert sharpness == pytest.approx((laplacian.astype(float) ** 2).mean(), rel=1e-5)  # as many up as down
    assert size == (tmp_path / "board.png").stat().st_size


def test_a_darker_test_set_is_a_shortcut_and_a_shift(tmp_path: Path) -> None:
    train = [100, 102, 104, 106, 108, 110]
    manifest = photographed(tmp_path, {"train": train, "normal": range(80, 90), "anomalous": range(90, 102)})
    found = shortcuts.measure(manifest, tmp_path, "a").set_index("score")
    assert found.auroc["brightness"] == 100
    assert found["shift"]["brightness"] == pytest.approx((84.5 - 105) / np.std(train, ddof=1), rel=1e-3)
    assert found.distance["brightness"] == 0  # anomalous images are nearer to the training images than normal ones
    assert found.loc["brightness", ["train", "normal", "anomalous"]].tolist() == [6, 10, 12]
    assert found.auroc["contrast"] == 0  # a spot stands out more from a darker grey: ranked, the other way round
    warned = shortcuts.warnings(found.reset_index())
    assert [text.partition(" ")[0] for text in warned[shortcuts.RANKED]][:2] == ["brightness", "contrast"]
    assert warned[shortcuts.SHIFTED][0] == "brightness −5.5"


def test_nothing_is_warned_of_where_the_test_set_is_alike_or_tiny(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    alike = {kind: rng.integers(80, 120, 30) for kind in ("train", "normal", "anomalous")}
    (tmp_path / "alike").mkdir()
    found = shortcuts.measure(photographed(tmp_path / "alike", alike), tmp_path / "alike", "a")
    assert found.auroc[0] == pytest.approx(50, abs=20)
    assert found.low[0] < found.auroc[0] < found.high[0]
    assert shortcuts.warnings(found) == {}
    tiny = photographed(tmp_path, {"train": [100, 110, 120, 130], "normal": [80, 81, 82], "anomalous": [90, 91]})
    assert shortcuts.measure(tiny, tmp_path, "a").auroc[0] == 100
    assert [*shortcuts.warnings(shortcuts.measure(tiny, tmp_path, "a"))] == [shortcuts.SHIFTED]


def test_without_test_images_of_both_kinds_nothing_is_ranked(tmp_path: Path) -> None:
    manifest = photographed(tmp_path, {"train": [100, 104, 109], "normal": [103, 104], "anomalous": []})
    found = shortcuts.measure(manifest, tmp_path, "a").set_index("score")
    assert found.auroc.isna().all()
    assert abs(found["shift"]["brightness"]) < 1
    none = shortcuts.measure(manifest[manifest.split == "train"], tmp_path, "a")
    assert none[["auroc", "shift"]].isna().all(axis=None)
    assert shortcuts.warnings(none) == {}


def test_what_was_measured_is_read_back_with_its_warnings(tmp_path: Path) -> None:
    plan = resolve("smoke", settings={"features.grid_size": 8})
    paths = Paths(plan, tmp_path)
    assert of_study(paths) == []
    manifest = photographed(tmp_path, {"train": [100, 104, 109], "normal": range(80, 90), "anomalous": range(90, 102)})
    found = shortcuts.measure(manifest, tmp_path, "a")
    for names in plan.categories():
        shortcuts.write(paths.shortcuts(*names), found)
    assert of_study(paths)[0].startswith(f"smoke_mvtec/carpet: {shortcuts.RANKED} (")
    told = sheet(plan, read(paths))
    assert told.notes[0].startswith("Farthest from chance: brightness of carpet 100.0, ")
    assert told.notes[0].count(", ") == 2
    assert told.text.iloc[0].tolist()[:3] == ["carpet", "generated images in MVTec-AD's layout", "100.0 (-4.4)"]
    paths.shortcuts("smoke_mvtec", "screw").write_text("damaged")
    for reader in (read, of_study):
        with pytest.raises(UserError, match=r"screw\.csv: damaged or edited.*`adtr shortcuts`"):
            reader(paths)
    paths.shortcuts("smoke_mvtec", "screw").unlink()
    with pytest.raises(UserError, match=r"screw\.csv: .*`adtr shortcuts`"):
        of_study(paths)
