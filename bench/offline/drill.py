#!/usr/bin/env python3
"""Measures ADTR Bench on an offline GPU machine, stage by stage, the most valuable first. README.md explains how.

    drill.py [--wait S] [--until STAGE] [--output DIR]    a call: receive, continue in the background, wait, collect

What was taken along lies beside this file.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, fields
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

import stages
import studies
from items import NEEDS, complete, has, packed, receive
from summary import collect
from visit import ENDED, Settings, Stage, Visit

HERE = Path(__file__).resolve().parent
FUNCTIONS = {name: getattr(studies if hasattr(studies, name) else stages, name) for name in NEEDS}
DEFAULTS = {"minutes": 25.0, "cpu": False, "tiny": False, "seeds": 1, "patience": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = HERE if (HERE / "settings.json").is_file() else Path("/tmp/adtr-offline")
    parser.add_argument("--folder", type=Path, default=folder, help=f"where everything happens [{folder}]")
    parser.add_argument("--output", type=Path, help="where results are collected [the folder's output/]")
    parser.add_argument("--wait", type=float, default=5, help="seconds that this call waits at most [5]")
    parser.add_argument("--until", choices=NEEDS, help="return once this stage has ended")
    first = parser.add_argument_group("of a visit, with its first call or with --again")
    first.add_argument("--again", action="store_true", help="the settings named here, and these stages once more")
    unset, order = argparse.SUPPRESS, ",".join(NEEDS)
    first.add_argument("--minutes", type=float, default=unset, help="from this call on [25; again: those that remain]")
    first.add_argument("--stages", default=unset, help=f"in their order, before those that still wait [{order}]")
    first.add_argument("--cpu", action="store_true", default=unset, help="a rehearsal without a GPU")
    first.add_argument("--tiny", action="store_true", default=unset, help="with tiny networks, one epoch, one class")
    first.add_argument("--seeds", type=int, default=unset, help="of MVTec-AD's screw and CIFAR-10 [1]")
    first.add_argument("--patience", type=float, default=unset, help="factor of the stages' time limits [1]")
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
    words = {field.name: getattr(options, field.name) for field in fields(Settings) if hasattr(options, field.name)}
    if options.again or not visit.begun():
        begin(visit, words)
    elif words:
        print(f"ignored, as a visit has begun: --{', --'.join(words)} (add --again to change the visit)", flush=True)
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
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "| head" is no error
        text = (output / "drill.txt").read_text()
        print(text if len(text) < 9000 else f"{text[:4000]}\n[…]\n{text[-5000:]}")
        print(what_next(visit, f" --output {output}" if options.output else ""))


def begin(visit: Visit, words: dict[str, Any]) -> None:
    """Writes the settings of a visit: of one that has begun those named, what still waits, and the minutes that remain.

    Args:
        words: settings that were named; `stages` as they were typed.
    """
    old = asdict(visit.settings) | {"stages": visit.stages_in("waiting", "running")} if visit.begun() else {}
    named = words["stages"].split(",") if "stages" in words else []
    if unknown := sorted(set(named) - set(NEEDS)):
        sys.exit(f"--stages: no stage {', '.join(unknown)}; there are {', '.join(NEEDS)}")
    if old and not (named or old["stages"]):
        sys.exit("--again: all stages have ended; name those to run once more: --stages")
    if old and "minutes" not in words and visit.left() < 20:
        sys.exit("--again: the minutes of the visit are over; name new ones: --minutes")
    began = {} if old and "minutes" not in words else {"began": time.time()}
    stages = list(dict.fromkeys([*named, *old["stages"]] if old else named or NEEDS))
    visit.begin(Settings(**DEFAULTS | old | words | began | {"stages": stages}))
    for name in named if old else stages:
        visit.mark(name, state="waiting")


def what_next(visit: Visit, output: str) -> str:
    """What to type after a call."""
    again, waiting = f"python3 {visit.folder}/drill.py{output}", visit.stages_in("waiting", "running")
    missing = [item for item in packed(visit)["items"] if not has(visit, item)]
    if waiting and visit.left() < 20:
        return f"next: the minutes are over; for {', '.join(waiting)}: {again} --again --minutes M"
    if waiting or alive(visit):
        come = f"bring the other folders ({', '.join(missing)} not complete here), and " if missing else ""
        return f"next: the work goes on in the background; {come}type {again} --wait 600"
    return f"next: all stages have ended; the results are complete. Once more: {again} --again --minutes M --stages …"


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
