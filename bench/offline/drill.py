#!/usr/bin/env python3
"""Measures ADTR Bench on an offline GPU machine, stage by stage, the most valuable first. README.md explains how.

    drill.py [--wait S] [--until STAGE] [--output DIR]    a call: receive, continue in the background, wait, collect

What was taken along lies beside this file.
"""

import argparse
import shutil
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import fields
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import stages
import studies
from items import NEEDS, complete, receive
from summary import collect
from visit import ENDED, Settings, Stage, Visit

HERE = Path(__file__).resolve().parent
FUNCTIONS = {name: getattr(studies if hasattr(studies, name) else stages, name) for name in NEEDS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = HERE if (HERE / "settings.json").is_file() else Path("/tmp/adtr-offline")
    parser.add_argument("--folder", type=Path, default=folder, help=f"where everything happens [{folder}]")
    parser.add_argument("--output", type=Path, help="where results are collected [the folder's output/]")
    parser.add_argument("--wait", type=float, default=5, help="seconds that this call waits at most [5]")
    parser.add_argument("--until", choices=NEEDS, help="return once this stage has ended")
    first = parser.add_argument_group("of a visit, with its first call or with --again")
    first.add_argument("--minutes", type=float, default=25, help="length of the visit, from its first call [25]")
    first.add_argument("--stages", default=",".join(NEEDS), help=f"in their order [{','.join(NEEDS)}]")
    first.add_argument("--again", action="store_true", help="new settings, and these stages once more")
    first.add_argument("--cpu", action="store_true", help="a rehearsal without a GPU")
    first.add_argument("--tiny", action="store_true", help="a rehearsal with tiny networks, one epoch, one class")
    first.add_argument("--seeds", type=int, default=1, help="of MVTec-AD's screw and CIFAR-10 [1]")
    first.add_argument("--patience", type=float, default=1, help="factor of the stages' time limits [1]")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    visit = Visit(options.folder.resolve())
    if options.work:
        work(visit)
    else:
        call(visit, options, (options.output or visit.folder / "output").resolve())


def call(visit: Visit, options: argparse.Namespace, output: Path) -> None:
    """Receives what came along, lets the worker work, waits, and collects the results."""
    began, ended = time.time(), -1
    if options.again or not (visit.folder / "settings.json").is_file():
        names = options.stages.split(",")
        if unknown := sorted(set(names) - set(NEEDS)):
            sys.exit(f"--stages: no stage {', '.join(unknown)}; there are {', '.join(NEEDS)}")
        kept = {field.name: getattr(options, field.name) for field in fields(Settings) if field.name != "began"}
        visit.begin(Settings(**kept | {"began": began, "stages": names}))
        for name in names:
            visit.mark(name, state="waiting")
    receive(visit, HERE)
    try:
        if visit.stages_in("waiting", "running") and visit.left() > 20:
            start_worker(visit)
        while alive(visit) and time.time() < began + options.wait:
            done = visit.stages_in(*ENDED)
            if options.until in done:
                break
            if len(done) > ended:
                ended = len(done)
                print(f"{time.time() - began:4.0f} s: ended: {', '.join(done) or 'nothing yet'}", flush=True)
                collect(visit, output)
            time.sleep(1)
    finally:
        collect(visit, output)
        text = (output / "drill.txt").read_text()
        print(text if len(text) < 9000 else f"{text[:4000]}\n[…]\n{text[-5000:]}")


def start_worker(visit: Visit) -> None:
    """Starts the worker with the lock, which ends with it; nothing if there is one."""
    words = [sys.executable, str(visit.folder / "drill.py"), "--work", "--folder", str(visit.folder)]
    with (visit.folder / "worker.lock").open("w") as lock, suppress(BlockingIOError):
        flock(lock, LOCK_EX | LOCK_NB)
        log = (visit.folder / "worker.log").open("a")
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock.fileno()],
                         start_new_session=True)  # fmt: skip


def alive(visit: Visit) -> bool:
    """Whether the worker runs."""
    with (visit.folder / "worker.lock").open("a") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
    return False


def work(visit: Visit) -> None:
    """Runs the stages whose items are here, in their order, until all have ended or time is up."""
    began = time.time()
    threading.Thread(target=watch_gpu, args=(Stage(visit, "worker"),), daemon=True).start()
    for name in visit.stages_in("running"):
        Stage(visit, name).note("ended with the process that ran it")
        visit.mark(name, state="failed")
    while visit.left() > 20 and (waiting := visit.stages_in("waiting")):
        ready = [name for name in waiting if complete(visit, name)]
        if ready:
            run_stage(Stage(visit, ready[0]))
        else:
            time.sleep(1)
    for report in studies.reports.values():
        report.join(max(1, visit.left()))
    visit.mark("worker", state="done", seconds=round(time.time() - began))


def run_stage(stage: Stage) -> None:
    """Runs a stage; one that fails costs itself alone."""
    began, state = time.time(), "done"
    stage.visit.mark(stage.name, state="running")
    try:
        FUNCTIONS[stage.name](stage)
    except Exception:
        stage.note(traceback.format_exc())
        state = "failed"
    stage.visit.mark(stage.name, state=state, errors=stage.errors, seconds=round(time.time() - began))


def watch_gpu(stage: Stage) -> None:
    """Load, memory and power every five seconds."""
    query = "timestamp,utilization.gpu,utilization.memory,memory.used,power.draw,clocks.sm"
    words = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    while shutil.which("nvidia-smi"):
        with (stage.folder / "gpu.csv").open("a") as file:
            subprocess.run(words, stdout=file, timeout=60)
        time.sleep(5)


if __name__ == "__main__":
    main()
