"""The losses against arithmetic by hand."""

import decimal
import math

import pytest
import torch

from adtr.model.losses import image_loss, normal_loss, pixel_loss, pseudo_huber

# One image of two tokens and two channels; the differences are 1, 2, 0 and -3
F = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
RECONSTRUCTION = torch.tensor([[[0.0, 0.0], [3.0, 7.0]]], dtype=torch.float64)


def test_normal_loss_by_hand() -> None:
    assert normal_loss(F, RECONSTRUCTION).item() == (1 + 4 + 0 + 9) / 4


def test_normal_loss_is_the_mean_of_eq_1_over_images_but_for_the_number_of_channels() -> None:
    rng = torch.Generator().manual_seed(0)
    f, reconstruction = torch.rand(2, 5, 16, 6, dtype=torch.float64, generator=rng)
    eq_1 = [(image - its).norm() ** 2 / 16 for image, its in zip(f, reconstruction, strict=True)]
    assert normal_loss(f, reconstruction).item() == pytest.approx(sum(eq_1).item() / 5 / 6, rel=1e-12)


# The anomaly-available case (Eqs. 6-9)


def by_hand(m: float) -> float:
    """Eq. 6 as it is printed, of a mean absolute difference."""
    return math.sqrt(m * m + 1) - 1


def test_pseudo_huber_by_hand() -> None:
    phi = pseudo_huber(F, RECONSTRUCTION)
    assert phi.shape == (1, 2)
    assert phi[0].tolist() == pytest.approx([by_hand(1.5), by_hand(1.5)], rel=1e-14)
    assert pseudo_huber(F, F.clone()).abs().max() == 0


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e-4, 1e-2, 1.0, 1e4, 1e15, 1e30])
def test_pseudo_huber_in_float32_is_that_of_fractions(size: float) -> None:
    """sqrt(m² + 1) - 1 itself is zero below 3e-4 and infinite above 2e19 in float32."""
    with decimal.localcontext(prec=80):
        m = decimal.Decimal(float(torch.tensor(size)))
        expected = float((m * m + 1).sqrt() - 1)
    f = torch.full((1, 1, 3), size)
    assert pseudo_huber(f, torch.zeros_like(f)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1.0, 1e15])
def test_the_gradient_of_pseudo_huber_is_finite_and_at_most_one(size: float) -> None:
    reconstruction = torch.full((1, 1, 4), size, requires_grad=True)
    pseudo_huber(torch.zeros(1, 1, 4), reconstruction).sum().backward()
    assert reconstruction.grad is not None
    assert (reconstruction.grad >= 0).all()
    assert reconstruction.grad.sum() <= 1 + 1e-6  # d phi / d m = m / sqrt(m² + 1)


PHI = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
TOKENS = torch.tensor([[False] * 4, [False, True, False, True]])


def push(x: float) -> float:
    return -math.log(1 - math.exp(-x))


def test_pixel_loss_by_hand() -> None:
    normal = (0.1 + 0.2 + 0.3 + 0.4) / 4  # no anomalous token: no push
    noisy = (1 + 3) / 4 + 0.003 * push((2 + 4) / 4)
    assert pixel_loss(PHI, TOKENS, 0.003).item() == pytest.approx((normal + noisy) / 2, rel=1e-14)


def test_pixel_loss_of_an_image_that_is_anomalous_all_over_only_pushes() -> None:
    assert pixel_loss(PHI[1:], torch.ones(1, 4, dtype=torch.bool), 0.5).item() == pytest.approx(0.5 * push(2.5))


def test_image_loss_by_hand() -> None:
    anomalous = torch.tensor([False, True])
    expected = ((0.4 + 0.3) / 2 + 0.003 * push((4 + 3) / 2)) / 2
    assert image_loss(PHI, anomalous, 0.003, top_k=2).item() == pytest.approx(expected, rel=1e-14)


def test_image_loss_of_fewer_tokens_than_k_takes_all() -> None:
    assert image_loss(PHI[:1], torch.tensor([False]), 1.0, top_k=20).item() == pytest.approx(0.25)


def test_the_push_draws_anomalies_away_and_the_pull_draws_normal_tokens_near() -> None:
    phi = PHI.clone().requires_grad_()
    pixel_loss(phi, TOKENS, 0.003).backward()
    assert phi.grad is not None
    assert (phi.grad[TOKENS] < 0).all()
    assert (phi.grad[~TOKENS] > 0).all()


def test_a_token_that_is_reconstructed_almost_perfectly_is_still_pushed() -> None:
    """One anomalous token of 1,024, its mean difference 0.001: the push is strongest there, d/dm about -2 alpha / m."""
    f, tokens = torch.zeros(1, 1024, 4), torch.zeros(1, 1024, dtype=torch.bool)
    tokens[0, 7] = True
    reconstruction = torch.zeros(1, 1024, 4)
    reconstruction[0, 7] = 0.001
    reconstruction.requires_grad_()
    pixel_loss(pseudo_huber(f, reconstruction), tokens, 0.003).backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad[0, 7].sum().item() == pytest.approx(-2 * 0.003 / 0.001, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-10, 1e-3, 1.0, 50.0, 1e4, 1e30])
def test_the_losses_and_their_gradients_are_finite_at_every_size(size: float, dtype: torch.dtype) -> None:
    anomalous = torch.tensor([[False, False], [True, False], [True, True]])
    for loss in (
        lambda phi: pixel_loss(phi, anomalous, 0.003),
        lambda phi: image_loss(phi, anomalous.any(dim=1), 0.003, 2),
    ):
        f = torch.zeros(3, 2, 4, dtype=dtype)
        reconstruction = torch.full((3, 2, 4), size, dtype=dtype, requires_grad=True)
        value = loss(pseudo_huber(f, reconstruction))
        value.backward()
        assert reconstruction.grad is not None
        assert torch.isfinite(value)
        assert torch.isfinite(reconstruction.grad).all()


@pytest.mark.parametrize("x", [1e-5, 1e-3, 0.5, 0.6999, 0.7001, 3.0, 15.0, 60.0])
def test_the_push_in_float32_is_that_of_fractions(x: float) -> None:
    with decimal.localcontext(prec=60):
        expected = float(-(1 - (-decimal.Decimal(float(torch.tensor(x)))).exp()).ln())
    found = image_loss(torch.tensor([[x]]), torch.tensor([True]), 1.0, 1).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_gradients_match_finite_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    f, reconstruction = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=rng)
    tokens = torch.rand(3, 5, generator=rng) < torch.tensor([[0.0], [0.5], [1.1]])  # none, some, all
    images = tokens.any(dim=1)
    for loss in (
        normal_loss,
        lambda f, r: pixel_loss(pseudo_huber(f, r), tokens, 0.7),
        lambda f, r: image_loss(pseudo_huber(f, r), images, 0.7, 3),
    ):
        assert torch.autograd.gradcheck(loss, (f.clone().requires_grad_(), reconstruction.clone().requires_grad_()))
