"""Several trainings as one (bench/stacked.py): each learns what it learns alone."""

from typing import Any

import pytest
import torch
from measure import paper
from stacked import clip, deviation, members_of, stacked_step

TINY: dict[str, Any] = {"width": 32, "heads": 2, "ffn_width": 64, "encoder_layers": 1, "decoder_layers": 2}
TRAIN = paper().train.model_copy(update={"precision": "float32"})


@pytest.fixture
def data() -> torch.Tensor:
    """Of three members, eight images of 16 tokens; the third's features are larger."""
    torch.manual_seed(0)
    return torch.randn(3, 8, 16, 24).mul(torch.tensor([1.0, 1.0, 30.0]).view(3, 1, 1, 1)).half()


@pytest.mark.parametrize("clipped", [0.0, 0.05])
def test_stacked_trainings_end_where_they_end_one_by_one(data: torch.Tensor, clipped: float) -> None:
    """Without dropout, but for the last bits of float32; clipped by the norm of all, they would be 0.016 off."""
    train = TRAIN.model_copy(update={"grad_clip": clipped})
    assert deviation(data, train, "cpu", batch=4, steps=20, **TINY) < 1e-5


def test_each_member_is_clipped_by_its_own_norm() -> None:
    torch.manual_seed(0)
    parameters = [torch.zeros(3, *shape, requires_grad=True) for shape in ((4, 5), (6,))]
    for x in parameters:
        x.grad = torch.randn_like(x) * torch.tensor([0.01, 1, 100]).view(3, *[1] * (x.ndim - 1))
    alone = [[x[i].detach().clone().requires_grad_() for x in parameters] for i in range(3)]
    for i, member in enumerate(alone):
        for x, whole in zip(member, parameters, strict=True):
            x.grad = whole.grad[i].clone()  # type: ignore[index]
        torch.nn.utils.clip_grad_norm_(member, 0.5)
    clip(parameters, 0.5)
    for j, whole in enumerate(parameters):
        torch.testing.assert_close(whole.grad, torch.stack([member[j].grad for member in alone]))  # type: ignore[misc]


def test_members_of_the_same_weights_and_images_drop_out_differently(data: torch.Tensor) -> None:
    same = data[:1].expand(2, -1, -1, -1)
    members = members_of(1, same[:1], TRAIN, "cpu", dropout=0.5, **TINY) * 2
    stack, _ = stacked_step(members, same, TRAIN, "cpu")
    first, second = stack(same).tolist()
    assert first != second
    stack.one[0].eval()
    first, second = stack(same).tolist()
    assert first == pytest.approx(second, rel=1e-6)
