"""ResNets of basic blocks (He et al., CVPR 2016), their names those of torchvision's weight files.

Channels of the five layers: 1024 (64+64+128+256+512).
"""

from typing import Any

import torch
from torch import Tensor, nn

from adtr.features.backbones import folded

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def network(name: str, _image_size: int) -> nn.Module:
    """A ResNet takes images of any size."""
    return ResNet(DEPTHS[name])


def chain(network: Any) -> tuple[nn.Module, list[nn.Module]]:
    """The stem before its pooling is layer 1; the pooling opens layer 2."""
    stem = nn.Sequential(folded(network.conv1, network.bn1), nn.ReLU())
    blocks = [*network.layer1, *network.layer2, *network.layer3, *network.layer4]
    for block in blocks:
        block.fold()
    return stem, [nn.MaxPool2d(3, stride=2, padding=1), *blocks]


class ResNet(nn.Module):
    """Stem, four stages of basic blocks, classifier."""

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
