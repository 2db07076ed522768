"""EfficientNet and EfficientNet-Lite, of the libraries efficientnet-pytorch and efficientnet-lite-pytorch.

Channels of the five layers: 720 of B4 (24+32+56+160+448), 512 of B0 and Lite0 (16+24+40+112+320).
"""

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr.features.backbones import folded

VECTOR = 32  # float32 values at most that a CPU's activations take at once; those left at the end are rounded otherwise


def network(name: str, image_size: int) -> nn.Module:
    """EfficientNet pads for the input size that it is built with."""
    library = importlib.import_module("efficientnet_lite_pytorch" if "lite" in name else "efficientnet_pytorch")
    built: nn.Module = library.EfficientNet.from_name(name.replace("_", "-"), image_size=image_size)
    return built


class Swish(nn.Module):
    """x · sigmoid(x), in place; on one thread of a CPU an image's bits do not depend on what else is in the batch."""

    def forward(self, x: Tensor) -> Tensor:
        if not _one_by_one(x) or x[0].numel() % VECTOR == 0:
            return F.silu(x, inplace=True)
        for image in x:
            F.silu(image, inplace=True)
        return x


class SqueezeExcitation(nn.Module):
    """Channels (B, C, H, W) weighted by what all of their image is like (Hu et al., CVPR 2018, Sec. 3).

    On one thread of a CPU an image's bits do not depend on what else is in the batch.
    """

    def __init__(self, reduce: nn.Conv2d, expand: nn.Conv2d):
        super().__init__()
        self.reduce, self.expand = reduce, expand

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.adaptive_avg_pool2d(x, 1).flatten(1)
        excited = torch.sigmoid(_by_row(F.silu(_by_row(squeezed, self.reduce)), self.expand))
        return excited[:, :, None, None] * x


def _by_row(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """(B, C_in) to (B, C_out) by a 1x1 convolution."""
    weight, bias = conv.weight.flatten(1), conv.bias
    assert bias is not None
    if not _one_by_one(x):
        return F.linear(x, weight, bias)
    out = _apart(x, len(weight))
    for row, result in zip(_apart(x, x.shape[1]).copy_(x), out, strict=True):
        torch.addmv(bias, weight, row, out=result)
    return out


def _apart(like: Tensor, columns: int) -> Tensor:
    """Rows that no activation joins, as they are not contiguous, and that all begin at the same place of a vector."""
    return like.new_empty(len(like), (columns // VECTOR + 1) * VECTOR)[:, :columns]


def _one_by_one(x: Tensor) -> bool:
    """Whether images are kept apart where their number decides about rounding: not on a GPU, nor in a traced graph."""
    return x.is_cpu and not torch.jit.is_tracing()


def chain(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Stem and blocks; the two libraries share their structure."""
    activation = nn.ReLU6(inplace=True) if isinstance(network._swish, nn.ReLU6) else Swish()
    stem = nn.Sequential(folded(network._conv_stem, network._bn0), activation)
    for block in network._blocks:
        block._swish = activation
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, conv):
                setattr(block, conv, folded(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
        if block.has_se:
            excitation = SqueezeExcitation(block._se_reduce, block._se_expand)
            block.has_se, block._project_conv = False, nn.Sequential(excitation, block._project_conv)
            del block._se_reduce, block._se_expand
    return stem, list(network._blocks)
