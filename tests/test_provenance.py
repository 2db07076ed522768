"""The digest of code changes with what the code does, and only for the stages that it serves."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from adtr import provenance
from adtr.provenance import code_digest, record

REPOSITORY = Path(__file__).parents[1]

MODULES = {
    "__init__.py": '"""A package."""\n__version__ = "1"\n',
    "errors.py": "class UserError(Exception): ...\n",
    "config.py": "from adtr.errors import UserError\nWIDTH = 3\n",
    "images.py": '"""Pixels."""\n\n\ndef read(path):\n    """Reads."""\n    # plainly\n    return f"{path}: read"\n',
    "features.py": "import numpy\n\nfrom adtr.config.schema import WIDTH\nfrom adtr.data.images import read\n"
    "losses.py": "def norm(x):\n    return x * x\n",
    "train.py": "def train():\n    from adtr import features\n\n    return features\n",
    "report.py": "def write():\n    return 1\n",
    "report.html.j2": "<p>{{ title }}</p>\n",
    "methods/__init__.py": '"""Methods."""\n',
    "methods/adtr.py": "import adtr.model.losses\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the package."""
    path = tmp_path / "adtr"
    path.mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", path)
    code_digest.cache_clear()
    yield path
    code_digest.cache_clear()


@pytest.fixture
def package(folder: Path) -> Path:
    """A small package in place of the real one."""
    for name, text in MODULES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def changed(package: Path, name: str, old: str, new: str) -> set[str]:
    """The stages whose digest another text of a module changes."""
    stages = {"images": ["images"], "features": ["features"], "report": ["report"], "train": ["train", "methods.adtr"]}
    before = {stage: code_digest(*modules) for stage, modules in stages.items()}
    text = (package / name).read_text()
    assert text.count(old) == 1
    (package / name).write_text(text.replace(old, new))
    code_digest.cache_clear()
    return {stage for stage, modules in stages.items() if code_digest(*modules) != before[stage]}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("images.py", "# plainly", "# in another way"),
        ("images.py", '"""Reads."""', '"""Reads what is there."""'),
        ("images.py", '"""Pixels."""', '"""Images."""'),
        ("images.py", '    """Reads."""\n', ""),
        ("images.py", "def read(path):", "def read(\n    path,\n):"),
        ("images.py", "\n\n\ndef", "\ndef"),
        ("config.py", "WIDTH = 3", "WIDTH = 4"),
        ("errors.py", "...", "pass"),
        ("__init__.py", '"1"', '"2"'),
    ],
    ids=[
        "comment",
        "docstring",
        "module docstring",
        "no docstring",
        "layout",
        "blank lines",
        "config",
        "errors",
        "version",
    ],
)
def test_what_no_number_depends_on_changes_nothing(package: Path, name: str, old: str, new: str) -> None:
    assert changed(package, name, old, new) == set()


@pytest.mark.parametrize(
    ("name", "old", "new", "stages"),
    [
        ("images.py", ": read", ": seen", {"images", "features", "train"}),
        ("images.py", "return f", "return 2 * f", {"images", "features", "train"}),
        ("features.py", "import numpy", "import numpy as np", {"features", "train"}),
        ("losses.py", "x * x", "x + x", {"train"}),
        ("train.py", "return features", "return None", {"train"}),
        ("methods/adtr.py", "import adtr.model.losses", "import adtr.model.losses\nSTEPS = 1", {"train"}),
        ("report.py", "1", "2", {"report"}),
        ("report.html.j2", "<p>", "<b>", {"report"}),
    ],
    ids=["string", "expression", "import", "losses", "train", "method", "report", "template"],
)
def test_what_a_stage_runs_changes_its_digest(package: Path, name: str, old: str, new: str, stages: set[str]) -> None:
    assert changed(package, name, old, new) == stages


@pytest.mark.usefixtures("package")
def test_the_digest_does_not_know_in_which_order_modules_are_named() -> None:
    before = code_digest("data.images"), code_digest("report")
    assert before[0] != before[1]
    assert code_digest("data.images", "report") == code_digest("report", "images") not in before
    assert len(before[0]) == 16


