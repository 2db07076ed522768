"""Who is at work in a folder: every Snakemake shares a lock there, which the system takes from it when it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def enter(folder: Path) -> IO[str]:
    """The file whose lock is to be shared, for as long as it is open."""
    (folder / ".snakemake").mkdir(exist_ok=True)
    return (folder / ".snakemake/at-work").open("w")


@contextmanager
def alone(file: IO[str]) -> Iterator[bool]:
    """Whether no other process shares the lock; if so, none begins to before the end of the block."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = True
    except OSError:
        found = False
    try:
        yield found
    finally:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)


def remove_stale_locks(folder: Path) -> None:
    """Removes what a killed Snakemake left locked, as `snakemake --unlock` does; to be called by one that is alone."""
    for lock in (folder / ".snakemake/locks").glob("*.lock"):
        lock.unlink(missing_ok=True)
