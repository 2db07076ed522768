"""ADTR: a transformer that reconstructs the features of normal images (You et al., Sec. 3.1 and Appendix A).

It is DETR's transformer (Carion et al., ECCV 2020), post-norm, with these differences:
- the decoder's input is the learned query embedding, one vector per token; DETR's is zeros, its queries are added later
- the learned position embedding is added to queries and keys of every attention layer, of encoder and decoder
- the layers that compute are those of cpu_layers.py: PyTorch's own, except on a CPU
- in bfloat16 on a GPU, what lies between the matrix products is in bfloat16, too, so that none has to cast its operands

Shapes: B batch, N tokens, C channels of the features, D width of the transformer, h heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adtr.model.cpu_layers import Dropout, Linear, attend


class Reconstruction(nn.Module):
    """Base class of the reconstruction networks: f (B, N, C) in, f̂ (B, N, C) out, and how features become f."""

    mean: Tensor  # (C,), of the training features
    std: Tensor  # (C,)

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def standardized(self, features: Tensor) -> Tensor:
        """Features (B, N, C) of any float type to f (B, N, C) float32, each channel standardised."""
        return (features.float() - self.mean) / self.std


class ADTR(Reconstruction):
    """Reconstructs N tokens of C channels: an encoder of the features, a decoder that starts from learned queries.

    An ablation replaces `attention`, the class of the attention layers.
    """

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
        attention: type[nn.Module] | None = None,
    ):
        super().__init__(channels)
        layer = width, heads, ffn_width, dropout, attention or Attention
        self.dropout = dropout
        self.input_proj = Linear(channels, width)  # a 1x1 convolution
        self.pos_embed = nn.Parameter(torch.empty(tokens, width))
        self.query_embed = nn.Parameter(torch.empty(tokens, width))
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(decoder_layers))
        self.norm = LayerNorm(width)
        self.output_proj = Linear(width, channels)  # a 1x1 convolution
        if (
            not self.pos_embed.is_meta
        ):  # there its weights are still to come, and `normal_` imports TorchDynamo: seconds
            self._initialize()

    def _initialize(self) -> None:
        """Xavier-uniform matrices and zero biases; embeddings as in DETR.

        As in torch.nn.MultiheadAttention, the bound for queries, keys and values is that of one (3D, D) matrix.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Attention):
                for proj in (module.q_proj, module.k_proj, module.v_proj):
                    nn.init.xavier_uniform_(proj.weight, gain=2**-0.5)
        nn.init.uniform_(self.pos_embed)
        nn.init.normal_(self.query_embed)

    def forward(self, f: Tensor) -> Tensor:
        """f (B, N, C) to its reconstruction f̂ (B, N, C)."""
        memory = self.input_proj(f)
        pos_embed = _on_gpu_as(memory, self.pos_embed)
        for layer in self.encoder:
            memory = layer(memory, pos_embed)
        x = _on_gpu_as(memory, self.decoder_input(memory))
        for layer in self.decoder:
            x = layer(x, memory, pos_embed)
        return self.output_proj(self.norm(x))

    def decoder_input(self, memory: Tensor) -> Tensor:
        """The query embedding: (B, N, D); without dropout (1, N, D), as all images share it until cross-attention."""
        dropout = self.training and self.dropout > 0
        # 1, not B, also keeps trained weights as they were: the gradients of B copies would add up in another order
        return self.query_embed.expand(len(memory) if dropout else 1, -1, -1)


def _on_gpu_as(memory: Tensor, embedding: Tensor) -> Tensor:
    """The embedding in the type of the memory; on a CPU in its own, in which its sums are more exact."""
    return embedding if memory.is_cpu else embedding.to(memory.dtype)


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm in the type of its input: CUDA's autocast computes it in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return super().forward(x).to(x.dtype)


class EncoderLayer(nn.Module):
    """Self-attention and FFN, each with a shortcut and LayerNorm after it."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float, attention: type[nn.Module]):
        super().__init__()
        self.self_attn = attention(width, heads, dropout)
        self.ffn = FFN(width, ffn_width, dropout)
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, pos_embed: Tensor) -> Tensor:
        """x (B, N, D) and pos_embed (N, D) to (B, N, D)."""
        q = k = x + pos_embed
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x)))
        return self.norm2(x + self.dropout(self.ffn(x)))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the encoder's output (the memory) and FFN."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float, attention: type[nn.Module]):
        super().__init__()
        self.self_attn = attention(width, heads, dropout)
        self.cross_attn = attention(width, heads, dropout)
        self.ffn = FFN(width, ffn_width, dropout)
        self.norm1, self.norm2, self.norm3 = LayerNorm(width), LayerNorm(width), LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, pos_embed: Tensor) -> Tensor:
        """x (B or 1, N, D), memory (B, N, D) and pos_embed (N, D) to (B, N, D)."""
        q = k = x + pos_embed
        x = self.norm1(x + self.dropout(self.self_attn(q, k, x)))
        x = self.norm2(x + self.dropout(self.cross_attn(x + pos_embed, memory + pos_embed, memory)))
        return self.norm3(x + self.dropout(self.ffn(x)))


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., NeurIPS 2017)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(width, width) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query (B or 1, N, D), key and value (B, N, D) to (B, N, D)."""
        q, k, v = (self._split(x) for x in (self.q_proj(query), self.k_proj(key), self.v_proj(value)))
        out = attend(q.expand_as(k), k, v, self.dropout if self.training else 0.0)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, h, N, D/h)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FFN(nn.Module):
    """The feed forward network: D to 1024, ReLU, and back to D (Appendix A)."""

    def __init__(self, width: int, ffn_width: int, dropout: float):
        super().__init__()
        self.linear1, self.linear2 = Linear(width, ffn_width), Linear(ffn_width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return self.linear2(self.dropout(F.relu(self.linear1(x))))
