"""What takes the place of ADTR's network in the ablation study (Sec. 4.4, Table 4a).

Shapes: B batch, N = G·G tokens, C channels of the features, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr.config.methods import Model
from adtr.model.cpu_layers import Linear
from adtr.model.transformer import ADTR, Attention, Reconstruction


def reconstruction_network(shape: tuple[int, ...], params: Model) -> Reconstruction:
    """The network that `params.variant` names, with fresh weights; `shape` is (N, C)."""
    tokens, channels = shape
    if params.variant == "cnn":
        return CNN(channels, params)
    if params.variant == "no_query":
        return NoQuery(tokens, channels, params)
    return ADTR(tokens, channels, params, Concatenation if params.variant == "no_attention" else Attention)


class Concatenation(nn.Module):
    """In place of attention: each token of x beside the one of the memory at its position, projected.

    Position is added to x, as to the queries of attention.
    """

    def __init__(self, params: Model):
        super().__init__()
        self.project = Linear(2 * params.width, params.width)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """x (B or 1, N, D), memory (B, N, D) to (B or 1, N, D)."""
        return self.project(torch.cat([(x + position).expand_as(memory), memory], dim=-1))


class NoQuery(ADTR):
    """Without the auxiliary query embedding: the encoder's output enters the decoder in its place."""

    def __init__(self, tokens: int, channels: int, params: Model):
        super().__init__(tokens, channels, params)
        del self.query

    def decoder_input(self, memory: Tensor) -> Tensor:
        """(B, N, D)."""
        return memory


class CNN(Reconstruction):
    """ResNet's basic blocks (He et al., CVPR 2016) at one resolution, between the 1x1 convolutions of ADTR.

    Args:
        channels: C.
        params: width and cnn_blocks.
    """

    def __init__(self, channels: int, params: Model):
        super().__init__(channels)
        self.reduce = nn.Conv2d(channels, params.width, 1)
        self.blocks = nn.Sequential(*(Block(params.width) for _ in range(params.cnn_blocks)))
        self.recover = nn.Conv2d(params.width, channels, 1)

    def forward(self, f: Tensor) -> Tensor:
        """f (B, N, C) to its reconstruction f̂ (B, N, C)."""
        side = math.isqrt(f.shape[1])
        grid = f.transpose(1, 2).unflatten(2, (side, side))
        return self.recover(self.blocks(self.reduce(grid))).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, G, G) to (B, D, G, G)."""
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
