"""The order of the sub-packages, read from the source: each imports only those above it, or in its own row."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from adtr.provenance import imports

PACKAGE = Path(__file__).parents[1] / "adtr"
ORDER = [
    ["errors"],
    ["files"],
    ["records"],
    ["device", "kernels", "provenance"],
    ["config"],
    ["data"],
    ["features"],
    ["model"],
    ["train"],
    ["methods"],
    ["evaluate"],
    ["predict"],
    ["tables"],
    ["figures"],
    ["report"],
    ["cost", "prune", "speed", "verify", "workflow"],
    ["cli"],
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_a_module_imports_nothing_below_its_own_row(path: Path) -> None:
    own = room_of(path)
    rooms = {name.split(".")[1] for name in imports(path.read_bytes()) if "." in name} - {"__version__"}
    assert [room for room in rooms if room != own and RANK[room] > RANK[own]] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_bytes()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_is_relative(path: Path) -> None:
    """The digest of code would pass over it."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        assert not (isinstance(node, ast.ImportFrom) and node.level)


def test_no_script_that_tests_import_hides_a_package() -> None:
    """pytest puts these folders before all that is installed: a coverage.py there is what pytest-cov would find."""
    options = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    ours = {path.stem for folder in options["pythonpath"] for path in (PACKAGE.parent / folder).glob("*.py")}
    assert "plain" in ours
    assert ours & (packages_distributions().keys() | sys.stdlib_module_names) == set()


def test_the_package_itself_imports_only_its_face_and_that_late() -> None:
    assert set(imports((PACKAGE / "__init__.py").read_bytes())) == {
        "adtr.predict.detector", "adtr.predict.detector.Detector"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "late"),
    [
        ("import adtr", {"torch", "numpy"}),
        ("import adtr.figures", {"matplotlib", "torch"}),
        ("import adtr.workflow as w; w.Workflow({'study': 'paper'}).tables", {"torch"}),  # at every start of Snakemake
    ],
)
def test_what_is_not_needed_is_not_imported(code: str, late: set[str]) -> None:
    code = f"{code}; import sys; sys.exit(', '.join({late} & {{*sys.modules}}) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
