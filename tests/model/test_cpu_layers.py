"""The linear layer, attention and dropout against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adtr.model import cpu_layers as layers
from adtr.model.cpu_layers import Dropout, Linear, attend


def qkv(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    return q, k, v


def seeded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    torch.manual_seed(1)
    return attend(q, k, v, 0.3)


def test_output_and_gradients_are_those_of_pytorchs_attention() -> None:
    ours, theirs = qkv(2, 3, 5, 4), qkv(2, 3, 5, 4)
    (attend(*ours) ** 2).sum().backward()
    (F.scaled_dot_product_attention(*theirs) ** 2).sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cache", [1, 400, 1 << 20])  # a head at a time, three heads, all
def test_gradients_are_those_of_the_output(cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "CACHE", cache)
    assert torch.autograd.gradcheck(attend, qkv(2, 2, 3, 4))
    assert torch.autograd.gradcheck(seeded, qkv(2, 2, 3, 4))


def test_the_size_of_the_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = seeded(*qkv(2, 2, 3, 4))
    monkeypatch.setattr(layers, "CACHE", 1)
    torch.testing.assert_close(seeded(*qkv(2, 2, 3, 4)), found, rtol=0, atol=1e-14)


def test_attention_in_bfloat16_is_as_exact_as_its_type() -> None:
    q, k, v = qkv(2, 2, 64, 16, dtype=torch.bfloat16)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert (attend(q, k, v) - exact).abs().max() < 4 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_layer_gives_the_same_where_nothing_is_learned(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = Linear(70, 30).to(dtype), torch.randn(2, 9, 70, dtype=dtype)
    with torch.inference_mode():
        found = layer(x)
    torch.testing.assert_close(found, layer(x).detach(), rtol=0, atol=1e-5)


def test_gradients_in_bfloat16_are_near_the_exact_ones() -> None:
    rounded = qkv(2, 4, 64, 16, dtype=torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in rounded]
    for inputs in (exact, rounded):
        (seeded(*inputs) ** 2).sum().backward()
    for one, other in zip(exact, rounded, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (other.grad - one.grad).norm() < 0.02 * one.grad.norm()


@pytest.mark.parametrize("p", [1e-6, 0.9999999])
def test_a_probability_near_zero_or_one_is_one_that_can_be_drawn(p: float) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.isfinite(Dropout(p)(torch.ones(1000, dtype=dtype))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean_and_drops_its_share(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n, p = 400_001, 0.1
    x = torch.ones(n, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    kept = (y != 0).float().mean()
    assert kept == pytest.approx(1 - p, abs=5 * (p * (1 - p) / n) ** 0.5)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)), rtol=1e-2, atol=0)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad != 0, y != 0)


def test_weights_of_attention_are_dropped_at_random_and_scaled() -> None:
    torch.manual_seed(0)
    alike = torch.zeros(1, 1, 500, 500, requires_grad=True)
    weights = attend(alike, alike, torch.eye(500)[None, None], 0.1)
    assert (weights == 0).float().mean() == pytest.approx(0.1, abs=0.003)
    kept = weights[weights > 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 500 / 0.9), rtol=1e-4, atol=0)


def test_dropped_elements_are_independent_of_each_other() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(1000, 1000)) != 0).float() * 2 - 1
    for shift in (1, 2, 3, 4, 8):  # four come from one random word
        assert (kept[:, shift:] * kept[:, :-shift]).mean().abs() < 0.005


def test_the_same_seed_drops_the_same_elements() -> None:
    drop = Dropout(0.5)
    first, again, other = (drop(torch.ones(100)) for seed in (1, 1, 2) if torch.manual_seed(seed))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_is_dropped_outside_training() -> None:
    x = torch.ones(10)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
