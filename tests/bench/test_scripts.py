"""Measurements that make files for the stages, or run them by name: that they still do, not what they measure."""

import re
import subprocess
import sys

import planted
import pytest


def output_of(*words: str, timeout: int = 240) -> str:
    run = subprocess.run(
        [sys.executable, *words], cwd=planted.REPOSITORY, capture_output=True, text=True, timeout=timeout
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_memory_of_a_small_training_is_measured() -> None:
    peak = re.search(r"features 1 MB, peak of the process (\d+) MB", output_of("bench/memory.py", "--images", "2"))
    assert peak
    assert 200 < int(peak[1]) < 2000  # PyTorch and two images


@pytest.mark.pipeline
@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "extraction.py --images 2 --size 64 --rounds 1",
        "gpu.py --device cpu --tiny --minutes 0.1",
        "growth.py --rounds 1",
        "intervals.py 1",
        "latency.py --backbone efficientnet_lite0 --rounds 1",
        "metrics.py",
        "precision.py --seeds 1 --set train.epochs=1",
        "roofline.py --steps 1",
        "stacked.py --members 2 --images 2 --rounds 1",
        "training.py --images 16 --epochs 1 --rounds 1",
    ],
)
def test_a_measurement_runs_to_its_end(words: str) -> None:
    script, *options = words.split()
    assert output_of(f"bench/{script}", *options, timeout=1200)


@pytest.mark.pipeline
def test_the_plan_of_a_study_is_timed() -> None:
    printed = output_of("bench/planning.py", "--study", "smoke")
    assert re.search(r"study smoke, \d+ jobs\nplan \d+\.\d s, a second run that does nothing \d", printed)
