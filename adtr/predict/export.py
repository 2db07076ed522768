"""A trained run as one ONNX file, from the image to its anomaly map and score, for use without PyTorch.

The file is compared with PyTorch on real images before it is written. Shapes: N images, S side of the square input in
px, G side of the feature grid in tokens, T = G·G, C channels of the features, c of them that a distance is taken of.
"""

import importlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr import __version__
from adtr.config.methods import Params
from adtr.config.schema import Section, root_of
from adtr.config.study import Plan, resolve
from adtr.data.images import IMAGENET_MEAN, IMAGENET_STD, as_rgb, read_rgb
from adtr.errors import UserError
from adtr.evaluate.measure import averaged, upsampled
from adtr.features.backbones import Convolution, pyramid
from adtr.features.extract import normalized
from adtr.files import write_bytes
from adtr.methods import autoencoder, residual
from adtr.methods.adtr import trained
from adtr.model.cpu_layers import Linear
from adtr.model.transformer import Reconstruction
from adtr.predict.detector import Detector, Picture, open_image
from adtr.records import Record

Input = Literal["uint8", "float32"]
T = TypeVar("T")
TOLERANCE = 1e-3  # of scores and maps, as a share of the largest; docs/deployment.md has what was measured
IMAGES = 16  # of the test images, that the file is checked with
OPSET = 17  # the first with LayerNormalization
LARGEST = 2**31 - 2**20  # bytes of tensors in a file of protobuf
NEEDS = "pip install -c constraints.txt -e '.[export]'"


class Agreement(NamedTuple):
    """The largest differences of a file's scores and maps from PyTorch's, as shares of PyTorch's largest."""

    score: float
    map: float
    images: int

    def __str__(self) -> str:
        return f"score {self.score:.1e}, map {self.map:.1e} of the largest, on {self.images} images"


def export(
    detector: Detector, output: Path, images: Sequence[Picture], input_: Input = "uint8", notes: Mapping[str, str] = {}
) -> Agreement:
    """Writes a run as an ONNX file, if it agrees with PyTorch on `images`.

    It takes `image`, (N, S, S, 3) uint8 or, as `input_` says, (N, 3, S, S) float32 normalised, and gives
    `anomaly_map` (N, S, S) and `pred_score` (N,) float32. What made it is in its metadata, and `notes`.

    Raises:
        UserError: onnx or onnxruntime is missing, the method cannot be exported, an image cannot be read, or the file
            differs from PyTorch by more than TOLERANCE; nothing is written then.
    """
    onnx, _ = (_package(name) for name in ("onnx", "onnxruntime"))
    model = onnx.load_from_string(_traced(Graph(detector, input_), input_))
    model.producer_name, model.producer_version = "adtr", __version__
    onnx.helper.set_model_props(model, _metadata(detector, input_) | dict(notes))
    content = model.SerializeToString()
    found = compared(content, detector, images, input_)
    if not max(found.score, found.map) <= TOLERANCE:
        raise UserError(f"{output}: not written, as it differs from PyTorch by more than {TOLERANCE:g}: {found}")
    write_bytes(output, content)
    return found


