"""Calls that PyTorch does not promise: what takes their place gives the same, and takes it where they are missing."""

from collections.abc import Callable
from typing import Any

import planted
import pytest
import torch

from adtr import kernels
from adtr.methods import adtr
from adtr.train.context import Context

X, W = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 4 * 3 * 9)
SOFTMAX = X.softmax(dim=-1)
CALLS: dict[Callable[..., Any], tuple[Any, ...]] = {
    kernels.linear: (X, W[:32].reshape(4, 8), torch.ones(4)),
    kernels.convolution: (X, W.reshape(4, 3, 3, 3), torch.ones(4), (2, 2), (1, 1), 1),
    kernels.softmax_backward: (X.cos(), SOFTMAX),
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_the_public_call_gives_what_the_other_does(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.available(getattr(kernels, f"_{call.__name__}"))  # of the releases that are tested
    with torch.inference_mode():
        fast = call(*CALLS[call])
        monkeypatch.setattr(kernels, "available", lambda _: False)
        torch.testing.assert_close(call(*CALLS[call]), fast, rtol=1e-5, atol=1e-5)


def test_a_call_that_is_gone_or_takes_other_arguments_is_not_available() -> None:
    def gone(*_: Any) -> torch.Tensor:
        return torch.ops.mkldnn._no_such_call()

    def other(_: Any) -> torch.Tensor:
        return torch.ones(1)

    assert not kernels.available(gone)
    assert not kernels.available(other)


def test_a_training_learns_the_same_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    normal, test = planted.features()
    params, maps = planted.params(train={"epochs": 5}), []
    for _ in range(2):
        fitted = adtr.fit(normal, params, Context(0))
        maps.append(torch.from_numpy(adtr.anomaly_map(fitted.state, test, params)))
        monkeypatch.setattr(kernels, "available", lambda _: False)
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-3, atol=1e-3)
