"""Where a number comes from: code, machine, time.

The code of a stage is its module and every module of adtr that it imports, directly or not. Its digest is taken of
the syntax trees without docstrings, so that a comment reruns nothing and an edited line reruns what depends on it.
"""

import ast
import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
UNTRACKED = {
    "adtr.config.schema",
    "adtr.config.study",
    "adtr.provenance",
    "adtr.errors",
}  # parameters are tracked by their values


@cache
def code_digest(*modules: str) -> str:
    """Sixteen digits that change with the code of these modules ('train', 'methods.adtr') or of what they import.

    Templates (`page.html.j2` beside `page.py`) belong to the module whose name they carry.
    """
    names: set[str] = set()
    for module in modules:
        if not _path(f"adtr.{module}").is_file():
            raise ValueError(f"adtr has no module {module}")
        _collect(f"adtr.{module}", names)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + _meaning(_path(name)))
        for template in sorted(_path(name).parent.glob(f"{_path(name).stem}.*.j2")):
            digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def _path(name: str) -> Path:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _collect(name: str, names: set[str]) -> None:
    """Adds `name` and what it imports to `names`."""
    if name in names or name in UNTRACKED or name == "adtr" or not _path(name).is_file():
        return
    names.add(name)
    for node in ast.walk(ast.parse(_path(name).read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("adtr"):
            for found in (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)):
                _collect(found, names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("adtr"):
                    _collect(alias.name, names)


def _meaning(path: Path) -> bytes:
    """A module's syntax tree without docstrings, comments and layout."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode()


def record(*modules: str) -> dict[str, str | int]:
    """Code, versions, machine and time, as plain values."""
    import torch

    return {
        "code": code_digest(*modules),
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


def code(stage: str, method: str | None = None, backbone: str | None = None) -> str:
    """TEMPORARY until the merge of the new digests."""
    del backbone
    names = {
        "generate": "data.synthetic",
        "index": "data.manifest",
        "confetti": "data.confetti",
        "outliers": "data.manifest",
        "features": "features.extract",
        "train": "train.stage",
        "evaluate": "evaluate.stage",
        "differences": "evaluate.differences",
        "tables": "tables.stage",
        "plots": "tables.plots",
        "figures": "figures.drawing",
        "report": "report",
    }
    return code_digest(names[stage], *([f"methods.{method}"] if method else []))
