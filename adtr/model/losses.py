"""The losses of the paper.

Shapes: B batch, N tokens, C channels; f and its reconstruction f̂ are (B, N, C), every loss is a scalar. To be computed
in float32 or float64, outside autocast.
"""

import torch
from torch import Tensor

FLOOR = 1e-12  # of what is pushed: the loss of a perfect reconstruction would be infinite, its gradient 1 / x


def normal_loss(f: Tensor, reconstruction: Tensor) -> Tensor:
    """L_norm (Eq. 1): the mean squared difference of f and f̂ over all elements.

    The paper divides by H·W only; the factor C it leaves out, AdamW all but cancels.
    """
    return (f - reconstruction).square().mean()


def pseudo_huber(f: Tensor, reconstruction: Tensor) -> Tensor:
    """phi (Eq. 6), (B, N): sqrt(m² + 1) - 1 of the mean absolute difference m of each token.

    Written as m · m / (sqrt(m² + 1) + 1), which neither cancels where m is small nor overflows where it is large.
    """
    m = (f - reconstruction).abs().mean(dim=-1)
    return m * (m / (torch.hypot(m, torch.ones_like(m)) + 1))


def pixel_loss(phi: Tensor, anomalous: Tensor, alpha: float) -> Tensor:
    """L_px (Eq. 7), the mean over the images of the batch.

    Args:
        phi: (B, N), from `pseudo_huber`.
        anomalous: (B, N) bool, y(u); an image without an anomalous token has no push term, which would be -log(0).
        alpha: weight of the push term.
    """
    y = anomalous.to(phi.dtype)
    pull = ((1 - y) * phi).mean(dim=1)
    push = _push((y * phi).mean(dim=1))
    return (pull + alpha * torch.where(anomalous.any(dim=1), push, torch.zeros_like(push))).mean()


def image_loss(phi: Tensor, anomalous: Tensor, alpha: float, top_k: int) -> Tensor:
    """L_img (Eqs. 8, 9), the mean over the images of the batch.

    Args:
        phi: (B, N), from `pseudo_huber`.
        anomalous: (B,) bool, y.
        alpha: weight of the push term.
        top_k: k of Eq. 8; all tokens, where there are fewer.
    """
    q = phi.topk(min(top_k, phi.shape[1]), dim=1).values.mean(dim=1)
    return torch.where(anomalous, alpha * _push(q), q).mean()


def _push(x: Tensor) -> Tensor:
    """-log(1 - exp(-x)) of x > 0, accurate near zero and far from it."""
    near, far = torch.log(-torch.expm1(-x.clamp_min(FLOOR))), torch.log1p(-torch.exp(-x.clamp_min(0.7)))
    return -torch.where(x < 0.7, near, far)  # each kept where its gradient is finite, as `where` multiplies it by zero
