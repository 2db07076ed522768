"""What a job tells Slurm, and the jobs that a killed Snakemake left behind. Without Slurm, nothing happens here."""

import logging
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from adtr.errors import UserError

PATIENCE = 90  # seconds that a cancelled job may take to end
logger = logging.getLogger(__name__)


def announce(text: str) -> None:
    """Says in the job's comment what it is at, for `squeue --me --format='%i %T %M %k'`, and in the log where it is."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    node, gpus = os.environ.get("SLURMD_NODENAME", "?"), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    logger.info("Slurm job %s on %s, CUDA_VISIBLE_DEVICES=%s", job, node, gpus)
    with suppress(OSError, subprocess.TimeoutExpired):  # a comment is not worth an hour of the GPU
        subprocess.run(["scontrol", "update", f"JobId={job}", f"Comment={text}"], capture_output=True, timeout=10)


def given_gpu() -> bool:
    """Whether this is a job to which Slurm gave a GPU."""
    return "SLURM_JOB_ID" in os.environ and bool(os.environ.get("CUDA_VISIBLE_DEVICES"))


def cancel_leftovers(folder: Path, prefix: str) -> list[str]:
    """Cancels the jobs that another Snakemake submitted from `folder`, and waits until they are gone.

    To be called where this Snakemake is alone in the folder: nobody waits for these jobs.

    Args:
        prefix: that their names begin with.

    Returns:
        'NUMBER COMMENT' of each.

    Raises:
        UserError: they do not end.
    """
    found = jobs_of(folder, prefix) or {}
    left = list(found)
    if found:
        subprocess.run(["scancel", *found], capture_output=True)
    deadline = time.monotonic() + PATIENCE
    while left:
        if time.monotonic() > deadline:
            raise UserError(f"Slurm jobs left behind do not end: when `scancel {' '.join(left)}` has, type this again")
        time.sleep(1)
        now = jobs_of(folder, prefix)
        left = left if now is None else list(now)
    return [f"{job} {comment}" for job, comment in found.items()]


def jobs_of(folder: Path, prefix: str) -> dict[str, str] | None:
    """Number and comment of this user's jobs of such names from `folder`; None without a Slurm that answers."""
    words = ["squeue", "--me", "--noheader", "--format=%i|%j|%Z|%k"]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    jobs = [line.split("|", 3) for line in answer.splitlines()]
    own = [job for job in jobs if job[1].startswith(f"{prefix}_") and Path(job[2]) == folder]
    return {number: comment for number, _, _, comment in own}