# The package itself


@pytest.fixture
def copy(folder: Path) -> Path:
    """A copy of the real package in its place."""
    leave_out = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(REPOSITORY / "adtr", folder, ignore=leave_out, dirs_exist_ok=True)


STAGES = {
    "index": ["datasets"],
    "features": ["features"],
    "train ADTR": ["train", "methods.adtr"],
    "train SPADE": ["train", "methods.spade"],
    "score": ["score", "methods.adtr"],
    "report": ["report"],
}


@pytest.mark.parametrize(
    ("module", "reruns", "spares"),
    [
        ("losses", {"train ADTR"}, {"index", "features", "train SPADE", "report"}),
        ("model", {"train ADTR", "score"}, {"index", "features", "train SPADE", "report"}),
        ("methods/spade", {"train SPADE"}, {"index", "features", "train ADTR", "score", "report"}),
        ("images", {"index", "features"}, set()),
        ("backbones", {"features"}, {"index"}),
        ("metrics", {"score"}, {"index", "features", "train ADTR", "train SPADE"}),
        ("report/content", {"report"}, {"index", "features", "train ADTR", "train SPADE", "score"}),
        ("fetch", set(), set(STAGES)),
        ("config", set(), set(STAGES)),
    ],
)
def test_an_edited_module_reruns_the_stages_that_it_serves(
    copy: Path, module: str, reruns: set[str], spares: set[str]
) -> None:
    before = {stage: code_digest(*modules) for stage, modules in STAGES.items()}
    path = copy / f"{module}.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nADDED = 1\n", encoding="utf-8")
    code_digest.cache_clear()
    found = {stage for stage, modules in STAGES.items() if code_digest(*modules) != before[stage]}
    assert reruns <= found
    assert not found & spares


def test_the_digest_is_the_same_in_another_process() -> None:
    code = "from adtr.provenance import code_digest; print(code_digest('train', 'methods.adtr'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == code_digest("train.stage", "methods.adtr")


def test_no_module_imports_in_a_way_that_the_digest_does_not_see() -> None:
    """Relative imports of the package's modules would be passed over."""
    for path in (REPOSITORY / "adtr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


# What is written beside a number


def test_a_record_is_of_plain_values_that_json_gives_back() -> None:
    found = record("features")
    assert {type(value) for value in found.values()} == {str, int}
    assert json.loads(json.dumps(found)) == found
    assert found["code"] == code_digest("features.extract")
    assert datetime.fromisoformat(str(found["time"])).utcoffset() is not None
    assert all(found.values())


def git(folder: Path, *words: str) -> str:
    command = [
        "git",
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@x",
        "-c",
        "commit.gpgsign=false",
        "-C",
        str(folder),
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("folder")
def test_an_unknown_module_has_no_digest() -> None:
    with pytest.raises(ValueError, match="no module typo"):
        code_digest("typo")


def test_the_commit_is_marked_where_files_differ_from_it(folder: Path) -> None:
    (folder / "features.py").touch()
    assert record("features")["commit"] == "unknown"
    git(folder, "init", "--quiet")
    (folder / "a.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    commit = git(folder, "rev-parse", "--short=12", "HEAD")
    (folder / "untracked.txt").touch()
    assert record("features")["commit"] == commit
    (folder / "a.py").write_text("2")
    assert record("features")["commit"] == f"{commit}+"


def test_what_a_reproduction_writes_does_not_mark_the_commit(folder: Path) -> None:
    (folder / "features.py").touch()
    git(folder, "init", "--quiet")
    made = [folder / name for name in ("dvc.lock", "results/demo/metrics.csv", "data/own.dvc")]
    for number in (1, 2):
        for file in made:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(number))
        if number == 1:
            git(folder, "add", ".")
            git(folder, "commit", "--quiet", "--message", "one")
    assert git(folder, "status", "--porcelain") != ""
    assert record("features")["commit"] == git(folder, "rev-parse", "--short=12", "HEAD")
