"""The losses against arithmetic by hand."""

import pytest
import torch

from adtr.losses import normal_loss

# One image of two tokens and two channels; the differences are 1, 2, 0 and -3
F = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
RECONSTRUCTION = torch.tensor([[[0.0, 0.0], [3.0, 7.0]]], dtype=torch.float64)


def test_normal_loss_by_hand() -> None:
    assert normal_loss(F, RECONSTRUCTION).item() == (1 + 4 + 0 + 9) / 4


def test_normal_loss_is_eq_1_but_for_the_number_of_channels() -> None:
    rng = torch.Generator().manual_seed(0)
    f, reconstruction = torch.rand(2, 1, 16, 6, dtype=torch.float64, generator=rng)
    eq_1 = (f - reconstruction).norm() ** 2 / 16
    assert normal_loss(f, reconstruction).item() == pytest.approx(eq_1.item() / 6, rel=1e-12)


def test_normal_loss_of_a_batch_is_the_mean_over_its_images() -> None:
    rng = torch.Generator().manual_seed(0)
    f, reconstruction = torch.rand(2, 5, 16, 6, dtype=torch.float64, generator=rng)
    single = [normal_loss(f[i : i + 1], reconstruction[i : i + 1]).item() for i in range(5)]
    assert normal_loss(f, reconstruction).item() == pytest.approx(sum(single) / 5, rel=1e-12)


def test_normal_loss_is_zero_for_a_perfect_reconstruction_only() -> None:
    assert normal_loss(F, F.clone()).item() == 0
    assert normal_loss(F, F + 1e-6).item() > 0


def test_gradient_of_normal_loss_by_hand() -> None:
    reconstruction = RECONSTRUCTION.clone().requires_grad_()
    normal_loss(F, reconstruction).backward()
    assert reconstruction.grad is not None
    torch.testing.assert_close(reconstruction.grad, -2 * (F - RECONSTRUCTION) / 4, rtol=0, atol=1e-15)


def test_gradient_of_normal_loss_matches_finite_differences() -> None:
    assert torch.autograd.gradcheck(normal_loss, (F.clone().requires_grad_(), RECONSTRUCTION.clone().requires_grad_()))
