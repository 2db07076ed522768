"""How the field would write it: torch's own layers, float32, nothing cached, nothing folded. bench/ compares with it.

Shapes: B images, N tokens, C channels, D width, S side of an image in px.
"""

from typing import Any

import torch
from torch import Tensor, nn

from adtr.config.methods import Model
from adtr.config.schema import Features
from adtr.features.backbones import Backbone, network, pyramid


class Layer(nn.Module):
    """DETR's layer of torch.nn.MultiheadAttention: one attention in the encoder, two in the decoder.

    As DETR, it asks for the weights of attention, which keeps torch from its fused attention; that is slower on a CPU.
    """

    def __init__(self, params: Model, attentions: int, fused: bool):
        super().__init__()
        width, p, self.fused = params.width, params.dropout, fused
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(width, params.heads, dropout=p, batch_first=True) for _ in range(attentions)
        )
        self.ffn = nn.Sequential(
            nn.Linear(width, params.ffn_width), nn.ReLU(), nn.Dropout(p), nn.Linear(params.ffn_width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(attentions + 1))
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor, position: Tensor, *memories: Tensor) -> Tensor:
        for attention, norm, memory in zip(self.attentions, self.norms, (x, *memories), strict=False):
            found, _ = attention(x + position, memory + position, memory, need_weights=not self.fused)
            x = norm(x + self.dropout(found))
        return self.norms[-1](x + self.dropout(self.ffn(x)))


class Transformer(nn.Module):
    """ADTR of such layers: (B, N, C) to (B, N, C)."""

    def __init__(self, tokens: int, channels: int, params: Model, fused: bool = False):
        super().__init__()
        self.reduce, self.recover = nn.Linear(channels, params.width), nn.Linear(params.width, channels)
        self.position, self.query = (nn.Parameter(torch.randn(tokens, params.width)) for _ in range(2))
        self.encoder = nn.ModuleList(Layer(params, 1, fused) for _ in range(params.encoder_layers))
        self.decoder = nn.ModuleList(Layer(params, 2, fused) for _ in range(params.decoder_layers))
        self.norm = nn.LayerNorm(params.width)

    def forward(self, f: Tensor) -> Tensor:
        memory = self.reduce(f)
        for layer in self.encoder:
            memory = layer(memory, self.position)
        x = self.query.expand(len(f), -1, -1)
        for layer in self.decoder:
            x = layer(x, self.position, memory)
        return self.recover(self.norm(x))


def backbone(name: str, size: int) -> Backbone:
    """The library's EfficientNet as it is: unfolded, its own activations."""
    library: Any = network(name, size)
    stem = nn.Sequential(library._conv_stem, library._bn0, library._swish)
    return Backbone(stem, list(library._blocks), size).eval()


@torch.inference_mode()
def features_of(network: Backbone, images: Tensor, features: Features) -> Tensor:
    """(B, 3, S, S), normalised, to (B, N, C)."""
    return pyramid(network(images), features.layers, features.grid_size).flatten(2).transpose(1, 2)