def compared(content: bytes, detector: Detector, images: Sequence[Picture], input_: Input) -> Agreement:
    """What ONNX Runtime makes of an ONNX file's bytes and real images, beside what the detector does."""
    size = detector.params.features.image_size
    pixels = np.stack([as_rgb(open_image(image), size) for image in images])
    inputs = pixels if input_ == "uint8" else normalized(pixels).contiguous().numpy()
    predictions = detector.predict(images)
    scores = np.array([p.pred_score for p in predictions], np.float32)
    maps = upsampled(np.stack([p.token_map for p in predictions]), size)
    session = _package("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    for count in (1, len(images)):  # alone, and together
        map_, score = session.run(["anomaly_map", "pred_score"], {"image": inputs[:count]})
        if map_.shape != maps[:count].shape or score.shape != (count,):
            raise UserError(f"the exported network gives maps {map_.shape}, scores {score.shape} of {count} images")
        differences.append((np.abs(score - scores[:count]).max(), np.abs(map_ - maps[:count]).max()))
    score, map_ = np.max(differences, axis=0) / (np.abs(scores).max(), np.abs(maps).max())
    return Agreement(float(score), float(map_), len(images))


def origin(run: Path) -> tuple[Plan, str]:
    """The study that a run is of, and its data set's name there.

    Raises:
        UserError: there is no such study here.
    """
    labels = Record(run / "evaluation.json").table("metrics.csv", dtype=str).iloc[0]
    plan, dataset = resolve(str(labels.get("study"))), str(labels.dataset)
    if dataset not in plan.datasets:
        raise UserError(f"the study {plan.name} has no data set {dataset}")
    return plan, dataset


def own_images(run: Path) -> list[Picture]:
    """Some of a run's test images, evenly spaced by score; without any, of the normal images that set its threshold.

    Raises:
        UserError: they are not here.
    """
    try:
        plan, dataset = origin(run)
        root = root_of(plan.datasets[dataset].root)
        evaluation = Record(run / "evaluation.json")
        tables = [evaluation.table(name).sort_values("pred_score") for name in ("scores.csv", "calibration.csv")]
        names: list[str] = next((table.image.to_list() for table in tables if len(table)), [])
        if not names:
            raise UserError("it was evaluated on none")
        return [read_rgb(root, name) for name in spaced(names)]
    except UserError as error:
        raise UserError(f"{run}: its test images are not here ({error}): name others with --images") from None


def spaced(items: list[T]) -> list[T]:
    """At most IMAGES of them, from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(IMAGES, len(items))).round().astype(int)]


class Graph(nn.Module):
    """What becomes of an image: (N, S, S, 3) uint8, or (N, 3, S, S) float32, to maps (N, S, S) and scores (N,)."""

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector, input_: Input):
        super().__init__()
        params = detector.params
        self.features, self.score, self.input = params.features, params.score, input_
        self.backbone = deepcopy(detector.backbone)
        self.distance = distance_of(params, detector.state)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN))
        self.register_buffer("std", torch.tensor(IMAGENET_STD))
        _with_plain_layers(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if self.input == "uint8":
            image = ((image.float() / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        map_ = self.upsampled(self.distance(self.tokens(image)))
        size, grid = self.features.image_size, self.features.grid_size
        pooled = averaged(map_, min(size, self.score.pooling * size // grid))
        score = pooled.amax((1, 2, 3)) if self.score.image_score == "max" else pooled.mean((1, 2, 3))
        return map_[:, 0], score

    def tokens(self, image: Tensor) -> Tensor:
        """As features/extract.py: (N, T, C), rounded to float16."""
        size, grid = self.features.image_size, self.features.grid_size
        if self.backbone is None:
            layers = F.pixel_unshuffle(image, size // grid)
        else:
            layers = pyramid(self.backbone(image), self.features.layers, grid)
        return layers.flatten(2).transpose(1, 2).half().float()

    def upsampled(self, distances: Tensor) -> Tensor:
        """As evaluate/measure.py: (N, T) to (N, 1, S, S)."""
        grid, size = self.features.grid_size, (self.features.image_size,) * 2
        return F.interpolate(distances.unflatten(1, (1, grid, grid)), size=size, mode="bilinear", align_corners=True)


class Distance(nn.Module):
    """A token's anomaly: the norm of d = f - f̂, or its distance to a centre, or both; without a network f̂ is zero."""

    channels: Tensor | None  # (c,) those that are compared; None: all
    centre: Tensor  # (T, c)
    scale: Tensor | None  # (P, c), or matrices (P, c, c): for each position, or P = 1 for all

    def __init__(self, network: Reconstruction | None, *tensors: Tensor | None):
        super().__init__()
        self.network = network
        for name, tensor in zip_longest(("channels", "centre", "scale"), tensors):
            self.register_buffer(name, tensor)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, T, C) to (N, T)."""
        d = tokens
        if self.network is not None:
            f = self.network.standardized(tokens)
            d = f - self.network(f)
        if self.channels is not None:
            d = d[:, :, self.channels] - self.centre
        if self.scale is None:
            return d.norm(dim=-1)
        if self.scale.ndim == 2:
            return (d * self.scale).norm(dim=-1)
        return (d.transpose(0, 1) @ self.scale.transpose(1, 2)).norm(dim=-1).transpose(0, 1)


class Patches(Reconstruction):
    """The autoencoder as a network of tokens: (N, T, 3·p·p) to (N, T, 3·p·p)."""

    def __init__(self, state: Mapping[str, Tensor], shape: tuple[int, int], params: Params):
        super().__init__(shape[1])
        self.network = autoencoder._network(shape, params)
        self.network.load_state_dict(state)

    def forward(self, f: Tensor) -> Tensor:
        """f (N, T, 3·p·p) to its reconstruction f̂."""
        return autoencoder.patched(self.network(autoencoder.unpatched(f)), math.isqrt(f.shape[1]))


def distance_of(params: Params, state: Mapping[str, Tensor]) -> Distance:
    """What takes the anomaly of each token.

    Raises:
        UserError: the method cannot be exported.
    """
    features, tokens = params.features, params.features.grid_size**2
    if features.precision != "float32":
        raise UserError("features.precision bfloat16 cannot be exported: ONNX Runtime has these layers in float32 only")
    prefix = residual.NETWORK if params.method == "residual" else ""
    learned = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    match params.method:
        case "adtr" | "adtr_plus":
            return Distance(trained(learned, (tokens, len(learned["mean"])), params))
        case "residual":
            network = trained(learned, (tokens, len(learned["mean"])), params) if learned else None
            return Distance(network, state["channels"], state["centre"], state.get("scale"))
        case "padim":
            return Distance(None, state["channels"], state["mean"], state["whitening"])
        case "autoencoder":
            return Distance(Patches(learned, (tokens, 3 * (features.image_size // features.grid_size) ** 2), params))
        case "patchcore" | "spade" | "kde":
            why = "it searches the features of training images, and an ONNX file holds a network or a Gaussian"
        case _:
            why = "adtr/predict/export.py has no graph of it"
    raise UserError(f"{params.method} cannot be exported: {why}: use `adtr predict`, `adtr serve` or Detector")


def _with_plain_layers(module: nn.Module) -> None:
    """Puts PyTorch's own layers in place of those that call oneDNN, which no exporter knows."""
    for name, layer in module.named_children():
        plain: nn.Module
        if isinstance(layer, Convolution):
            out, each, *kernel = layer.weight.shape
            sizes = (each * layer.groups, out, tuple(kernel), layer.stride, layer.padding)
            plain = nn.Conv2d(*sizes, groups=layer.groups, device="meta")  # type: ignore[arg-type]
        elif isinstance(layer, Linear):
            plain = nn.Linear(layer.in_features, layer.out_features, device="meta")
        else:
            _with_plain_layers(layer)
            continue
        plain.weight, plain.bias = layer.weight, layer.bias
        setattr(module, name, plain)


