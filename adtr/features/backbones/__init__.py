"""Frozen ImageNet backbones: an image in, the five layers of a feature pyramid out.

A layer is the combination of stages with the same feature size (Sec. 3.1); it is read after its last block, at
strides 2, 4, 8, 16, 32. Batch normalisation is folded into the convolutions, as the weights never change.

A family of backbones is a module here, whose name is the beginning of the names of its backbones ('resnet' of
resnet18 and resnet34), with two functions; to add a family, add a module:

    network(name, image_size) -> nn.Module             with random weights, named as its weight files name them
    chain(network) -> (stem, blocks)                   folded, for `Backbone`

Shapes: B batch, S input side in px, G grid side in tokens, C channels.
"""

import importlib
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adtr import kernels, provenance
from adtr.config.schema import Features
from adtr.errors import UserError


class Backbone(nn.Module):
    """A stem, from the image to stride 2, and a chain of blocks, read after the last block at each stride.

    Images of another size than S are refused: efficientnet-pytorch pads for the size it was built with.
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
        if not x.is_cpu or x.dtype != torch.float32:
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
        return kernels.convolution(x, self.weight, self.bias, self.stride, self.padding, self.groups)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Convolution:
    """A convolution and the batch normalisation behind it, as one."""
    return Convolution(fuse_conv_bn_eval(conv, norm))


def pyramid(layers: list[Tensor], chosen: tuple[int, ...], grid: int) -> Tensor:
    """The chosen layers (1-5) resized to one grid and concatenated: (B, C, G, G) (Sec. 3.1; bilinear as in UniAD)."""
    maps = (layers[i - 1].float() for i in chosen)
    resized = [F.interpolate(m, size=(grid, grid), mode="bilinear", align_corners=True) for m in maps]
    return torch.cat(resized, dim=1)


def build(features: Features, weights: Path | None) -> Backbone:
    """The backbone that `features` names, in its precision, in evaluation mode, folded, frozen, channels last.

    Args:
        weights: file of its state dict; None draws random weights from a fixed seed.

    Raises:
        UserError: there is no such backbone, or the weight file cannot be read or does not fit.
    """
    unfolded = network(features.backbone, features.image_size)
    if weights is not None:
        try:
            unfolded.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # torch.load raises almost anything on a broken file
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{weights}: not readable as the weights of this backbone ({first})") from None
    unfolded.eval().requires_grad_(False)
    stem, blocks = _family(features.backbone).chain(unfolded)
    backbone = Backbone(stem, blocks, features.image_size).eval()
    return backbone.to(getattr(torch, features.precision), memory_format=torch.channels_last)  # type: ignore[call-overload]


def network(name: str, image_size: int) -> nn.Module:
    """The network of a backbone, built for the true input size, its weights random from a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unfolded: nn.Module = _family(name).network(name, image_size)
        return unfolded


def _family(name: str) -> ModuleType:
    family = provenance.family(name)
    if family is None:
        raise UserError(f"backbone {name}: no module of adtr/features/backbones has a name that it begins with")
    return importlib.import_module(f"adtr.features.backbones.{family}")
