"""The lock of a training's state folder: one process at a time, on whichever node.

Two jobs may be at the same run: one that Slurm took for dead, or one of another Snakemake. A network file system may
also keep the lock of a dead node for a while. Therefore who does not get the lock waits.
"""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from adtr.errors import UserError

PATIENCE = 1800  # seconds to wait for the lock
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}
logger = logging.getLogger(__name__)


@contextmanager
def locked(state: Path) -> Iterator[str]:
    """Holds the lock of a state folder, and yields the text in it; the system releases it however the process ends.

    Raises:
        UserError: another process held it for PATIENCE seconds, or the file system has no locks.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+", encoding="utf-8", errors="replace") as file:
        _wait(file, state)
        file.truncate(0)
        file.write(holder := _holder())
        file.flush()
        yield holder


def check_lock(state: Path, holder: str) -> None:
    """Raises a UserError if another process has taken the lock from the `holder` that `locked` yielded.

    That ends a training that a network cut off from its lock.
    """
    if (now := (state / "lock").read_text(encoding="utf-8", errors="replace")) != holder:
        raise UserError(f"{state}: {now} has taken over this run from {holder}")


def is_held(state: Path) -> bool | None:
    """Whether a process holds the lock; None if there is none, or the file system does not tell."""
    try:
        with (state / "lock").open("r+b") as file:
            return not _acquired(file)
    except (OSError, UserError):
        return None


def _holder() -> str:
    """This process, and how to end it."""
    node, job = os.environ.get("SLURMD_NODENAME") or socket.gethostname(), os.environ.get("SLURM_JOB_ID")
    end = f", Slurm job {job} (`scancel {job}` ends it)" if job else f" (`kill {os.getpid()}` there ends it)"
    return f"process {os.getpid()} on {node}{end}"


def _wait(file: IO[str], state: Path) -> None:
    deadline, logged = time.monotonic() + PATIENCE, False
    while not _acquired(file):
        file.seek(0)
        holder = file.read()
        if time.monotonic() > deadline:
            raise UserError(f"{state}: {holder or 'another process'} is still training this run: try again later")
        if holder and not logged:  # it is empty for a moment
            logger.info("%s: %s is training this run: waits for up to %d minutes", state, holder, PATIENCE // 60)
            logged = True
        time.sleep(1)


def _acquired(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        message = f"{file.name}: its file system has no locks ({error.strerror}): link state/ to one that has"
        raise UserError(message) from None
    return True
