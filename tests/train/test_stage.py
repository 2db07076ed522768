"""The training stage: a run's files, and what becomes of them when it is interrupted, killed or short of space."""

import json
import os
import random
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
import torch
import yaml
from disk import mounted
from forker import Forker, running, wait_for
from PIL import Image
from planted import interrupted_after, run
from vouched import vouch

from adtr.config.study import TRAINED
from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.features.select import data_digest
from adtr.features.store import write_store
from adtr.files import sha256
from adtr.records import Record
from adtr.train.context import Bank, anomalies_of
from adtr.train.run import load_state, read_model, read_record, save_state
from adtr.train.stage import _identity, train

KILL_ROUNDS = int(os.environ.get("ADTR_KILL_ROUNDS", "3"))
LONG: dict[str, Any] = {"epochs": 40, "save_minutes": 0}
SHORT: dict[str, Any] = {"epochs": 4, "save_minutes": 0}
SNAPSHOTS = "snapshots.safetensors"


def content(folder: Path, *further: str) -> dict[str, bytes]:
    """What must not depend on how often a training was interrupted."""
    return {
        name: (folder / name).read_bytes() for name in ("params.yaml", "model.safetensors", "history.csv", *further)
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def undisturbed(case: planted.Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return content(run(case, tmp_path_factory.mktemp("undisturbed"), train=LONG))


# Outputs


@pytest.mark.parametrize("method", ["adtr", "padim", "spade"])
def test_a_run_is_five_files_that_agree(method: str, case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path, method, seed=3, train={"epochs": 3})
    assert sorted(path.name for path in folder.iterdir()) == sorted(TRAINED)
    record = json.loads((folder / "run.json").read_text())
    assert record["model"] == sha256(folder / "model.safetensors")
    assert (record["method"], record["seed"], record["images"]) == (method, 3, 10)
    made = Record(case.store.with_suffix(".json")).values
    assert record["features"] == {key: value for key, value in made.items() if key != "blocks"}
    sections = ["model", "train"] if method == "adtr" else [method]
    asked = yaml.safe_load((folder / "params.yaml").read_text())
    assert asked == {"method": method, "seed": 3, "features": planted.FEATURES} | record["params"]
    assert list(record["params"]) == sections
    assert {"code", "commit", "torch", "cpu", "time", "device", "seconds"} <= set(record)


def test_only_training_images_are_trained_on(case: planted.Case, tmp_path: Path) -> None:
    normal, test = planted.features()
    other = planted.write(tmp_path / "other", normal, test + 1)
    first, second = (run(c, tmp_path / n, train={"epochs": 2}) for c, n in ((case, "a"), (other, "b")))
    assert content(first) == content(second)


def test_a_loss_that_is_not_finite_leaves_no_file_of_a_run(case: planted.Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in epoch 1: lower lr \(1e\+30\) or set grad_clip"):
        run(case, tmp_path, train={"lr": 1e30})
    assert not (tmp_path / "run").exists()


# ADTR+


PLUS: dict[str, Any] = {"train": {"epochs": 3, "lr": 0.001}}


@pytest.fixture(scope="module")
def started(case: planted.Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(case, tmp_path_factory.mktemp("started"), train={"epochs": 5})


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Two noisy copies of each of the ten normal images, with masks; the grid is 4x4 of 32 px."""
    folder = tmp_path_factory.mktemp("bank")
    rows = []
    for i in range(20):
        mask = np.zeros((32, 32), np.uint8)
        mask[8 * (i % 4) + 3, 20] = 255  # one pixel of row i % 4, column 2
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        rows.append((f"{i}.png", f"{i}_mask.png", f"{i:064}", sha256(folder / f"{i}_mask.png")))
    manifest = pd.DataFrame(rows, columns=["image", "mask", "sha256", "mask_sha256"])
    features = np.repeat(planted.features()[0], 2, axis=0)
    info = {"features": planted.FEATURES, "data": data_digest(manifest), "weights": "random", "code": "by hand"}
    write_store(folder / "planted.npy", [features], info)
    return Bank(manifest, folder, folder / "planted.npy")


def plus(case: planted.Case, folder: Path, start: Path | None, bank: Bank | None, **changes: Any) -> Path:
    params = planted.params("adtr_plus", **PLUS | changes)
    stores = {"planted": case.store}
    manifest = read_manifest(case.manifest)
    train(manifest, stores, params, 0, folder / "run", folder / "state", start=start, bank=bank)
    return folder / "run"


def test_adtr_plus_remembers_what_it_started_from(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    folder = plus(case, tmp_path, started, bank)
    record = json.loads((folder / "run.json").read_text())
    assert record["start"] == sha256(started / "model.safetensors")
    assert (record["anomalies"]["images"], record["anomalies"]["data"]) == (20, data_digest(bank.manifest))
    assert list(record["params"]) == ["model", "train", "adtr_plus"]
    before, after = read_model(started), read_model(folder)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_tokens_of_a_bank_are_those_of_its_masks(bank: Bank) -> None:
    found = anomalies_of(bank, planted.params("adtr_plus"))
    assert found.tokens.nonzero().tolist() == [[i, 4 * (i % 4) + 2] for i in range(20)]
    outliers = Bank(bank.manifest.assign(mask="", mask_sha256=""), bank.root, bank.store)
    assert anomalies_of(outliers, planted.params("adtr_plus")).tokens.all()


def test_the_bytes_of_adtr_plus_depend_on_its_start_and_its_bank(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    other = run(case, tmp_path / "other", train={"epochs": 4})
    fewer = Bank(bank.manifest.assign(mask="", mask_sha256=""), bank.root, bank.store)
    origins = {"a": (started, bank), "b": (started, bank), "c": (other, bank), "d": (started, fewer)}
    models = [content(plus(case, tmp_path / name, *o))["model.safetensors"] for name, o in origins.items()]
    assert models[0] == models[1]
    assert len(set(models)) == 3


def test_the_state_of_another_start_is_not_resumed(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run(case, tmp_path / "other", train={"epochs": 4})
    with interrupted_after(2, monkeypatch):
        plus(case, tmp_path / "same", other, bank, train=PLUS["train"] | {"save_minutes": 0})
    left = plus(case, tmp_path / "same", started, bank, train=PLUS["train"] | {"save_minutes": 0})
    fresh = plus(case, tmp_path / "fresh", started, bank, train=PLUS["train"] | {"save_minutes": 0})
    assert content(left) == content(fresh)


def test_a_start_of_another_network_or_seed_is_refused(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    with pytest.raises(UserError, match="its network has other parameters"):
        plus(case, tmp_path, started, bank, model={"width": 32})
    other = run(case, tmp_path / "other", seed=1, train={"epochs": 1})
    with pytest.raises(UserError, match="of other images or of another seed"):
        plus(case, tmp_path, other, bank)


@pytest.mark.parametrize(
    ("rows", "made", "message"),
    [
        (slice(None), {"weights": "others"}, "its weights differ from those"),
        (slice(19), {}, "19 noisy copies are not equally many of each of 10 images"),
        (slice(None, None, -1), {}, "made of other images than the bank's manifest"),
    ],
    ids=["of other features", "of some images", "of other images than its store"],
)
def test_a_bank_that_does_not_fit_is_refused(
    rows: slice, made: dict[str, str], message: str, case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    store = tmp_path / "planted.npy"
    store.write_bytes(bank.store.read_bytes())
    vouch(store.with_suffix(".json"), Record(bank.store.with_suffix(".json")).values | made)
    with pytest.raises(UserError, match=message):
        plus(case, tmp_path, started, Bank(bank.manifest[rows], bank.root, store))


# Resuming


@pytest.mark.parametrize("tried_between", [None, SHORT])
def test_the_state_of_the_same_run_is_resumed(
    case: planted.Case,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tried_between: dict[str, Any] | None,
) -> None:
    with interrupted_after(30, monkeypatch):
        run(case, tmp_path, train=LONG)
    if tried_between:
        run(case, tmp_path, train=tried_between)
    caplog.set_level("INFO")
    assert content(run(case, tmp_path, train=LONG)) == undisturbed
    assert "resumes after epoch 30" in caplog.messages


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"train": SHORT | {"lr": 0.002}}, {"train": SHORT | {"epochs": 5}}, {"model": {"dropout": 0.2}}],
    ids=str,
)
def test_the_state_of_another_run_is_not_resumed(
    other: dict[str, Any],
    case: planted.Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with interrupted_after(2, monkeypatch):
        run(case, tmp_path, train=SHORT)
    caplog.set_level("INFO")
    asked = {"train": SHORT} | other
    assert content(run(case, tmp_path, **asked)) == content(run(case, tmp_path / "fresh", **asked))
    assert not any("resumes" in message for message in caplog.messages)


def test_a_state_is_resumed_on_another_model_of_the_same_kind_of_device(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A job may be queued again to another GPU: run.json names the one that ended it."""
    monkeypatch.setattr("adtr.provenance.device_name", lambda _: "one model")
    with interrupted_after(2, monkeypatch):
        run(case, tmp_path, train=SHORT)
    monkeypatch.setattr("adtr.provenance.device_name", lambda _: "another")
    caplog.set_level("INFO")
    assert content(run(case, tmp_path, train=SHORT)) == content(run(case, tmp_path / "fresh", train=SHORT))
    assert "resumes after epoch 2" in caplog.messages
    assert read_record(tmp_path / "run")["device"] == "another"


def test_a_cpu_and_a_gpu_and_two_precisions_have_states_of_their_own() -> None:
    features = dict.fromkeys(("shape", "content", "features", "data", "weights", "code"), "same")
    made = [
        _identity({"features": features, "device": name, "precision": precision}, kind)
        for kind, name in (("cpu", "cpu"), ("cuda", "H100"), ("cuda", "A100"))
        for precision in ("float32", "bfloat16")
    ]
    assert made[2:4] == made[4:6]
    assert len(set(made)) == 4


@pytest.mark.parametrize("other", [{"train": 11}, {"seed": 1}], ids=["more images", "other values of the same images"])
def test_the_state_of_other_features_is_not_resumed(
    other: dict[str, int],
    case: planted.Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with interrupted_after(2, monkeypatch):
        run(case, tmp_path, train=SHORT)
    caplog.set_level("INFO")
    run(planted.write(tmp_path / "other", *planted.features(**other)), tmp_path, train=SHORT)
    assert not any("resumes" in message for message in caplog.messages)


def test_a_finished_run_keeps_its_last_state_and_nothing_else(case: planted.Case, tmp_path: Path) -> None:
    run(case, tmp_path, train={"epochs": 2})
    own = only_folder(tmp_path / "state")
    assert len(own.name) == 16
    assert names(own) == ["progress.json", "state.pt"]
    assert "optimizer" not in (load_state(own) or {"optimizer": "no state"})


def test_a_kill_between_the_last_state_and_the_removal_of_the_one_before_leaves_no_state_twice(tmp_path: Path) -> None:
    save_state(tmp_path, {"history": [1], "optimizer": {}})
    shutil.copy(tmp_path / "state.pt", tmp_path / "before.pt")
    assert "optimizer" in (load_state(tmp_path) or {})
    assert names(tmp_path) == ["before.pt", "state.pt"]
    save_state(tmp_path, {"history": [1, 2]})
    shutil.copy(tmp_path / "state.pt", tmp_path / "before.pt")  # as if it were not removed
    assert load_state(tmp_path) == {"history": [1, 2]}
    assert names(tmp_path) == ["state.pt"]


def test_a_lost_output_is_written_again_without_training(
    case: planted.Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = content(run(case, tmp_path, train=SHORT | {"snapshots": 2}), SNAPSHOTS)
    before, state = read_record(tmp_path / "run"), only_folder(tmp_path / "state")
    tried = content(run(case, tmp_path, train={"epochs": 1}))  # and taken back
    assert tried["model.safetensors"] != first["model.safetensors"]
    shutil.rmtree(tmp_path / "run")
    caplog.set_level("INFO")
    again = run(case, tmp_path, train=SHORT | {"snapshots": 2})
    assert content(again, SNAPSHOTS) == first
    assert caplog.messages == ["resumes after epoch 4"]
    after = read_record(again)
    changing = ("time", "seconds")
    assert {key: after[key] for key in after if key not in changing} == {
        key: before[key] for key in before if key not in changing
    }
    trained = load_state(state) or {}
    assert after["seconds"] >= round(trained["seconds"], 1) > 0  # the training counts, though it was another process


def only_folder(state: Path) -> Path:
    """Where a state folder holds its lock and the state of one set of parameters."""
    lock, own = sorted(state.iterdir(), key=lambda path: path.name != "lock")
    assert lock.name == "lock"
    return own


# SIGKILL


@pytest.mark.parametrize("round_", range(KILL_ROUNDS))
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(
    round_: int, case: planted.Case, tmp_path: Path, undisturbed: dict[str, bytes], forker: Forker
) -> None:
    rng = random.Random(round_)
    logs: list[Path] = []
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        logs.append(tmp_path / f"{len(logs)}.log")
        process = forker.start(case, tmp_path, logs[-1], **LONG)
        if codes and rng.random() < 0.25:
            wait_for("epoch 40/40", 1, logs[-1], process)  # then the run's files are being written
        else:
            wait_for("  loss ", rng.randrange(0 if codes else 4, 16), logs[-1], process)  # the first has a state
        time.sleep(rng.uniform(0, 0.03))
        if running(process):
            os.kill(process, signal.SIGKILL)
        codes.append(forker.exit_code())
        assert codes[-1] in (0, -signal.SIGKILL), logs[-1].read_text()
        assert len(codes) < 60
    assert content(tmp_path / "run") == undisturbed
    assert read_model(tmp_path / "run")
    assert -signal.SIGKILL in codes
    assert any("resumes after epoch" in log.read_text() for log in logs)
    assert names(tmp_path / "run") == sorted(TRAINED)
    assert names(only_folder(tmp_path / "state")) == ["progress.json", "state.pt"]


def test_what_a_killed_process_left_half_written_is_removed(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    with interrupted_after(2, monkeypatch):
        run(case, tmp_path, train=SHORT)
    own = f"state/{only_folder(tmp_path / 'state').name}"
    half = [
        f"{own}/.state.pt.0a1b2c3d.partial.pt",
        f"{own}/.progress.json.0a1b2c3d.partial.json",
        "run/.model.safetensors.0a1b2c3d.partial.safetensors",
        "run/.run.json.0a1b2c3d.partial.json",
    ]
    others = ["state/.keep", "run/.snakemake_timestamp", "run/notes.txt"]
    for name in half + others:
        (tmp_path / name).touch()
    run(case, tmp_path, train=SHORT)
    assert not any((tmp_path / name).exists() for name in half)
    assert all((tmp_path / name).exists() for name in others)


# No space, no permission


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system refuses to write more bytes than this to a file, as it does under a quota."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_of_states_is_told_and_leaves_no_run(case: planted.Case, tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "size=24k"):
        with pytest.raises(UserError, match=r"no space left to write .*state\.pt: free some and run the same"):
            run(case, tmp_path, train=SHORT)
        assert not list((tmp_path / "state").glob("*/*state.pt*"))
        assert not (tmp_path / "run").exists()


def test_a_full_disk_of_runs_is_told_and_the_training_is_not_lost(
    case: planted.Case, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with (
        mounted(tmp_path / "run", "size=16k"),
        pytest.raises(UserError, match=r"no space left to write .*model\.safetensors"),
    ):
        run(case, tmp_path, train=LONG)
    assert content(run(case, tmp_path, train=LONG)) == undisturbed
    assert "resumes after epoch 40" in caplog.messages


def test_a_state_that_cannot_be_saved_leaves_no_view_of_its_buffer(tmp_path: Path) -> None:
    """Garbage collection frees a buffer before its view: under Python 3.12 a segmentation fault, in any later test."""
    with largest_file(20_000), pytest.raises(UserError, match="no space left") as caught:
        save_state(tmp_path, {"model": torch.zeros(10_000)})
    (frame,) = [frame for frame, _ in traceback.walk_tb(caught.tb) if frame.f_code is save_state.__code__]
    frame.f_locals["content"].close()  # a BufferError if a view is left


@pytest.mark.parametrize("place", ["state", "run"])
def test_a_read_only_disk_is_an_error_that_names_it(place: str, case: planted.Case, tmp_path: Path) -> None:
    with (
        mounted(tmp_path / place, "ro"),
        pytest.raises((OSError, UserError), match=rf"{place}.*Read-only|Read-only file system: '.*{place}"),
    ):
        run(case, tmp_path, train=SHORT)


@pytest.mark.parametrize("place", ["state", "run"])
def test_a_file_in_place_of_a_folder_is_an_error_that_names_it(place: str, case: planted.Case, tmp_path: Path) -> None:
    (tmp_path / place).touch()
    with pytest.raises(OSError, match=rf"^\[Errno \d+\] .*{place}"):
        run(case, tmp_path, train=SHORT)
