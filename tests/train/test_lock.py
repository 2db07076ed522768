"""The lock of a state folder: one training at a time, the others wait and say for whom."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import planted
import pytest
from forker import Forker, running, wait_for

from adtr.errors import UserError
from adtr.methods import adtr as adtr_method
from adtr.train import lock
from adtr.train.lock import check_lock, locked

SHORT: dict[str, Any] = {"epochs": 4, "save_minutes": 0}
HOLDER = "process 7 on elsewhere, Slurm job 8 (`scancel 8` ends it)"


@contextmanager
def held(state: Path, holder: str) -> Iterator[None]:
    """The lock, held by a process that calls itself `holder`."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(holder)
        file.flush()
        yield


@pytest.mark.parametrize("holder", [HOLDER, f"process 7 on {socket.gethostname()} (`kill 7` there ends it)"])
def test_who_does_not_get_the_lock_waits_and_says_once_for_whom(
    holder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    waits: list[float] = []
    with ExitStack() as other:
        other.enter_context(held(tmp_path, holder))

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.close()

        monkeypatch.setattr(lock.time, "sleep", sleep)
        with locked(tmp_path):
            pass
    assert len(waits) == 3
    assert caplog.messages == [f"{tmp_path}: {holder} is training this run: waits for up to 30 minutes"]


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0)
    with held(tmp_path, HOLDER), pytest.raises(UserError) as caught, locked(tmp_path):
        pytest.fail("two hold the lock")
    assert str(caught.value) == f"{tmp_path}: {HOLDER} is still training this run: try again later"


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"SLURMD_NODENAME": "n1", "SLURM_JOB_ID": "12"}, "process {} on n1, Slurm job 12 (`scancel 12` ends it)"),
        ({}, f"process {{}} on {socket.gethostname()} (`kill {{}}` there ends it)"),
    ],
)
def test_a_holder_says_how_to_end_it(
    environment: dict[str, str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURMD_NODENAME", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "lock").write_text("a longer text, of a process that has ended, and whose words must not stay here")
    with locked(tmp_path) as holder:
        assert holder == text.replace("{}", str(os.getpid())) == (tmp_path / "lock").read_text()
        check_lock(tmp_path, holder)
        (tmp_path / "lock").write_text("process 7 on elsewhere")
        with pytest.raises(
            UserError, match=rf"process 7 on elsewhere has taken over this run from process {os.getpid()}"
        ):
            check_lock(tmp_path, holder)


def test_a_file_system_without_locks_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match=r"its file system has no locks .*link state/ to one that has"),
        locked(tmp_path),
    ):
        pytest.fail("there is no lock")


def test_a_training_that_was_cut_off_from_its_lock_writes_no_run(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = adtr_method.fit

    def cut_off(*arguments: Any) -> Any:
        (tmp_path / "state/lock").write_text("process 7 on elsewhere")
        return fit(*arguments)

    monkeypatch.setattr("adtr.methods.adtr.fit", cut_off)
    with pytest.raises(UserError, match=r"process 7 on elsewhere has taken over this run from process \d+ on "):
        planted.run(case, tmp_path, train=SHORT)
    assert not (tmp_path / "run/model.safetensors").exists()


def test_a_second_training_waits_until_the_first_has_ended(
    case: planted.Case,
    tmp_path: Path,
    forker: Forker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = tmp_path / "log"
    first = forker.start(case, tmp_path, log, epochs=1_000_000, save_minutes=1_000_000)
    wait_for("  loss ", 1, log, first)

    def sleep(_: float) -> None:
        if running(first):
            forker.kill()

    monkeypatch.setattr(lock.time, "sleep", sleep)
    planted.run(case, tmp_path, train=SHORT)
    assert not running(first)
    assert f"process {first} on {socket.gethostname()}" in caplog.messages[0]


def test_runs_of_their_own_states_do_not_hinder_each_other(case: planted.Case, tmp_path: Path, forker: Forker) -> None:
    log = tmp_path / "log"
    first = forker.start(case, tmp_path / "a", log, epochs=1_000_000)
    wait_for("  loss ", 1, log, first)
    planted.run(case, tmp_path / "b", train=SHORT)
    assert running(first)
    forker.kill()
