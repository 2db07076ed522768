"""Layers as they are fast on a CPU. What they compute is what those of `torch.nn` do.

Three things cost a training step more than its matrix products do, and are avoided here: torch's random numbers, its
backward pass of fused attention, and weights of attention that travel to memory and back between every two operations.
Where nothing is learned, products in float32 are oneDNN's: torch's own are half as fast on processors of AMD.

Shapes: B images, h heads, N queries, M keys, d channels of a head.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CACHE = 1 << 20  # bytes of attention weights that are worked on at a time
LEVELS = 1 << 16  # a probability is a multiple of 1 / LEVELS
BFLOAT16_ONE = 0x3F80


class Linear(nn.Linear):
    """x W^T + b; its last bits are others where gradients are wanted."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C_in) to (..., C_out)."""
        plain = not x.is_cpu or x.dtype != torch.float32 or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        if plain or not torch.backends.mkldnn.is_available():
            return super().forward(x)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return found


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, the weights dropped with probability `dropout`: (B, h, N, d).

    Args:
        q: (B, h, N, d).
        k, v: (B, h, M, d).
    """
    if not q.is_cpu or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    out: Tensor = _Attend.apply(*(x.flatten(0, 1) for x in (q, k, v)), dropout)
    return out.unflatten(0, q.shape[:2])


class _Attend(torch.autograd.Function):
    """Attention of B·h heads, some at a time: (B·h, N, d) from (B·h, N, d) and twice (B·h, M, d)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        ctx.scale, ctx.keep = q.shape[-1] ** -0.5, 1 - _levels(dropout) / LEVELS
        weights, out = q.new_empty(*q.shape[:2], k.shape[1]), torch.empty_like(q)
        kept = _kept(weights.shape, dropout, q.dtype) if dropout else None
        for i in _chunks(weights):
            torch.baddbmm(weights[i], q[i], k[i].mT, beta=0, alpha=ctx.scale, out=weights[i])
            torch.softmax(weights[i], dim=-1, out=weights[i])
            torch.bmm(weights[i] if kept is None else weights[i] * kept[i], v[i], out=out[i])
        ctx.save_for_backward(q, k, v, weights, kept)
        return out.div_(ctx.keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, kept = ctx.saved_tensors
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        grad = grad / ctx.keep
        for i in _chunks(weights):
            of_weight, dropped = torch.bmm(grad[i], v[i].mT), weights[i]
            if kept is not None:
                of_weight, dropped = of_weight.mul_(kept[i]), dropped * kept[i]
            torch.bmm(dropped.mT, grad[i], out=of_v[i])
            of_logit = torch._softmax_backward_data(of_weight, weights[i], -1, weights.dtype).mul_(ctx.scale)
            torch.bmm(of_logit, k[i], out=of_q[i])
            torch.bmm(of_logit.mT, q[i], out=of_k[i])
        return of_q, of_k, of_v, None


def _chunks(weights: Tensor) -> list[slice]:
    """Of the first dimension, so many that they fit into the cache, at least one."""
    size = max(1, CACHE // max(1, weights[0].nbytes))
    return [slice(start, start + size) for start in range(0, len(weights), size)]


class Dropout(nn.Module):
    """Sets elements to zero with probability p, and divides the others by 1 - p (Srivastava et al., JMLR 2014)."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not (x.is_cpu and self.training and self.p):
            return F.dropout(x, self.p, self.training)
        return x * _kept(x.shape, self.p, x.dtype) / (1 - _levels(self.p) / LEVELS)


def _kept(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """Ones, and zeros where something is dropped.

    The random words are numpy's, ten times as fast as torch's on a CPU; torch's generator begins them, so that the same
    seed gives the same numbers.
    """
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    words = generator.random_raw(-(-shape.numel() // 4)).view(np.int16)[: shape.numel()]
    drawn, lowest = torch.from_numpy(words).view(shape), _levels(p) - LEVELS // 2  # kept from there on
    if dtype == torch.bfloat16:  # 0 or 1, then its bits
        return drawn.clamp_(lowest - 1, lowest).sub_(lowest - 1).mul_(BFLOAT16_ONE).view(dtype)
    return torch.ge(drawn, lowest, out=torch.empty(shape, dtype=dtype))


def _levels(p: float) -> int:
    return min(max(round(p * LEVELS), 1), LEVELS - 1) if p else 0
