"""A visit to the offline machine: its working folder, its clock, and commands that end in time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import venv
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ENDED = ("done", "failed")
COMMANDS = {"adtr": "from adtr.cli import main", "snakemake": "from snakemake.cli import main"}


@dataclass(frozen=True)
class Settings:
    """What the first call of a visit decides."""

    began: float  # as of `time.time`
    minutes: float
    stages: list[str]
    cpu: bool
    tiny: bool
    seeds: int  # of MVTec-AD's screw and CIFAR-10
    patience: float


class Visit:
    """The working folder of a visit, in which everything happens.

    Attributes:
        project: the project as it was packed.
        python: an interpreter that has the packages of this machine and those that were taken along.
    """

    def __init__(self, folder: Path):
        self.folder, self.project, self.python = folder, folder / "project", folder / "venv/bin/python"
        self._lock = threading.Lock()

    def begin(self, settings: Settings) -> None:
        """Writes the settings, and makes the virtual environment; packages that come later are found in it, too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "settings.partial"
        partial.write_text(json.dumps(asdict(settings)))
        partial.replace(self.folder / "settings.json")
        if self.python.exists():
            return
        builder = venv.EnvBuilder(system_site_packages=True, symlinks=True)
        builder.create(self.folder / "venv")
        here = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        packages = next((self.folder / "venv/lib").glob("python*/site-packages"))
        (packages / "offline.pth").write_text("\n".join([str(self.project), str(self.folder / "site"), *here]) + "\n")
        for name, imported in COMMANDS.items():
            path = self.python.with_name(name)
            path.write_text(f"#!{self.python}\nimport sys\n{imported}\nsys.exit(main())\n")
            path.chmod(0o755)

    def begun(self) -> bool:
        return (self.folder / "settings.json").is_file()

    @property
    def settings(self) -> Settings:
        return Settings(**json.loads((self.folder / "settings.json").read_text()))

    def left(self) -> float:
        """Seconds to the end of the visit."""
        return self.settings.began + 60 * self.settings.minutes - time.time()

    def status(self) -> dict[str, dict[str, Any]]:
        """What is known of each stage: state, seconds and more."""
        try:
            content: dict[str, dict[str, Any]] = json.loads((self.folder / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        return content

    def stages_in(self, *states: str) -> list[str]:
        """The stages of this visit in one of these states."""
        status = self.status()
        return [name for name in self.settings.stages if status.get(name, {}).get("state", "waiting") in states]

    def environment(self, gpu: bool = True) -> dict[str, str]:
        """For commands: the virtual environment, and an empty home."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        dropped = ("PYTHONPATH", "PYTHONHOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "SNAKEMAKE_PROFILE")
        own = {"HOME": str(home), "PATH": f"{self.python.parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
        own |= {"OMP_NUM_THREADS": "1" if self.settings.tiny else "4", "LC_ALL": "C.UTF-8"}
        if self.settings.cpu or not gpu:
            own["CUDA_VISIBLE_DEVICES"] = ""
        return {name: value for name, value in os.environ.items() if name not in dropped} | own

    def mark(self, stage: str, **what: Any) -> None:
        """Adds to what is known of a stage."""
        with self._lock:
            status = self.status()
            status[stage] = status.get(stage, {}) | what
            partial = self.folder / "status.partial"
            partial.write_text(json.dumps(status, indent=1))
            partial.replace(self.folder / "status.json")


class Stage:
    """A stage of a visit, with a folder for what it leaves."""

    def __init__(self, visit: Visit, name: str):
        self.visit, self.name, self.folder = visit, name, visit.folder / "stages" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.errors = 0  # commands that failed or were killed

    def note(self, text: str) -> None:
        """What went wrong, or how a plan was changed; the summary shows it."""
        with (self.visit.folder / "notes.txt").open("a") as file:
            file.write(f"[{time.strftime('%H:%M:%S')}] {self.name}: {text.rstrip()}\n")

    def start(self, words: Sequence[object], output: Any, folder: Path | None = None, gpu: bool = True) -> Any:
        """Starts a command in a session of its own, in `folder` [the project]."""
        return subprocess.Popen(
            list(map(str, words)), cwd=folder or self.visit.project, env=self.visit.environment(gpu),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(
        self,
        words: Sequence[object],
        log: str,
        seconds: float,
        folder: Path | None = None,
        gpu: bool = True,
        reserve: float = 0,
    ) -> int:
        """Runs a command, its output in a log of the stage; killed after so many seconds, or `reserve` before the end.

        The end may move while it runs: `drill.py --again --minutes` decides anew.

        Returns:
            Its exit code: 124 if it was killed, 127 if it could not be started.
        """
        began, code, seconds = time.time(), 124, seconds * self.visit.settings.patience

        def left() -> float:
            return min(began + seconds - time.time(), self.visit.left() - reserve)

        line = " ".join(map(str, words)).partition("\n")[0]
        if left() > 3:
            with (self.folder / log).open("a") as file:
                file.write(f"$ {line}\n")
                file.flush()
                try:
                    process = self.start(words, file, folder, gpu)
                    while left() > 0 and process.poll() is None:
                        with suppress(subprocess.TimeoutExpired):
                            process.wait(min(2, max(0, left())))
                    if process.poll() is None:
                        kill(process)
                    else:
                        code = process.returncode
                except OSError as error:
                    file.write(f"{error}\n")
                    code = 127
                file.write(f"# exit {code} after {time.time() - began:.1f} s\n")
        if code:
            self.errors += 1
            self.note(f"{log}: exit {code} after {time.time() - began:.0f} s: {line[:300]}")
        return code

    def together(self, *calls: Callable[[], object]) -> None:
        """Calls functions at once; one that raises is noted."""

        def guarded(call: Callable[[], object]) -> None:
            try:
                call()
            except Exception:
                self.note(traceback.format_exc())

        threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def kill(process: Any) -> None:
    """Kills a command with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
