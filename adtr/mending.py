"""What Snakemake 9 gets wrong on a cluster, put right. Each function names the fault; without it, it may go."""

from collections.abc import Sequence
from typing import Any

from snakemake.jobs import GroupJob
from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence


def keep_marks() -> None:
    """For the Snakemake inside a job: leaves the marks of incomplete files to the one that sent the job.

    It would remove them without writing a record. Were the sender killed meanwhile, the files would be neither
    incomplete nor known, and pass for what any later parameters ask for.
    """
    FilePersistence._unmark_incomplete = lambda *_: None


def tell_why_batches_fail() -> None:
    """Tells what Slurm said of a batch that failed, which Snakemake drops; and its members, a line each."""

    def log_error(self: GroupJob, msg: str | None = None, aux_logs: Sequence[str] = (), **_: Any) -> None:
        members = [f"    {job.message.partition(' (see ')[0]} (see {', '.join(job.log)})" for job in self.jobs]
        logs = [f"    Slurm's own log: {log}" for log in aux_logs]
        reason = msg or "see the logs of its members"
        logger.error("\n".join([f"A batch of {len(members)} failed: {reason}", *members, *logs]))

    GroupJob.log_error = log_error
