"""A plain implementation to compare with: torch's own layers, float32, nothing cached, nothing folded.

Shapes: B images, N tokens, C channels, D width, S side of an image in px.
"""

from typing import Any

import torch
from torch import Tensor, nn

from adtr.config.schema import Features
from adtr.features.backbones import Backbone, network, pyramid


class Layer(nn.Module):
    """DETR's layer of torch.nn.MultiheadAttention: one attention in the encoder, two in the decoder.

    Like DETR, it returns the attention weights unless `fused`; PyTorch's fused attention is slower on a CPU.
    """

    def __init__(self, attentions: int, width: int, heads: int, ffn_width: int, dropout: float, fused: bool):
        super().__init__()
        self.fused = fused
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(width, heads, dropout, batch_first=True) for _ in range(attentions)
        )
        self.ffn = nn.Sequential(
            nn.Linear(width, ffn_width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ffn_width, width)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(attentions + 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, pos_embed: Tensor, *memories: Tensor) -> Tensor:
        for attention, norm, memory in zip(self.attentions, self.norms, (x, *memories), strict=False):
            attended, _ = attention(x + pos_embed, memory + pos_embed, memory, need_weights=not self.fused)
            x = norm(x + self.dropout(attended))
        return self.norms[-1](x + self.dropout(self.ffn(x)))


class Transformer(nn.Module):
    """ADTR of such layers: (B, N, C) to (B, N, C)."""

    def __init__(
        self,
        tokens: int,
        channels: int,
        width: int = 256,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        heads: int = 8,
        ffn_width: int = 1024,
        dropout: float = 0.1,
        fused: bool = False,
    ):
        super().__init__()
        layer = width, heads, ffn_width, dropout, fused
        self.input_proj, self.output_proj = nn.Linear(channels, width), nn.Linear(width, channels)
        self.pos_embed, self.query_embed = (nn.Parameter(torch.randn(tokens, width)) for _ in range(2))
        self.encoder = nn.ModuleList(Layer(1, *layer) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(Layer(2, *layer) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, f: Tensor) -> Tensor:
        memory = self.input_proj(f)
        for layer in self.encoder:
            memory = layer(memory, self.pos_embed)
        x = self.query_embed.expand(len(f), -1, -1)
        for layer in self.decoder:
            x = layer(x, self.pos_embed, memory)
        return self.output_proj(self.norm(x))


def backbone(name: str, size: int) -> Backbone:
    """The library's EfficientNet as it is: unfolded, its own activations."""
    unfolded: Any = network(name, size)
    stem = nn.Sequential(unfolded._conv_stem, unfolded._bn0, unfolded._swish)
    return Backbone(stem, list(unfolded._blocks), size).eval()


@torch.inference_mode()
def features_of(network: Backbone, images: Tensor, features: Features) -> Tensor:
    """(B, 3, S, S), normalised, to (B, N, C)."""
    return pyramid(network(images), features.layers, features.grid_size).flatten(2).transpose(1, 2)
