"""Measurements that make files for the stages, or run them by name: that they still do, not what they measure."""

import re
import subprocess
import sys

import planted
import pytest


def said(*words: str) -> str:
    run = subprocess.run([sys.executable, *words], cwd=planted.REPOSITORY, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_memory_of_a_small_training_is_measured() -> None:
    peak = re.search(r"features 1 MB, peak of the process (\d+) MB", said("bench/memory.py", "--images", "2"))
    assert peak
    assert int(peak[1]) > 200  # PyTorch alone


@pytest.mark.pipeline
def test_the_plan_of_a_study_is_timed() -> None:
    assert re.search(
        r"plan \d+\.\d s, a second run that does nothing \d", said("bench/planning.py", "--study", "smoke")
    )
