"""The losses of the paper."""

from torch import Tensor


def normal_loss(f: Tensor, reconstruction: Tensor) -> Tensor:
    """L_norm (Eq. 1): the mean squared difference of f and f̂, both (B, N, C), over all elements.

    The paper divides by H·W only; the factor C it leaves out, AdamW all but cancels.
    """
    return (f - reconstruction).square().mean()
