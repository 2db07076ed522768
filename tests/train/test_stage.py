"""The training stage: its four files, and what becomes of them when it is killed, locked out or short of space."""

import contextlib
import csv
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from adtr.cli import main
from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.features.extract import data_digest
from adtr.files import sha256
from adtr.methods import adtr as adtr_method
from adtr.train import loop as training
from adtr.train.stage import FILES, Bank, _anomalies, read_model, read_snapshots, train

KILL_ROUNDS = int(os.environ.get("ADTR_KILL_ROUNDS", "3"))
LONG: dict[str, Any] = {"epochs": 40, "save_every": 2}
SHORT: dict[str, Any] = {"epochs": 4, "save_every": 1}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> planted.Case:
    return planted.write(tmp_path_factory.mktemp("case"), *planted.features())


def run(case: planted.Case, folder: Path, method: str = "adtr", seed: int = 0, **changes: Any) -> Path:
    """Trains in this process; gives the run's folder."""
    stores = {"planted": case.store}
    params = planted.params(method, **changes)
    train(read_manifest(case.manifest), stores, params, seed, folder / "run", folder / "state")
    return folder / "run"


def command(case: planted.Case, folder: Path, **changes: Any) -> list[str]:
    """The same as arguments of `adtr`."""
    params = planted.params(**changes)
    paths = {"manifest": case.manifest, "features": case.store, "state": folder / "state", "output": folder / "run"}
    stage = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    return ["train", "--device", "cpu", *stage, *as_options(params.model, params.train).split()]


def content(folder: Path) -> dict[str, bytes]:
    """What must not depend on how often a training was killed."""
    return {name: (folder / name).read_bytes() for name in ("params.yaml", "model.safetensors", "history.csv")}


@pytest.fixture(scope="module")
def undisturbed(case: planted.Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return content(run(case, tmp_path_factory.mktemp("undisturbed"), train=LONG))


# Outputs


@pytest.mark.parametrize("method", ["adtr", "padim", "spade"])
def test_a_run_is_five_files_that_agree(method: str, case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path, method, seed=3, train={"epochs": 3})
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    record = json.loads((folder / "run.json").read_text())
    assert record["model"] == sha256(folder / "model.safetensors")
    assert (record["method"], record["seed"], record["images"]) == (method, 3, 10)
    assert record["features"] == json.loads(case.store.with_suffix(".json").read_text())
    sections = ["model", "train"] if method == "adtr" else [method]
    asked = yaml.safe_load((folder / "params.yaml").read_text())
    assert asked == {"method": method, "seed": 3, "features": planted.FEATURES} | record["params"]
    assert list(record["params"]) == sections
    assert {"code", "commit", "torch", "cpu", "time", "device", "seconds"} <= set(record)
    assert {name: value.shape for name, value in read_model(folder).items()} == {
        name: value.shape for name, value in load_file(folder / "model.safetensors").items()
    }


def test_history_has_a_row_an_epoch(case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path, train={"epochs": 5, "lr_drop_at": 0.6})
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.003] * 3 + [0.0003] * 2, rel=1e-12)
    assert all(0 < float(row["loss"]) < 100 for row in rows)


@pytest.mark.parametrize("method", ["padim", "spade"])
def test_a_method_without_epochs_has_an_empty_history(method: str, case: planted.Case, tmp_path: Path) -> None:
    assert (run(case, tmp_path, method) / "history.csv").read_text() == "epoch,lr,loss\n"


@pytest.mark.parametrize("method", ["adtr", "padim", "spade"])
def test_the_same_seed_gives_the_same_bytes(method: str, case: planted.Case, tmp_path: Path) -> None:
    first, second = (run(case, tmp_path / name, method, train={"epochs": 2}) for name in "ab")
    assert content(first) == content(second)


def test_another_seed_gives_other_bytes(case: planted.Case, tmp_path: Path) -> None:
    first, second = (run(case, tmp_path / str(seed), seed=seed, train={"epochs": 2}) for seed in (0, 1))
    assert content(first)["model.safetensors"] != content(second)["model.safetensors"]


