"""A copy of the repository in which Snakemake runs for the tests."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent.parent
TARGETS = ["all_tables", "figures", "report"]


def environment_of(folder: Path) -> dict[str, str]:
    """In which a copy of the repository uses its own package."""
    return os.environ | {"PYTHONPATH": str(folder)}


def ran(words: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a copy of the repository; its whole output is in stdout."""
    return subprocess.run(
        words, cwd=folder, env=environment_of(folder) | variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


class Workshop:
    """A copy of the repository's files, in which Snakemake runs with the copy's own package."""

    def __init__(self, folder: Path, empty: bool = True):
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        if not empty:
            return
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=HERE, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for name in names:
            if (HERE / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(HERE / name, folder / name, follow_symlinks=False)

    def sibling(self, folder: Path) -> "Workshop":
        """Another copy, with the data and the features of this one and without its runs."""
        other = Workshop(folder)
        made = ("generated", "manifests", "shortcuts", "features", "confetti", "outliers")
        for name in (".snakemake/metadata", *(f"results/{folder}" for folder in made)):
            if (self.folder / name).is_dir():
                shutil.copytree(self.folder / name, folder / name)
        return other

    def snakemake(self, *words: str, study: str = "smoke", setting: str = "") -> subprocess.CompletedProcess[str]:
        """Runs Snakemake; its whole output is in stdout."""
        return ran(self.command(*words, study=study, setting=setting), self.folder)

    def begun(self, *words: str, log: Path, setting: str = "") -> subprocess.Popen[str]:
        """Starts Snakemake in a session of its own, its output in `log`."""
        with log.open("w") as output:
            process = subprocess.Popen(
                self.command(*words, setting=setting), cwd=self.folder, env=environment_of(self.folder),
                start_new_session=True, preexec_fn=usual_signals, stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Kills what was begun here and still runs."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @staticmethod
    def command(*words: str, study: str = "smoke", setting: str = "") -> list[str]:
        settings = [f"set={setting}"] if setting else []
        return ["snakemake", *words, "--config", f"study={study}", *settings]

    def planned(self, *words: str, setting: str = "") -> dict[str, int]:
        """How many jobs of each rule a dry run plans."""
        result = self.snakemake(*(words or TARGETS), "--dry-run", setting=setting)
        assert result.returncode == 0, result.stdout
        table = result.stdout.partition("Job stats:")[2].partition("total")[0]
        return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}

    @contextmanager
    def edited(self, name: str, old: str, new: str) -> Iterator[None]:
        """Changes a file of the copy for the length of a block, its times as they were afterwards."""
        path = self.folder / name
        text, stat = path.read_text(), path.stat()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        try:
            yield
        finally:
            path.write_text(text)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def usual_signals() -> None:
    """Of a terminal: what runs in the background, or under nohup, ignores some of them."""
    for sign in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, signal.SIG_DFL)


def wait_for(true: Callable[[], object], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
