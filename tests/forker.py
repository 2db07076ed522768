"""Trainings of the planted problem in processes of their own, to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cluster
import planted

running = cluster.alive

# Imports PyTorch once, then starts a process for each line; prints its number, then how it ended
SERVER = """
import gc, json, logging, os, sys
sys.path[:0] = ["tests", "."]
from pathlib import Path
import planted, torch, torch._dynamo, adtr.methods.adtr, adtr.provenance
adtr.provenance.code("train", "adtr")
gc.freeze()
for line in sys.stdin:
    log, manifest, store, folder, train = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        planted.run(planted.Case(Path(manifest), Path(store)), Path(folder), train=train)
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forker:
    """Starts trainings without the seconds that importing PyTorch takes each."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=planted.REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._last = 0

    def start(self, case: planted.Case, folder: Path, log: Path, **train: Any) -> int:
        """As `planted.run`; gives the number of the process."""
        assert self._server.stdin
        log.touch()
        words = [str(path) for path in (log.absolute(), case.manifest, case.store, folder)]
        print(json.dumps([*words, train]), file=self._server.stdin, flush=True)
        self._last = self._number()
        return self._last

    def exit_code(self) -> int:
        return self._number()

    def kill(self) -> None:
        os.kill(self._last, signal.SIGKILL)
        assert self.exit_code() == -signal.SIGKILL

    def close(self) -> None:
        """Also after a test that failed while its training went on."""
        if self._last and running(self._last):
            os.kill(self._last, signal.SIGKILL)
        self._server.communicate()

    def _number(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())


def wait_for(text: str, count: int, log: Path, process: int) -> None:
    """Until the log has `text` so many times, or the process has ended."""
    deadline = time.monotonic() + 60
    while log.read_text().count(text) < count and running(process):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.002)
