"""ADTR: a transformer that reconstructs the features of normal images (You et al., Sec. 3.1 and Appendix A).

The transformer of DETR (Carion et al., ECCV 2020), except that
- the decoder's input is the learned query embedding, one for each token, in place of zeros;
- the learned position embedding is added to queries and keys of every attention layer, of encoder and decoder.

Shapes: B batch, N tokens, C channels of the features, D width of the transformer, h heads.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr.config.methods import Model
from adtr.model.cpu_layers import Dropout, Linear, attend

Layer = Callable[[Model], nn.Module]


class Reconstruction(nn.Module):
    """What every reconstruction network shares: the scale of its features, f in and f̂ out, both (B, N, C)."""

    mean: Tensor  # (C,) and
    std: Tensor  # (C,), by which features are standardised

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def standardized(self, features: Tensor) -> Tensor:
        """(B, N, C) of any float type to the float32 target f of the reconstruction."""
        return (features.float() - self.mean) / self.std


class ADTR(Reconstruction):
    """Feature tokens in, their reconstruction out.

    Args:
        tokens: N, side of the feature grid squared.
        channels: C.
        params: width, layers, heads, dropout.
        attention: what relates tokens to each other; another one in an ablation.
    """

    def __init__(self, tokens: int, channels: int, params: Model, attention: Layer | None = None):
        super().__init__(channels)
        width, attention, self.dropout = params.width, attention or Attention, params.dropout
        self.reduce = Linear(channels, width)  # a 1x1 convolution
        self.position = nn.Parameter(torch.empty(tokens, width))
        self.query = nn.Parameter(torch.empty(tokens, width))
        self.encoder = nn.ModuleList(EncoderLayer(params, attention) for _ in range(params.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(params, attention) for _ in range(params.decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.recover = Linear(width, channels)  # a 1x1 convolution
        self._initialize()

    def _initialize(self) -> None:
        """Xavier-uniform matrices, biases of zero; embeddings as DETR's.

        Queries, keys and values are drawn as one (3D, D) matrix, as torch.nn.MultiheadAttention does.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for attention in (module for module in self.modules() if isinstance(module, Attention)):
            for linear in (attention.to_query, attention.to_key, attention.to_value):
                nn.init.xavier_uniform_(linear.weight, gain=2**-0.5)
        nn.init.uniform_(self.position)
        nn.init.normal_(self.query)

    def forward(self, f: Tensor) -> Tensor:
        """f (B, N, C) to its reconstruction f̂ (B, N, C)."""
        memory = self.reduce(f)
        for layer in self.encoder:
            memory = layer(memory, self.position)
        tokens = self.decoder_input(memory)
        for layer in self.decoder:
            tokens = layer(tokens, memory, self.position)
        return self.recover(self.norm(tokens))

    def decoder_input(self, memory: Tensor) -> Tensor:
        """The learned query embedding: (B, N, D); or (1, N, D) where no dropout makes images differ so early."""
        dropped = self.training and self.dropout > 0
        return self.query.expand(len(memory) if dropped else 1, -1, -1)


class EncoderLayer(nn.Module):
    """Self-attention and feed forward network, each with shortcut and LayerNorm behind it."""

    def __init__(self, params: Model, attention: Layer):
        super().__init__()
        self.attention = attention(params)
        self.ffn = FeedForward(params)
        self.norm1, self.norm2 = nn.LayerNorm(params.width), nn.LayerNorm(params.width)
        self.dropout = Dropout(params.dropout)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = self.norm1(x + self.dropout(self.attention(x, x, position)))
        return self.norm2(x + self.dropout(self.ffn(x)))


class DecoderLayer(nn.Module):
    """Self-attention of the query's tokens, attention to the encoder's memory, feed forward network."""

    def __init__(self, params: Model, attention: Layer):
        super().__init__()
        self.self_attention = attention(params)
        self.cross_attention = attention(params)
        self.ffn = FeedForward(params)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(params.width) for _ in range(3))
        self.dropout = Dropout(params.dropout)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """x (B or 1, N, D), memory (B, N, D) to (B, N, D)."""
        x = self.norm1(x + self.dropout(self.self_attention(x, x, position)))
        x = self.norm2(x + self.dropout(self.cross_attention(x, memory, position)))
        return self.norm3(x + self.dropout(self.ffn(x)))


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., 2017), the position embedding added to queries and keys, not to values."""

    def __init__(self, params: Model):
        super().__init__()
        self.heads = params.heads
        self.to_query, self.to_key, self.to_value, self.project = (Linear(params.width, params.width) for _ in range(4))
        self.dropout = params.dropout

    def forward(self, x: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """Queries from x (B or 1, N, D), keys and values from memory (B, N, D), to (B, N, D)."""
        placed = x + position
        k = self._split(self.to_key(placed if memory is x else memory + position))
        q = self._split(self.to_query(placed)).expand_as(k)
        v = self._split(self.to_value(memory))
        return self.project(attend(q, k, v, self.dropout if self.training else 0.0).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, h, N, D/h)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()


class FeedForward(nn.Module):
    """D to 1024, ReLU, and back (Appendix A)."""

    def __init__(self, params: Model):
        super().__init__()
        self.widen = Linear(params.width, params.ffn_width)
        self.narrow = Linear(params.ffn_width, params.width)
        self.dropout = Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return self.narrow(self.dropout(F.relu(self.widen(x))))
