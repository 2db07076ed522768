"""Ways to send the study `smoke` to Slurm: a job for each job; train and evaluate of a run in one; job arrays.

Makes its tables once a way, each time in a fresh copy, on the Slurm of tests/cluster.py (root). Its two nodes share
this machine's cores and its queue is empty but for these jobs: each job's wait in a busy queue comes on top.
    python bench/slurm.py
"""

import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import cluster
from measure import machine
from workshop import Workshop

WAYS = {
    "a job for each job (the profile)": [],
    "a group a run": ["--groups", "train=run", "fit=run", "evaluate=run"],
    "job arrays": ["--slurm-array-jobs", "all"],
}


def seconds(job: dict[str, str], begin: str, end: str) -> float:
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job[begin])).total_seconds()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cluster.start(place / "slurm")
        try:
            version = subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout.strip()
            print(f"{machine()}, {version}, {cluster.NODES} nodes, {cluster.GPUS} GPUs each")
            print("| | jobs | total, s | jobs' own time, s | waiting, s a job |\n| --- | --- | --- | --- | --- |")
            for name, words in WAYS.items():
                shop = Workshop(place / f"way{list(WAYS).index(name)}")
                began = time.monotonic()
                result = shop.snakemake("--profile", "slurm", "all_tables", *words)
                total = time.monotonic() - began
                if result.returncode:
                    raise SystemExit(result.stdout)
                jobs = [job for job in cluster.ended(place / "slurm") if job["WorkDir"] == str(shop.folder)]
                own = sum(seconds(job, "StartTime", "EndTime") for job in jobs)
                waiting = sum(seconds(job, "SubmitTime", "StartTime") for job in jobs) / len(jobs)
                print(f"| {name} | {len(jobs)} | {total:.0f} | {own:.0f} | {waiting:.1f} |", flush=True)
        finally:
            cluster.stop(place / "slurm")


if __name__ == "__main__":
    main()
