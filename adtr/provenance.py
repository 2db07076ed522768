"""Where a number comes from: code, machine, time.

The code of a stage is its entry modules and what they import of adtr, directly or not, except modules that move bytes.
Its digest is taken of the syntax trees without what no number depends on: comments, docstrings, annotations, messages.
"""

import ast
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent

STAGES = {
    "generate": ["data.synthetic"],
    "index": ["data.manifest"],
    "confetti": ["data.confetti"],
    "outliers": ["data.manifest"],
    "features": ["features.extract"],
    "train": ["train.fit"],
    "evaluate": ["evaluate.measure"],
    "differences": ["evaluate.differences"],
    "tables": ["tables.stage"],
    "plots": ["tables.plots"],
    "figures": ["figures.stage"],
    "report": ["report.stage"],
}

# Modules that read, write, lock, download or check, and decide no number: edits of them rerun nothing. Parameters and
# data sources (config, data.sources) are tracked by their values.
MOVES_BYTES = {
    "cli", "config", "errors", "files", "provenance", "data.fetch", "data.sources", "data.unpack", "features.store",
    "features.weights", "train.lock", "train.outdated", "train.run", "train.stage", "train.state", "train.status",
    "evaluate.stage",
}  # fmt: skip

SKIPPED = {"ctx", "kind", "type_comment", "type_params", "type_ignores"}  # meaningless, or not of every Python
TYPING = {"typing", "collections.abc"}  # modules that are imported for annotations


def code(stage: str, method: str | None = None, backbone: str | None = None) -> str:
    """Sixteen digits that change with the code that decides a stage's numbers.

    Args:
        stage: a key of STAGES.
        method: of train, evaluate and differences: a module of adtr/methods.
        backbone: of features.
    """
    modules = list(STAGES[stage])
    if method:
        modules.append(f"methods.{method}")
    if backbone and (name := family(backbone)):
        modules.append(f"features.backbones.{name}")
    return code_digest(*modules)


def family(backbone: str) -> str | None:
    """The module of adtr/features/backbones whose name a backbone's begins with, the longest; None of raw pixels."""
    families = (path.stem for path in (PACKAGE / "features/backbones").glob("[!_]*.py"))
    return max((name for name in families if backbone.startswith(name)), key=len, default=None)


@cache
def code_digest(*modules: str) -> str:
    """Sixteen digits that change with the code of these modules ('train.fit') or of what they import.

    Templates (`page.html.j2` beside `page.py`) belong to the module whose name they carry.
    """
    names: set[str] = set()
    for module in modules:
        if not _path(f"adtr.{module}").is_file():
            raise ValueError(f"adtr has no module {module}")
        _collect(f"adtr.{module}", names)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + _content(name)[0])
    return digest.hexdigest()[:16]


def _path(name: str) -> Path:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _collect(name: str, names: set[str]) -> None:
    """Adds `name` and what it imports to `names`."""
    own = name.removeprefix("adtr.")
    moves = any(own == module or own.startswith(f"{module}.") for module in MOVES_BYTES)
    if name in names or moves or name == "adtr" or not _path(name).is_file():
        return
    names.add(name)
    for imported in _content(name)[1]:
        _collect(imported, names)


def _content(name: str) -> tuple[bytes, list[str]]:
    """The meaning of a module and its templates, and the modules of adtr that it may import."""
    path = _path(name)
    text, imported = _parsed(path.read_bytes())
    templates = (template.read_bytes() for template in sorted(path.parent.glob(f"{path.stem}.*.j2")))
    return b"\0".join([text.encode(), *templates]), imported


@cache
def _parsed(source: bytes) -> tuple[str, list[str]]:
    return meaning(source), list(imports(source))


def imports(source: str | bytes) -> Iterator[str]:
    """The modules of adtr that a source may import: `from adtr.a import b` may mean adtr.a or adtr.a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "adtr":
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "adtr")


def meaning(source: str | bytes) -> str:
    """A module's syntax tree as text, the same under every version of Python, without what no number depends on."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        _strip(node)
    return _dump(tree)


def _strip(node: ast.AST) -> None:
    """Removes from a node its annotations, its messages, and the statements that _bare removes."""
    for field in ("body", "orelse", "finalbody"):
        if isinstance(statements := getattr(node, field, None), list):
            bare = (_bare(statement, isinstance(node, ast.ClassDef)) for statement in statements)
            setattr(node, field, [statement for statement in bare if statement])
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            node.returns = None
        case ast.arg():
            node.annotation = None
        case ast.Assert():
            node.msg = None
        case ast.Raise(exc=ast.Call() as error):
            error.args, error.keywords = [], []
        case ast.Call(func=ast.Name("Field")):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        case ast.JoinedStr():
            node.values = _merged(node.values)


def _bare(statement: ast.stmt, of_class: bool) -> ast.stmt | None:
    """A statement without its annotation, which is kept `of_class` only, as there it makes a field.

    None of a docstring, `...`, `pass`, a message, an import of types, or an annotation alone.
    """
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return None
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name("logger" | "warnings")))):
            return None
        case ast.ImportFrom(module=module) if module in TYPING:
            return None
        case ast.AnnAssign() if not of_class:
            return ast.Assign([statement.target], statement.value) if statement.value else None
    return statement


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string; versions of Python differ in where they cut its constants."""
    merged: list[ast.expr] = []
    for value in values:
        match merged, value:
            case [*_, ast.Constant(str(before))], ast.Constant(str(after)):
                merged[-1] = ast.Constant(before + after)
            case _, ast.Constant(""):
                pass
            case _:
                merged.append(value)
    return merged


def _dump(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_dump, value))}]"
    if not isinstance(value, ast.AST):
        return ascii(value)
    fields = {name: getattr(value, name, None) for name in sorted(value._fields) if name not in SKIPPED}
    parts = [f"{name}={_dump(field)}" for name, field in fields.items() if field is not None and field != []]
    return f"{type(value).__name__}({','.join(parts)})"


def record(stage: str, method: str | None = None, backbone: str | None = None) -> dict[str, str | int]:
    """Code, versions, machine and time, as plain values; arguments as for `code`."""
    import torch

    return {
        "code": code(stage, method, backbone),
        "commit": _commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
    }


def device_name(device: str) -> str:
    """What the machine calls a device, 'cpu' or 'cuda…'."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else "cpu"


def _commit() -> str:
    """The git commit of the working tree, '+' behind it where tracked files differ; 'unknown' outside a checkout.

    What a reproduction itself writes does not count: `dvc.lock`, results/, the checksums in data/.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True).stdout

    try:
        commit = git("rev-parse", "--short=12", "HEAD").strip()
        made = [f":(top,exclude){name}" for name in ("dvc.lock", "results", "data")]
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", ":/", *made).strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
