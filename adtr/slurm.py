"""What a job tells Slurm, and the jobs that a killed Snakemake left behind. Without Slurm, nothing happens here."""

import logging
import os
import shutil
import subprocess
import time
from pathlib import Path

PATIENCE = 90  # seconds that a cancelled job may take to end
logger = logging.getLogger(__name__)


def announce(text: str) -> None:
    """Says in the job's comment what it is at, for `squeue --me --format='%i %T %M %k'`, and in the log where it is."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    node, gpus = os.environ.get("SLURMD_NODENAME", "?"), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    logger.info("Slurm job %s on %s, CUDA_VISIBLE_DEVICES=%s", job, node, gpus)
    if shutil.which("scontrol"):
        subprocess.run(["scontrol", "update", f"JobId={job}", f"Comment={text}"], capture_output=True)


def given_gpu() -> bool:
    """Whether this is a job to which Slurm gave a GPU."""
    return "SLURM_JOB_ID" in os.environ and bool(os.environ.get("CUDA_VISIBLE_DEVICES"))


def cancel_leftovers(folder: Path, prefix: str) -> list[str]:
    """Cancels the jobs that another Snakemake submitted from `folder`, and waits until they are gone.

    To be called under Snakemake's lock: no other Snakemake is alive there, and nobody waits for these jobs.

    Args:
        prefix: that their names begin with.

    Returns:
        'NUMBER COMMENT' of each.
    """
    found = _jobs(folder, prefix)
    if found:
        subprocess.run(["scancel", *found], check=True, capture_output=True, text=True)
        deadline = time.monotonic() + PATIENCE
        while _jobs(folder, prefix) and time.monotonic() < deadline:
            time.sleep(1)
    return [f"{job} {comment}" for job, comment in found.items()]


def _jobs(folder: Path, prefix: str) -> dict[str, str]:
    """Number and comment of this user's jobs of such names from `folder`; none without a Slurm that answers."""
    if not shutil.which("squeue"):
        return {}
    words = ["squeue", "--me", "--noheader", "--format=%i|%j|%Z|%k"]
    answer = subprocess.run(words, capture_output=True, text=True)
    jobs = [line.split("|", 3) for line in answer.stdout.splitlines()]
    own = [job for job in jobs if job[1].startswith(f"{prefix}_") and Path(job[2]) == folder]
    return {number: comment for number, _, _, comment in own}
