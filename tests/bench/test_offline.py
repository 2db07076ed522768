"""A visit to a machine without network, rehearsed: the project is packed, and a stage runs on what was packed."""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from workshop import HERE

from adtr.workflow import Workflow


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


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(HERE / "bench/offline")
    return {name: importlib.import_module(name) for name in ("drill", "items", "stages", "visit")}


def test_again_keeps_what_waits_and_the_minutes_that_remain(modules: dict[str, Any], tmp_path: Path) -> None:
    visit, begin = modules["visit"].Visit(tmp_path), modules["drill"].begin
    begin(visit, {"minutes": 10.0, "stages": "direct,smoke,elpv", "cpu": True})
    first = visit.settings
    visit.mark("direct", state="done")
    begin(visit, {"stages": "elpv,direct"})
    assert visit.settings == replace(first, stages=["elpv", "direct", "smoke"])
    assert visit.stages_in("waiting") == ["elpv", "direct", "smoke"]
    begin(visit, {"minutes": 1.0})
    assert visit.settings.began > first.began
    assert visit.settings == replace(first, began=visit.settings.began, minutes=1, stages=["elpv", "direct", "smoke"])
    begin(visit, {"minutes": 0.1})
    with pytest.raises(SystemExit, match="--minutes"):
        begin(visit, {})
    for name in first.stages:
        visit.mark(name, state="done")
    with pytest.raises(SystemExit, match="--stages"):
        begin(visit, {"minutes": 1.0})


def test_as_many_trainings_share_a_gpu_as_are_asked_for(
    modules: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adtr.workflow.has_gpu", lambda: True)
    of_one = Workflow({"study": "demo", "set": ""}).whole_gpu
    assert f"gpu_slots={3 * of_one}" in modules["stages"].snakemake(["report"], "demo", 8, 3, tmp_path)


def test_a_shorter_visit_ends_the_command_that_runs(modules: dict[str, Any], tmp_path: Path) -> None:
    visit, begin = modules["visit"].Visit(tmp_path), modules["drill"].begin
    begin(visit, {"stages": "direct"})
    visit.project.mkdir()
    threading.Timer(1, begin, (visit, {"minutes": 0.0})).start()
    assert modules["visit"].Stage(visit, "direct").run(["sleep", 40], "log", 60) == 124


def test_failing_tests_are_named_and_the_last_run_counts(modules: dict[str, Any], tmp_path: Path) -> None:
    visit, stages = modules["visit"].Visit(tmp_path), modules["stages"]
    modules["drill"].begin(visit, {"stages": "recorded", "cpu": True})
    visit.project.mkdir()
    stage, test = modules["visit"].Stage(visit, "recorded"), visit.project / "test_steps.py"
    for condition in ("True", "False", "True"):
        test.write_text(f"def test_steps():\n    assert {condition}\n")
        (tmp_path / "notes.txt").write_text("")
        stages.pytest(stage, ["test_steps.py"], "recorded.txt", 100)
        assert ("test_steps.py::test_steps" in (tmp_path / "notes.txt").read_text()) == (condition == "False")
        assert stages.recording_works(visit) == (condition == "True")


def a_packing(folder: Path, packed: float, items: dict[str, list[str]]) -> Path:
    """A folder with the drill and a list of items, none of which is in it."""
    shutil.copytree(HERE / "bench/offline", folder)
    (folder / "packed.json").write_text(json.dumps({"commit": f"of {packed}", "time": packed, "items": items}))
    return folder


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0)])
def test_a_mend_counts_whenever_older_folders_come(
    modules: dict[str, Any], order: tuple[int, ...], tmp_path: Path
) -> None:
    visit = modules["visit"].Visit(tmp_path / "visit")
    visit.folder.mkdir()
    both = [
        a_packing(tmp_path / "whole", 1.0, {"project": ["project-old.piece0"], "screw": ["screw.piece0"]}),
        a_packing(tmp_path / "mend", 2.0, {"project": ["project-new.piece0"]}),
    ]
    for i in order:
        modules["items"].receive(visit, both[i])
    expected = {"project": ["project-new.piece0"], "screw": ["screw.piece0"]}
    assert modules["items"].packed(visit) == {"commit": "of 2.0", "time": 2.0, "items": expected}


def test_a_call_says_what_it_ignores_what_is_not_measured_and_what_to_type(tmp_path: Path) -> None:
    packing = a_packing(tmp_path / "1", 1.0, {"project": ["project.piece0"]})
    words = [packing / "drill.py", "--wait", 0, "--folder", tmp_path / "visit"]
    first = ran(*words, "--minutes", 0.1, "--stages", "direct,bench", folder=tmp_path)  # too short for any work
    assert "ignored" not in first
    assert "not measured at 64 tokens: studies take 5 trainings at once, 6 ms a step" in first
    assert f"for direct, bench: python3 {tmp_path}/visit/drill.py --again --minutes M" in first
    assert "ignored" not in ran(*words, folder=tmp_path)
    later = ran(*words, "--minutes", 5, "--stages", "smoke", folder=tmp_path)
    assert "ignored, as a visit has begun: --minutes, --stages (add --again" in later
    assert json.loads((tmp_path / "visit/settings.json").read_text())["stages"] == ["direct", "bench"]


@pytest.mark.pipeline
def test_what_was_packed_runs_each_command_and_repeats_its_bytes(tmp_path: Path) -> None:
    """Packages come from the installation here, as on a machine that has them: only the project is packed."""
    packed, visit = tmp_path / "packed", tmp_path / "visit"
    printed = ran(HERE / "bench/offline/pack.py", "--items", "project", "--stages", "direct", "--output", packed,
                  "--drill", "--cpu --tiny", folder=tmp_path, **os.environ)  # fmt: skip
    assert "there: python3 1/drill.py --cpu --tiny --minutes 25 --stages direct" in printed
    (home := tmp_path / "home").mkdir()
    words = f"--cpu --tiny --stages direct --patience 5 --folder {visit} --output {tmp_path}/output --wait 400".split()
    report = ran(packed / "1/drill.py", *words, folder=tmp_path, HOME=str(home), PATH=os.defpath)
    assert (tmp_path / "output/drill.txt").read_text() in report + "\n"
    assert f"adtr: {visit}/project/adtr/__init__.py" in report
    assert "launched and launched_killed: the same bytes" in report
    status = json.loads((visit / "status.json").read_text())["direct"]
    assert (status["state"], status["errors"]) == ("done", 0)
    assert (visit / "stages/direct/launched-metrics.csv").is_file()
    assert (tmp_path / "output/checks.tar.xz").is_file()
    assert not list(home.iterdir())
