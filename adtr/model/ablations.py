"""The networks of the ablation study (Sec. 4.4, Table 4a), and which network a run's parameters ask for.

Shapes: B batch, N = G·G tokens, C channels of the features, D width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr.config.methods import Model
from adtr.model.cpu_layers import Linear
from adtr.model.transformer import ADTR, Attention, Reconstruction


def reconstruction_network(shape: tuple[int, ...], params: Model) -> Reconstruction:
    """The network of `params.variant` for features of `shape` (N, C), with fresh weights."""
    tokens, channels = shape
    if params.variant == "cnn":
        return CNN(channels, params.width, params.cnn_blocks)
    network = NoQuery if params.variant == "no_query" else ADTR
    attention = Concatenation if params.variant == "no_attention" else Attention
    settings = params.model_dump(exclude={"variant", "standardize", "cnn_blocks"})
    return network(tokens, channels, attention=attention, **settings)


class Concatenation(nn.Module):
    """Replaces attention: query and value of the same token, concatenated and projected. No token sees another."""

    def __init__(self, width: int, *_: float):
        super().__init__()
        self.proj = Linear(2 * width, width)

    def forward(self, query: Tensor, _key: Tensor, value: Tensor) -> Tensor:
        """query (B or 1, N, D) and value (B, N, D) to (B, N, D)."""
        return self.proj(torch.cat([query.expand_as(value), value], dim=-1))


class NoQuery(ADTR):
    """ADTR without the query embedding: the decoder's input is the encoder's output."""

    def __init__(self, tokens: int, channels: int, **settings: Any):
        super().__init__(tokens, channels, **settings)
        del self.query_embed

    def decoder_input(self, memory: Tensor) -> Tensor:
        """(B, N, D)."""
        return memory


class CNN(Reconstruction):
    """ResNet's basic blocks (He et al., CVPR 2016) at one resolution, between 1x1 convolutions as in ADTR.

    Of width 256, six of them have about as many parameters as ADTR.
    """

    def __init__(self, channels: int, width: int = 256, blocks: int = 6):
        super().__init__(channels)
        self.input_proj = nn.Conv2d(channels, width, 1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.output_proj = nn.Conv2d(width, channels, 1)

    def forward(self, f: Tensor) -> Tensor:
        """f (B, N, C) to its reconstruction f̂ (B, N, C)."""
        side = math.isqrt(f.shape[1])
        grid = f.transpose(1, 2).unflatten(2, (side, side))
        return self.output_proj(self.blocks(self.input_proj(grid))).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, G, G) to (B, D, G, G)."""
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
