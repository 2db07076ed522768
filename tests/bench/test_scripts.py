"""Measurements that make files for the stages, or run them by name: that they still do, not what they measure."""

import re
import subprocess
import sys

import planted
import pytest


def output_of(*words: str) -> str:
    run = subprocess.run([sys.executable, *words], cwd=planted.REPOSITORY, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_memory_of_a_small_training_is_measured() -> None:
    peak = re.search(r"features 1 MB, peak of the process (\d+) MB", output_of("bench/memory.py", "--images", "2"))
    assert peak
    assert 200 < int(peak[1]) < 2000  # PyTorch and two images


@pytest.mark.pipeline
def test_the_plan_of_a_study_is_timed() -> None:
    printed = output_of("bench/planning.py", "--study", "smoke")
    assert re.search(r"study smoke, \d+ jobs\nplan \d+\.\d s, a second run that does nothing \d", printed)
