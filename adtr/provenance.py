"""Where a number comes from: code, machine, time.

The code of a stage is its entry modules and what they import of adtr, directly or not, except modules that move bytes.
Its digest is taken of the syntax trees without what no number depends on: comments, docstrings, annotations, messages.
"""

import ast
import hashlib
import os
import platform
import subprocess
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
    "shortcuts": ["evaluate.shortcuts"],
    "features": ["features.extract"],
    "train": ["train.context", "features.select"],
    "evaluate": ["evaluate.measure", "evaluate.pixels", "features.select"],
    "differences": ["evaluate.differences"],
    "tables": ["tables.stage"],
    "plots": ["tables.plots"],
    "figures": ["figures.stage"],
    "report": ["report.stage"],
}

# Modules that read, write, lock, download or check, and decide no number: edits of them rerun nothing. Parameters and
# data sources (config, data.sources) are tracked by their values.
MOVES_BYTES = {
    "cli", "config", "errors", "files", "provenance", "records", "data.fetch", "data.sources", "data.unpack",
    "features.store", "features.weights", "train.lock", "train.outdated", "train.run", "train.stage", "train.status",
    "evaluate.stage",
}  # fmt: skip

# Fields of a syntax tree without meaning, or that not every Python has
SKIPPED = {"ctx", "kind", "type_comment", "type_params", "type_ignores", "returns", "msg"}


def code(stage: str, method: str | None = None, backbone: str | None = None) -> str:
    """Sixteen digits that change with the code that decides a stage's numbers.

    Features ask for their backbone; train, evaluate and differences for the method, a module of adtr/methods.
    """
    modules = [*STAGES[stage], *([f"methods.{method}"] if method else [])]
    if backbone and (name := family(backbone)):
        modules.append(f"features.backbones.{name}")
    return code_digest(*modules)


def family(backbone: str) -> str | None:
    """The module of adtr/features/backbones whose name a backbone's begins with, the longest; None of raw pixels."""
    families = (path.stem for path in (PACKAGE / "features/backbones").glob("[!_]*.py"))
    return max((name for name in families if backbone.startswith(name)), key=len, default=None)


@cache
def code_digest(*modules: str) -> str:
    """Sixteen digits that change with the code of these modules ('train.context') or of what they import.

    Templates (`page.html.j2` beside `page.py`) belong to the module whose name they carry.
    """
    waiting, contents = [f"adtr.{module}" for module in modules], {}
    for name in waiting:
        if not _path(name).is_file():
            raise ValueError(f"adtr has no module {name.removeprefix('adtr.')}")
    while waiting:
        name = waiting.pop()
        if name in contents or not _decides(name):
            continue
        path = _path(name)
        source = path.read_bytes()
        templates = (template.read_bytes() for template in sorted(path.parent.glob(f"{path.stem}.*.j2")))
        contents[name] = b"\0".join([name.encode(), meaning(source).encode(), *templates])
        waiting += imports(source)
    return hashlib.sha256(b"".join(contents[name] for name in sorted(contents))).hexdigest()[:16]


def _path(name: str) -> Path:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _decides(name: str) -> bool:
    """Whether it is a module of adtr, and not one that moves bytes."""
    moves = any(f"{name}.".startswith(f"adtr.{module}.") for module in MOVES_BYTES)
    return name != "adtr" and not moves and _path(name).is_file()


@cache
def imports(source: str | bytes) -> list[str]:
    """The modules of adtr that a source may import: `from adtr.a import b` may mean adtr.a or adtr.a.b."""
    names: list[str] = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.partition(".")[0] == "adtr"]


@cache
def meaning(source: str | bytes) -> str:
    """A module's syntax tree as text, the same under every version of Python, without what no number depends on."""
    return _text(_tree(source))


_tree = cache(ast.parse)


def _text(node: Any, of_class: bool = False) -> str:
    """A node, a list or a value of a syntax tree as text, empty if no number depends on it.

    `of_class`: it stands right in a class, where an annotation makes a field.
    """
    match node:
        case list():
            return f"[{','.join(filter(None, (_text(item, of_class) for item in node)))}]"
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.keyword(arg="description"):
            return ""
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name("logger" | "warnings")))):
            return ""
        case ast.ImportFrom(module="typing" | "collections.abc"):  # imported for annotations
            return ""
        case ast.AnnAssign() if not of_class:
            return _text(ast.Assign([node.target], node.value)) if node.value else ""
        case ast.Raise(exc=ast.Call(func=error)):
            return f"Raise({_text(error)},{_text(node.cause)})"
        case ast.JoinedStr(values=values):  # versions of Python differ in where they cut its constants
            parts = ("".join(map(ascii, str(v.value))) if isinstance(v, ast.Constant) else _text(v) for v in values)
            return f"JoinedStr({''.join(parts)})"
        case ast.AST():
            names = set(node._fields) - SKIPPED - ({"annotation"} if isinstance(node, ast.arg) else set())
            fields = {name: _text(getattr(node, name, None), isinstance(node, ast.ClassDef)) for name in sorted(names)}
            parts = (f"{name}={text}" for name, text in fields.items() if text not in ("None", "[]"))
            return f"{type(node).__name__}({','.join(parts)})"
    return ascii(node)


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
    """The git commit of the checkout of this package, '+' behind it where tracked files differ; 'unknown' without one.

    What a reproduction itself writes does not count: `dvc.lock`, results/, the checksums in data/.
    """
    made = [f":(top,exclude){name}" for name in ("dvc.lock", "results", "data")]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # not a repository around an installed package
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *made)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
