"""The ONNX file of a run: it agrees with PyTorch on real images, and is not written where it does not."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from adtr import Detector
from adtr.cli import main
from adtr.errors import UserError
from adtr.evaluate.measure import upsampled
from adtr.predict import export as module
from adtr.predict.export import TOLERANCE, Graph, Input, export

Make = Callable[..., Path]  # the fixture `made`
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "transformer": ("adtr", {}),
    "adtr_plus": ("adtr_plus", {}),
    "no_attention": ("adtr", {"model": {"variant": "no_attention"}}),
    "no_query": ("adtr", {"model": {"variant": "no_query"}}),
    "cnn": ("adtr", {"model": {"variant": "cnn"}}),
    "padim": ("padim", {}),
    "autoencoder": ("autoencoder", {}),
    "residual, mahalanobis": ("residual", {}),
    "residual, standardized": ("residual", {"residual": {"distance": "standardized", "shared": True}}),
    "residual, mean, l2": ("residual", {"residual": {"start": "mean", "distance": "l2"}}),
    "another backbone": ("padim", {"features": {"backbone": "efficientnet_b0"}}),
    "mean of a wider pooling": ("padim", {"score": {"image_score": "mean", "pooling": 2}}),
}


@pytest.fixture
def paths(images: Path) -> list[Path]:
    """Six test images, of which the first two are not square."""
    return [path for defect in ("good", "scratch") for path in sorted((images / "carpet/test" / defect).iterdir())[:3]]


@pytest.mark.parametrize(("name", "input_"), [*((name, "uint8") for name in RUNS), ("padim", "float32")])
def test_a_file_gives_what_pytorch_gives(
    name: str, input_: Input, made: Make, paths: list[Path], tmp_path: Path
) -> None:
    """With an input made by the line in its metadata, for any number of images."""
    method, changes = RUNS[name]
    detector = Detector.load(made(method, **changes))
    export(detector, tmp_path / "run.onnx", paths, input_)
    session = onnxruntime.InferenceSession(tmp_path / "run.onnx")
    line = session.get_modelmeta().custom_metadata_map["image"]
    names = {"np": np, "Image": Image, "ImageOps": ImageOps}
    inputs = [eval(line, names | {"FILE": path}) for path in paths]
    maps, scores = session.run(["anomaly_map", "pred_score"], {"image": np.concatenate(inputs)})
    expected = detector.predict(paths)
    whole = upsampled(np.stack([p.token_map for p in expected]), 64)
    assert scores == pytest.approx([p.pred_score for p in expected], rel=TOLERANCE)
    assert maps.shape == whole.shape
    assert np.abs(maps - whole).max() < TOLERANCE * whole.max()
    assert session.run(["pred_score"], {"image": inputs[1]})[0] == pytest.approx(scores[1:2], rel=TOLERANCE)


class OtherResize(Graph):
    def upsampled(self, distances: Tensor) -> Tensor:
        grid, size = self.features.grid_size, self.features.image_size
        return F.interpolate(distances.unflatten(1, (1, grid, grid)), size=(size, size), mode="bilinear")


class OtherNormalization(Graph):
    def __init__(self, detector: Detector, input_: Input):
        super().__init__(detector, input_)
        self.std *= 1.02


@pytest.mark.parametrize("graph", [OtherResize, OtherNormalization])
def test_a_broken_export_is_refused_and_leaves_no_file(
    graph: type[Graph], made: Make, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Graph", graph)
    with pytest.raises(UserError, match=r"run\.onnx: not written, as it differs .* by more than 0\.001: score"):
        export(Detector.load(made("padim")), tmp_path / "run.onnx", paths)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["patchcore", "spade", "kde"])
def test_a_method_that_cannot_be_exported_says_so(method: str, made: Make, paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{method} cannot be exported: it searches .*adtr predict"):
        export(Detector.load(made(method)), tmp_path / "run.onnx", paths)


@pytest.mark.usefixtures("alone")
def test_the_command_prints_the_differences_and_writes_what_made_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", "run", "--output", "out/run.onnx", "--images", "today", "--false-alarms", "0.2"])
    assert "out/run.onnx: written; largest differences from PyTorch: score " in capsys.readouterr().out
    notes = onnxruntime.InferenceSession("out/run.onnx").get_modelmeta().custom_metadata_map
    detector, record = Detector.load("run", false_alarms=0.2), json.loads(Path("run/run.json").read_text())
    assert float(notes["threshold"]) == detector.threshold
    assert float(notes["pixel_threshold"]) == detector.pixel_threshold
    assert json.loads(notes["params"])["padim"] == record["params"]["padim"]
    assert json.loads(notes["params"])["features"] == record["features"]["features"]
    assert (notes["model"], notes["data"]) == (record["model"], record["trained_on"])
    assert notes["licence_data"] == "that of the program"  # of the images that the study `smoke` generates


@pytest.mark.usefixtures("alone")
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"run: its test images are not here .*: name others with --images"):
        main(["export", "run", "--output", "run.onnx"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit, match=r"the package onnxruntime is missing.*pip install .*\[export\]"):
        main(["export", "run", "--output", "run.onnx", "--images", "today"])
    assert not Path("run.onnx").exists()


def test_test_images_of_a_study_that_is_here_need_not_be_named(alone: Path, images: Path) -> None:
    shutil.copytree(images, alone / "results/generated/smoke_mvtec")  # where the study `smoke` has them
    main(["export", "run", "--output", "run.onnx"])
    assert Path("run.onnx").is_file()
