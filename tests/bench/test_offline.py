"""A visit to a machine without network, rehearsed: the project is packed, and a stage runs on what was packed."""

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workshop import HERE


def ran(*words: object, folder: Path, **environment: str) -> str:
    """The output of a script that must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_tests_of_a_visit_need_no_package_that_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE / "bench/offline")
    pack, stages = importlib.import_module("pack"), importlib.import_module("stages")
    developers = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    left_out = {canonicalize_name(Requirement(line).name) for line in developers} - set(pack.FOR_TESTS)
    distributions = packages_distributions()

    def imported(path: Path) -> set[str]:
        """Distributions that a file needs when it is imported."""
        names: set[str] = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
        return {canonicalize_name(of) for name in names for of in distributions.get(name.partition(".")[0], [])}

    ignored = [HERE / path for path in stages.NOT_TESTED]
    assert all(path.exists() for path in ignored)
    files = {path for path in (HERE / "tests").rglob("test_*.py") if not {path, *path.parents} & set(ignored)}
    assert len(files) > 50
    assert {path.name: needed for path in files if (needed := imported(path) & left_out)} == {}


@pytest.mark.pipeline
def test_what_was_packed_runs_each_command_and_repeats_its_bytes(tmp_path: Path) -> None:
    """Packages come from the installation here, as on a machine that has them: only the project is packed."""
    packed, visit = tmp_path / "packed", tmp_path / "visit"
    printed = ran(HERE / "bench/offline/pack.py", "--items", "project", "--stages", "direct", "--output", packed,
                  "--drill", "--cpu --tiny", folder=tmp_path, **os.environ)  # fmt: skip
    assert "there: python3 1/drill.py --cpu --tiny --minutes 25 --stages direct" in printed
    (home := tmp_path / "home").mkdir()
    words = (
        "--cpu",
        "--tiny",
        "--stages",
        "direct",
        "--patience",
        5,
        "--folder",
        visit,
        "--output",
        tmp_path / "output",
        "--wait",
        400,
    )
    report = ran(packed / "1/drill.py", *words, folder=tmp_path, HOME=str(home), PATH=os.defpath)
    assert (tmp_path / "output/drill.txt").read_text() in report + "\n"
    assert f"adtr: {visit}/project/adtr/__init__.py" in report
    assert "launched and launched_killed: the same bytes" in report
    status = json.loads((visit / "status.json").read_text())["direct"]
    assert (status["state"], status["errors"]) == ("done", 0)
    assert (visit / "stages/direct/launched-metrics.csv").is_file()
    assert (tmp_path / "output/checks.tar.xz").is_file()
    assert not list(home.iterdir())