def _traced(graph: Graph, input_: Input) -> bytes:
    """The ONNX file of a graph, for any number of images."""
    weights = sum(tensor.nbytes for tensor in (*graph.parameters(), *graph.buffers()))
    if weights > LARGEST:
        raise UserError(f"{weights / 2**30:.1f} GB of weights do not fit into one ONNX file, which holds 2 GB")
    size = graph.features.image_size
    shape = (2, size, size, 3) if input_ == "uint8" else (2, 3, size, size)
    names = ["anomaly_map", "pred_score"]
    with TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        # It is deprecated, but its successor needs a further package (onnxscript), and it warns of shapes that it takes
        # as constant, which all but N are
        warnings.simplefilter("ignore")
        path = Path(folder, "graph.onnx")
        torch.onnx.export(
            graph.eval(),
            (torch.zeros(shape, dtype=getattr(torch, input_)),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "N"} for name in ["image", *names]},
        )
        return path.read_bytes()


def _metadata(detector: Detector, input_: Input) -> dict[str, str]:
    """What a user of the file must know, as text by name."""
    params, size = detector.params, detector.params.features.image_size
    sections = {name: value.model_dump(mode="json") for name, value in params if isinstance(value, Section)}
    pillow = f'.convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)'
    image = f"np.asarray(ImageOps.exif_transpose(Image.open(FILE)){pillow})[None]"
    if input_ == "float32":
        mean, std = ([round(float(value), 3) for value in values] for values in (IMAGENET_MEAN, IMAGENET_STD))
        image = f"(({image} / np.float32(255) - np.float32({mean})) / np.float32({std})).transpose(0, 3, 1, 2)"
    values: dict[str, object] = {
        "method": params.method,
        "params": json.dumps(sections),
        "image": image,
        "threshold": detector.threshold,
        "pixel_threshold": detector.pixel_threshold,
        "false_alarms": detector.false_alarms,
        "calibration_images": detector.calibrated_on,
        **detector.made_of,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"the package {name} is missing, which export needs: {NEEDS}") from None
