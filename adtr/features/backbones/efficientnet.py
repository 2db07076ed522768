"""EfficientNet and EfficientNet-Lite, of the libraries efficientnet-pytorch and efficientnet-lite-pytorch.

Channels of the five layers: 720 of B4 (24+32+56+160+448), 512 of B0 and Lite0 (16+24+40+112+320).
"""

import importlib
from typing import Any

from torch import nn

from adtr.features.backbones import folded


def network(name: str, image_size: int) -> nn.Module:
    """EfficientNet pads for the input size that it is built with."""
    library = importlib.import_module("efficientnet_lite_pytorch" if "lite" in name else "efficientnet_pytorch")
    built: nn.Module = library.EfficientNet.from_name(name.replace("_", "-"), image_size=image_size)
    return built


def chain(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """Stem and blocks; the two libraries share their structure."""
    activation = nn.ReLU6(inplace=True) if isinstance(network._swish, nn.ReLU6) else nn.SiLU(inplace=True)
    stem = nn.Sequential(folded(network._conv_stem, network._bn0), activation)
    for block in network._blocks:
        block._swish = activation
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, conv):
                setattr(block, conv, folded(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
    return stem, list(network._blocks)
