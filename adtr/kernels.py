"""Calls that PyTorch's documentation does not promise, and public ones in their place where a release lacks them.

The public ones give the same numbers, but for the last bits, and take longer.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(..., C_in) to (..., C_out) by oneDNN, without a gradient: float32, on a CPU."""
    return _linear(x, weight, bias) if available(_linear) else F.linear(x, weight, bias)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...], groups: int
) -> Tensor:
    """(B, C_in, H, W) to (B, C_out, H', W') by oneDNN, without a gradient: float32, on a CPU."""
    if available(_convolution):
        return _convolution(x, weight, bias, stride, padding, groups)
    return F.conv2d(x, weight, bias, stride, padding, 1, groups)


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the logits of `weights`, a softmax over the last dimension; all have the same shape."""
    if available(_softmax_backward):
        return _softmax_backward(grad, weights)
    return (grad - (grad * weights).sum(dim=-1, keepdim=True)) * weights


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...], groups: int
) -> Tensor:
    return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1), groups)


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    return torch._softmax_backward_data(grad, weights, -1, weights.dtype)


@cache
def available(call: Callable[..., Tensor]) -> bool:
    """Whether this build of PyTorch has a call, and it takes the arguments that it is given here."""
    matrix, image = torch.ones(1, 1), torch.ones(1, 1, 1, 1)
    arguments = {_linear: (matrix, matrix, None), _convolution: (image, image, None, (1, 1), (0, 0), 1)}
    try:
        with torch.inference_mode():
            call(*arguments.get(call, (matrix, matrix)))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