def test_only_training_images_are_trained_on(case: planted.Case, tmp_path: Path) -> None:
    normal, test = planted.features()
    other = planted.write(tmp_path / "other", normal, test + 1)
    first, second = (run(c, tmp_path / n, train={"epochs": 2}) for c, n in ((case, "a"), (other, "b")))
    assert content(first) == content(second)


def test_a_model_that_is_not_the_runs_own_is_refused(case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path, "spade")
    damaged = bytearray((folder / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    (folder / "model.safetensors").write_bytes(damaged)
    with pytest.raises(UserError, match=r"not the file that .*run\.json speaks of: train it again"):
        read_model(folder)


@pytest.mark.parametrize("missing", ["model.safetensors", "run.json"])
def test_a_run_without_all_its_files_is_refused(missing: str, case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path, "spade")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=rf"not a whole run \(.*{missing}.*train it again"):
        read_model(folder)


def test_a_method_that_is_not_there_is_named(case: planted.Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method: there is no guess\.py in adtr/methods"):
        run(case, tmp_path, "guess")


def test_a_loss_that_is_not_finite_leaves_no_file_of_a_run(case: planted.Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in epoch 1: lower lr \(1e\+30\) or set grad_clip"):
        run(case, tmp_path, train={"lr": 1e30})
    assert not (tmp_path / "run").exists()


# Snapshots


def test_snapshots_are_the_models_on_the_way(case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path / "long", train={"epochs": 4, "snapshots": 2, "lr_drop_at": 1.0})
    short = run(case, tmp_path / "short", train={"epochs": 2, "lr_drop_at": 1.0})
    found, expected = read_snapshots(folder), read_model(short)
    assert list(found) == [2]
    assert all(torch.equal(found[2][name], expected[name]) for name in expected)
    assert read_snapshots(short) == {}


def test_snapshots_that_are_missing_are_told(case: planted.Case, tmp_path: Path) -> None:
    folder = run(case, tmp_path, "spade")
    (folder / "snapshots.safetensors").unlink()
    with pytest.raises(UserError, match=r"not a whole run .* train it again"):
        read_snapshots(folder)


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
    np.save(folder / "planted.npy", features)
    info = {"shape": features.shape, "features": planted.FEATURES, "data": data_digest(manifest), "weights": "random"}
    (folder / "planted.json").write_text(json.dumps(info | {"code": "by hand"}))
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
    found = _anomalies(bank, planted.params("adtr_plus"))
    assert found is not None
    assert found.tokens.nonzero().tolist() == [[i, 4 * (i % 4) + 2] for i in range(20)]
    outliers = Bank(bank.manifest.assign(mask="", mask_sha256=""), bank.root, bank.store)
    unmasked = _anomalies(outliers, planted.params("adtr_plus"))
    assert unmasked is not None
    assert unmasked.tokens.all()


def test_the_bytes_of_adtr_plus_depend_on_its_start_and_its_bank(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    other = run(case, tmp_path / "other", train={"epochs": 4})
    fewer = Bank(bank.manifest.assign(mask="", mask_sha256=""), bank.root, bank.store)
    models = [
        content(plus(case, tmp_path / name, *origin))["model.safetensors"]
        for name, origin in {
            "a": (started, bank),
            "b": (started, bank),
            "c": (other, bank),
            "d": (started, fewer),
        }.items()
    ]
    assert models[0] == models[1]
    assert len(set(models)) == 3


def test_the_state_of_another_start_is_not_resumed(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run(case, tmp_path / "other", train={"epochs": 4})
    with interrupted_after(2, monkeypatch):
        plus(case, tmp_path / "same", other, bank, train=PLUS["train"] | {"save_every": 1})
    left = plus(case, tmp_path / "same", started, bank, train=PLUS["train"] | {"save_every": 1})
    fresh = plus(case, tmp_path / "fresh", started, bank, train=PLUS["train"] | {"save_every": 1})
    assert content(left) == content(fresh)


def test_adtr_plus_without_start_or_bank_is_told(case: planted.Case, tmp_path: Path, started: Path, bank: Bank) -> None:
    for origin in ((None, bank), (started, None)):
        with pytest.raises(UserError, match="goes on from a finished run, with anomalies: --start"):
            plus(case, tmp_path, *origin)


def test_a_start_of_another_network_is_refused(case: planted.Case, tmp_path: Path, started: Path, bank: Bank) -> None:
    with pytest.raises(UserError, match="its network has other parameters"):
        plus(case, tmp_path, started, bank, model={"width": 32})


def test_a_start_of_another_seed_is_refused(case: planted.Case, tmp_path: Path, bank: Bank) -> None:
    other = run(case, tmp_path / "other", seed=1, train={"epochs": 1})
    with pytest.raises(UserError, match="of other images or of another seed"):
        plus(case, tmp_path, other, bank)


def test_a_bank_of_other_features_than_the_runs_is_refused(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    store = tmp_path / "planted.npy"
    store.write_bytes(bank.store.read_bytes())
    made = json.loads(bank.store.with_suffix(".json").read_text())
    store.with_suffix(".json").write_text(json.dumps(made | {"weights": "others"}))
    with pytest.raises(UserError, match="its weights differ from those"):
        plus(case, tmp_path, started, Bank(bank.manifest, bank.root, store))


def test_a_bank_with_copies_of_some_images_only_is_refused(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    with pytest.raises(UserError, match="19 noisy copies are not so many of each of 10 images"):
        plus(case, tmp_path, started, Bank(bank.manifest[:19], bank.root, bank.store))


def test_a_bank_of_other_images_than_its_store_is_refused(
    case: planted.Case, tmp_path: Path, started: Path, bank: Bank
) -> None:
    with pytest.raises(UserError, match="made of other images than the bank's manifest"):
        plus(case, tmp_path, started, Bank(bank.manifest[::-1], bank.root, bank.store))


# Resuming


@contextmanager
def interrupted_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raises KeyboardInterrupt right after an epoch's state was saved."""
    save = training._save

    def stop(folder: Path, network: Any, optimizer: Any, history: list[dict[str, float]], snapshots: Any) -> None:
        save(folder, network, optimizer, history, snapshots)
        if len(history) == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save", stop)
        with contextlib.suppress(KeyboardInterrupt):
            yield
            pytest.fail(f"there was no epoch {epoch}")


def test_the_state_of_the_same_run_is_resumed(
    case: planted.Case,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with interrupted_after(30, monkeypatch):
        run(case, tmp_path, train=LONG)
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


def test_the_state_of_other_features_is_not_resumed(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with interrupted_after(2, monkeypatch):
        run(case, tmp_path, train=SHORT)
    caplog.set_level("INFO")
    run(planted.write(tmp_path / "other", *planted.features(train=11)), tmp_path, train=SHORT)
    assert not any("resumes" in message for message in caplog.messages)


def test_a_finished_run_leaves_nothing_to_resume(case: planted.Case, tmp_path: Path) -> None:
    run(case, tmp_path, train={"epochs": 2})
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["finished", "identity", "lock"]


def test_a_lost_output_is_brought_back_without_training(
    case: planted.Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = content(run(case, tmp_path, train=SHORT))
    shutil.rmtree(tmp_path / "run")
    caplog.set_level("INFO")
    again = run(case, tmp_path, train=SHORT)
    assert content(again) == first
    assert not any("epoch" in message for message in caplog.messages)
    assert json.loads((again / "run.json").read_text())["parameters"] > 0


def test_a_run_of_other_parameters_leaves_the_first_to_come_back(
    case: planted.Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = content(run(case, tmp_path, train=SHORT))
    assert content(run(case, tmp_path, train={"epochs": 1})) != first
    caplog.set_level("INFO")
    assert content(run(case, tmp_path, train=SHORT)) == first
    assert not any("epoch" in message for message in caplog.messages)


def test_a_damaged_finished_run_is_not_brought_back(case: planted.Case, tmp_path: Path) -> None:
    first = content(run(case, tmp_path, train=SHORT))
    shutil.rmtree(tmp_path / "run")
    kept = next((tmp_path / "state/finished").glob("*/model.safetensors"))
    kept.write_bytes(kept.read_bytes()[:-1])
    assert content(run(case, tmp_path, train=SHORT)) == first


def test_a_run_with_another_seed_does_not_bring_back_the_first(case: planted.Case, tmp_path: Path) -> None:
    first = content(run(case, tmp_path, train=SHORT))
    assert content(run(case, tmp_path, train=SHORT, seed=1)) != first


# SIGKILL

# Imports PyTorch once, then runs a process for each line: [log, argument, ...]; prints its number, then how it ended
FORKER = """
import json, os, sys
import adtr.cli, adtr.methods.adtr, adtr.train.stage, torch._dynamo
for line in sys.stdin:
    log, *arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        adtr.cli.main(arguments)
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forker:
    """Starts `adtr` in processes of their own, without the seconds that importing PyTorch takes each."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            cwd=planted.REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._last = 0

    def start(self, arguments: list[str], log: Path) -> int:
        assert self._server.stdin
        print(json.dumps([str(log), *arguments]), file=self._server.stdin, flush=True)
        self._last = self._number()
        return self._last

    def exit_code(self) -> int:
        return self._number()

    def close(self) -> None:
        """Also after a test that failed while its training went on."""
        if self._last and running(self._last):
            os.kill(self._last, signal.SIGKILL)
        self._server.communicate()

    def _number(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    server = Forker()
    yield server
    server.close()


def running(process: int) -> bool:
    """Whether it is there and not dead already, only not yet waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(text: str, count: int, log: Path, process: int) -> None:
    """Until the log has `text` so many times, or the process has ended."""
    deadline = time.monotonic() + 60
    while log.read_text().count(text) < count and running(process):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.002)


@pytest.mark.parametrize("round_", range(KILL_ROUNDS))
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(
    round_: int, case: planted.Case, tmp_path: Path, undisturbed: dict[str, bytes], forker: Forker
) -> None:
    rng = random.Random(round_)
    logs: list[Path] = []
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        logs.append(tmp_path / f"{len(logs)}.log")
        logs[-1].touch()
        process = forker.start(command(case, tmp_path, train=LONG), logs[-1])
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
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(FILES)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["finished", "identity", "lock"]


def test_what_a_killed_process_left_half_written_is_removed(case: planted.Case, tmp_path: Path) -> None:
    names = [
        "state/.state.pt.0a1b2c3d.partial.pt",
        "run/.model.safetensors.0a1b2c3d.partial.safetensors",
        "run/.run.json.0a1b2c3d.partial.json",
    ]
    others = ["state/.keep", "run/.snakemake_timestamp", "run/notes.txt"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    run(case, tmp_path, "spade")
    assert not any((tmp_path / name).exists() for name in names)
    assert all((tmp_path / name).exists() for name in others)


# Two at once


@contextmanager
def locked(lock: Path, holder: str) -> Iterator[None]:
    """The lock held by a process that calls itself `holder`."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(holder)
        file.flush()
        yield


def test_the_lock_of_another_node_is_waited_for(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    with ExitStack() as held:
        held.enter_context(locked(tmp_path / "state/lock", "process 7 on elsewhere, Slurm job 8"))

        def let_go(seconds: float) -> None:
            waits.append(seconds)
            held.close()

        monkeypatch.setattr("adtr.train.stage.time.sleep", let_go)
        run(case, tmp_path, train=SHORT)
    assert len(waits) == 1


def test_the_lock_of_another_node_is_not_waited_for_for_ever(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adtr.train.stage.PATIENCE", 0)
    with (
        locked(tmp_path / "state/lock", "process 7 on elsewhere, Slurm job 8"),
        pytest.raises(UserError, match="process 7 on elsewhere, Slurm job 8 is training this run now"),
    ):
        run(case, tmp_path, train=SHORT)


def test_the_lock_of_another_job_on_this_node_is_waited_for(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with ExitStack() as held:
        held.enter_context(locked(tmp_path / "state/lock", "process 7 on n1, Slurm job 1"))
        monkeypatch.setattr("adtr.train.stage.time.sleep", lambda _: held.close())
        run(case, tmp_path, train=SHORT)
    assert (tmp_path / "state/lock").read_text() == f"process {os.getpid()} on n1, Slurm job 12"


def test_a_training_that_was_cut_off_from_its_lock_writes_no_run(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = adtr_method.fit

    def cut_off(*arguments: Any) -> Any:
        (tmp_path / "state/lock").write_text("process 7 on elsewhere")
        return fit(*arguments)

    monkeypatch.setattr("adtr.methods.adtr.fit", cut_off)
    with pytest.raises(UserError, match=r"process 7 on elsewhere has taken over this run from process \d+ on "):
        run(case, tmp_path, train=SHORT)
    assert not (tmp_path / "run/model.safetensors").exists()


def test_a_second_process_is_sent_away_and_a_kill_frees_the_run(
    case: planted.Case, tmp_path: Path, forker: Forker, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.touch()
    endless = command(case, tmp_path, train={"epochs": 1_000_000, "save_every": 1_000_000})
    first = forker.start(endless, log)
    monkeypatch.chdir(planted.REPOSITORY)
    try:
        wait_for("  loss ", 1, log, first)
        with pytest.raises(SystemExit) as stop:
            main(command(case, tmp_path, train=SHORT))
        assert running(first)
    finally:
        os.kill(first, signal.SIGKILL)
        assert forker.exit_code() == -signal.SIGKILL
    holder = f"process {first} on {socket.gethostname()}"
    assert stop.value.code == f"adtr train: {tmp_path / 'state'}: {holder} is training this run now"
    assert not (tmp_path / "run").exists()
    run(case, tmp_path, train=SHORT)


def test_runs_of_their_own_states_do_not_hinder_each_other(case: planted.Case, tmp_path: Path, forker: Forker) -> None:
    log = tmp_path / "log"
    log.touch()
    first = forker.start(command(case, tmp_path / "a", train={"epochs": 1_000_000}), log)
    wait_for("  loss ", 1, log, first)
    run(case, tmp_path / "b", train=SHORT)
    assert running(first)
    os.kill(first, signal.SIGKILL)
    assert forker.exit_code() == -signal.SIGKILL


# No space, no permission


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A disk in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


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
        assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["identity", "lock"]
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


def test_a_quota_is_told_as_a_full_disk(case: planted.Case, tmp_path: Path) -> None:
    with largest_file(20_000), pytest.raises(UserError, match=r"no space left to write .*state\.pt"):
        run(case, tmp_path, train=SHORT)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["identity", "lock"]


@pytest.mark.parametrize("place", ["state", "run"])
def test_a_read_only_disk_is_one_message(
    place: str, case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planted.REPOSITORY)
    with (
        mounted(tmp_path / place, "ro"),
        pytest.raises(SystemExit, match=rf"^adtr train: \[Errno 30\] Read-only file system: '.*{place}"),
    ):
        main(command(case, tmp_path, train=SHORT))


@pytest.mark.parametrize("place", ["state", "run"])
def test_a_file_in_place_of_a_folder_is_one_message(
    place: str, case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planted.REPOSITORY)
    (tmp_path / place).touch()
    with pytest.raises(SystemExit, match=rf"^adtr train: \[Errno \d+\] .*{place}"):
        main(command(case, tmp_path, train=SHORT))
