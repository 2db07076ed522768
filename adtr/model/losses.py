"""The losses of the paper (Eqs. 1 and 6 to 9), for float32 or float64, outside autocast.

Shapes: B batch, N tokens, C channels; features f and their reconstruction f̂ are (B, N, C), a loss is a scalar.
"""

import torch
from torch import Tensor

FLOOR = 1e-12  # smallest argument of the push term, which is infinite at 0; its gradient is 1 / x


def normal_loss(f: Tensor, reconstruction: Tensor) -> Tensor:
    """L_norm (Eq. 1): the mean squared difference of f and f̂ over all elements.

    The paper divides by H·W only; AdamW all but cancels the constant factor C.
    """
    return (f - reconstruction).square().mean()


def pseudo_huber(f: Tensor, reconstruction: Tensor) -> Tensor:
    """phi (Eq. 6), (B, N): sqrt(m² + 1) - 1, where m is a token's mean absolute difference.

    Computed as m · m / (sqrt(m² + 1) + 1), which does not cancel for small m, nor overflow for large m.
    """
    m = (f - reconstruction).abs().mean(dim=-1)
    return m * (m / (torch.hypot(m, torch.ones_like(m)) + 1))


def pixel_loss(phi: Tensor, anomalous: Tensor, alpha: float) -> Tensor:
    """L_px (Eq. 7) of phi (B, N), the mean over the batch; `alpha` weighs the push term.

    `anomalous` (B, N) bool is y(u). An image without anomalous tokens has no push term: it would be -log(0).
    """
    y = anomalous.to(phi.dtype)
    pull = ((1 - y) * phi).mean(dim=1)
    push = _push((y * phi).mean(dim=1))
    return (pull + alpha * torch.where(anomalous.any(dim=1), push, torch.zeros_like(push))).mean()


def image_loss(phi: Tensor, anomalous: Tensor, alpha: float, top_k: int) -> Tensor:
    """L_img (Eqs. 8 and 9) of phi (B, N), the mean over the batch; `alpha` weighs the push term.

    `anomalous` (B,) bool is y; `top_k` is k of Eq. 8, all tokens if there are fewer.
    """
    q = phi.topk(min(top_k, phi.shape[1]), dim=1).values.mean(dim=1)
    return torch.where(anomalous, alpha * _push(q), q).mean()


def _push(x: Tensor) -> Tensor:
    """-log(1 - exp(-x)) for x > 0, accurate for small and large x."""
    near, far = torch.log(-torch.expm1(-x.clamp_min(FLOOR))), torch.log1p(-torch.exp(-x.clamp_min(0.7)))
    return -torch.where(x < 0.7, near, far)  # clamped, as `where` multiplies the unused gradient by 0
