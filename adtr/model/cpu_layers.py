"""Linear, attention and dropout layers that are fast on a CPU; on other devices they call PyTorch's own.

On a CPU, three things take longer than the matrix products of a training step: PyTorch's random numbers, the backward
pass of its fused attention, and attention weights that go to memory and back between operations. So dropout masks are
drawn by NumPy, and attention works on as many heads at a time as fit into the cache. Without gradients, float32
products are oneDNN's: PyTorch's own take twice as long on AMD processors.

Shapes: B batch, N queries, M keys, h heads, d channels of a head.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adtr import kernels

CACHE = 1 << 20  # bytes of attention weights worked on at a time
LEVELS = 1 << 16  # dropout probabilities are multiples of 1 / LEVELS
BFLOAT16_ONE = 0x3F80  # the bits of 1.0


class Linear(nn.Linear):
    """torch.nn.Linear; without gradients its last bits may differ."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:  # its weights are still to come
            super().reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(..., C_in) to (..., C_out)."""
        plain = not x.is_cpu or x.dtype != torch.float32 or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        return super().forward(x) if plain else kernels.linear(x, self.weight, self.bias)


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(d)) v with dropout of the weights: q (B, h, N, d), k and v (B, h, M, d) to (B, h, N, d)."""
    if not q.is_cpu or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    out: Tensor = _Attend.apply(*(x.flatten(0, 1) for x in (q, k, v)), dropout)
    return out.unflatten(0, q.shape[:2])


class _Attend(torch.autograd.Function):
    """Attention of B·h heads, a chunk of them at a time: q (B·h, N, d), k and v (B·h, M, d) to (B·h, N, d)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        ctx.scale, ctx.keep_prob = q.shape[-1] ** -0.5, 1 - _levels(dropout) / LEVELS
        weights, out = q.new_empty(*q.shape[:2], k.shape[1]), torch.empty_like(q)
        mask = _dropout_mask(weights.shape, dropout, q.dtype) if dropout else None
        for i in _chunks(weights):
            torch.baddbmm(weights[i], q[i], k[i].mT, beta=0, alpha=ctx.scale, out=weights[i])
            torch.softmax(weights[i], dim=-1, out=weights[i])
            torch.bmm(weights[i] if mask is None else weights[i] * mask[i], v[i], out=out[i])
        ctx.save_for_backward(q, k, v, weights, mask)
        return out.div_(ctx.keep_prob)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, mask = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q, k, v))
        grad = grad / ctx.keep_prob
        for i in _chunks(weights):
            grad_weights, dropped = torch.bmm(grad[i], v[i].mT), weights[i]
            if mask is not None:
                grad_weights, dropped = grad_weights.mul_(mask[i]), dropped * mask[i]
            torch.bmm(dropped.mT, grad[i], out=grad_v[i])
            grad_logits = kernels.softmax_backward(grad_weights, weights[i]).mul_(ctx.scale)
            torch.bmm(grad_logits, k[i], out=grad_q[i])
            torch.bmm(grad_logits.mT, q[i], out=grad_k[i])
        return grad_q, grad_k, grad_v, None


def _chunks(weights: Tensor) -> list[slice]:
    """Slices of the first dimension: as many heads as fit into the cache, at least one."""
    size = max(1, CACHE // max(1, weights[0].nbytes))
    return [slice(start, start + size) for start in range(0, len(weights), size)]


class Dropout(nn.Module):
    """torch.nn.Dropout, with a mask drawn by NumPy on a CPU."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (x.is_cpu and self.training and self.p):
            return F.dropout(x, self.p, self.training)
        return x * _dropout_mask(x.shape, self.p, x.dtype) / (1 - _levels(self.p) / LEVELS)


def _dropout_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """Zeros where elements are dropped, with probability p, and ones elsewhere.

    NumPy draws random words ten times as fast as PyTorch; four elements share one. PyTorch's generator seeds them, so
    the same seed gives the same mask.
    """
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    words = generator.random_raw(-(-shape.numel() // 4)).view(np.int16)[: shape.numel()]
    drawn, threshold = torch.from_numpy(words).view(shape), _levels(p) - LEVELS // 2  # an element is kept from there on
    if dtype == torch.bfloat16:  # 0 or 1 as integers, then as bits of bfloat16
        return drawn.clamp_(threshold - 1, threshold).sub_(threshold - 1).mul_(BFLOAT16_ONE).view(dtype)
    return torch.ge(drawn, threshold, out=torch.empty(shape, dtype=dtype))


def _levels(p: float) -> int:
    """p as a number of levels; neither none nor all of them unless p is 0."""
    return min(max(round(p * LEVELS), 1), LEVELS - 1) if p else 0
