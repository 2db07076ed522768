"""The files of a run: what was written is read again, and nothing else."""

import json
from pathlib import Path
from typing import Any

import planted
import pytest
import torch
from vouched import vouch_again

from adtr.config.study import TRAINED
from adtr.errors import UserError
from adtr.files import sha256
from adtr.train.context import Fitted
from adtr.train.run import check_stores, read_model, read_record, read_snapshots, write_run

STATE = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}
HISTORY = [{"epoch": 1, "lr": 0.1, "loss": 2.5}, {"epoch": 2, "lr": 0.01, "loss": 0.125}]


def written(folder: Path, history: list[dict[str, float]] = HISTORY) -> Path:
    made = json.loads(json.dumps({"features": planted.FEATURES, "weights": "random", "code": "by hand"}))
    record: dict[str, Any] = {"method": "adtr", "seed": 3, "features": made, "params": {"train": {"epochs": 2}}}
    write_run(folder, record, Fitted(STATE, history, 7, {1: {"w": STATE["w"].T}, 10: {"w": STATE["w"]}}))
    return folder


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    folder = written(tmp_path / "run")
    assert sorted(path.name for path in folder.iterdir()) == sorted(TRAINED)
    assert all(torch.equal(value, STATE[name]) for name, value in read_model(folder).items())
    snapshots = read_snapshots(folder)
    assert list(snapshots) == [1, 10]
    assert torch.equal(snapshots[1]["w"], STATE["w"].T)
    record = read_record(folder)
    assert (record["parameters"], record["model"]) == (7, sha256(folder / "model.safetensors"))
    assert (folder / "history.csv").read_text() == "epoch,lr,loss\n1,0.1,2.5\n2,0.01,0.125\n"


def test_without_epochs_the_history_is_its_header(tmp_path: Path) -> None:
    assert (written(tmp_path, []) / "history.csv").read_text() == "epoch,lr,loss\n"


@pytest.mark.parametrize("name", ["model.safetensors", "snapshots.safetensors", "run.json"])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_run_that_is_not_whole_is_refused_by_name(damage: str, name: str, tmp_path: Path) -> None:
    folder = written(tmp_path)
    whole, flipped = (folder / name).read_bytes(), bytearray((folder / name).read_bytes())
    flipped[-9] ^= 1
    (folder / name).unlink()
    if damage != "gone":
        (folder / name).write_bytes(flipped if damage == "bit" else whole[:-9])
    with pytest.raises(UserError, match=rf"{name}: .*makes it again"):
        (read_snapshots if name.startswith("snapshots") else read_model)(folder)


@pytest.mark.parametrize("key", ["features", "weights", "code"])
def test_features_that_were_made_otherwise_are_refused(key: str, tmp_path: Path) -> None:
    case, folder = planted.write(tmp_path / "case", *planted.features()), written(tmp_path / "run")
    check_stores(folder, {"planted": case.store})
    other = planted.FEATURES | {"layers": [2]} if key == "features" else "other"
    vouch_again(case.store.with_suffix(".json"), **{key: other})
    with pytest.raises(UserError, match=rf"its {key} differ from those that .*run was trained on"):
        check_stores(folder, {"planted": case.store})
