import re
import subprocess
import sys

import planted


def test_the_memory_of_a_small_training_is_measured() -> None:
    command = [sys.executable, "bench/memory.py", "--images", "2"]
    said = subprocess.run(command, cwd=planted.REPOSITORY, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    peak = re.search(r"features 1 MB, peak of the process (\d+) MB", said.stdout)
    assert peak
    assert int(peak[1]) > 200  # PyTorch alone
