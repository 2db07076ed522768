"""What checksums cost: the share of a stage's processor time that goes into SHA-256, on the finished study demo.

Works on a copy of results/. Trainings read what a fit reads and last longer, so their share is smaller.
    python bench/checking.py
"""

import cProfile
import os
import pstats
import shutil
import tempfile
import time
from pathlib import Path

from measure import machine

from adtr.cli import main

HASHING = ("_hashlib", "sha256", "file_digest")
RUNS = ("elpv/padim/mono/0", "elpv/patchcore/mono/0", "elpv/adtr/mono/0")
STAGES = (
    [["train", run] for run in RUNS[:2]] + [["evaluate", run] for run in RUNS] + [["tables"], ["report"], ["verify"]]
)


def share(words: list[str]) -> tuple[float, float]:
    """Processor time of a command, s, and the share of it in calls of hash functions."""
    profile = cProfile.Profile(time.process_time)
    try:
        profile.runcall(main, [words[0], "--study", "demo", *words[1:]])
    except SystemExit as end:
        if end.code:
            raise
    stats = pstats.Stats(profile).get_stats_profile()
    hashing = sum(of.tottime for name, of in stats.func_profiles.items() if any(word in name for word in HASHING))
    return stats.total_tt, hashing / stats.total_tt


if __name__ == "__main__":
    params = Path("params").resolve()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("demo", "features", "manifests", "shortcuts"):
            shutil.copytree(f"results/{name}", f"{folder}/results/{name}", copy_function=shutil.copy2)
        Path(folder, "params").symlink_to(params)
        os.chdir(folder)
        print(machine())
        for words in STAGES:
            if words[0] == "train":
                shutil.rmtree(f"results/demo/runs/{words[1]}")
            seconds, part = share(words)
            print(f"{' '.join(words):32} {seconds:7.1f} s  {part:6.1%}")
