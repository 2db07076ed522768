"""The transformer against PyTorch's own attention, arithmetic by hand, and what the paper says of it.

Shapes: B batch, N tokens, C channels, D width.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import plain
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from adtr.model.ablations import NoQuery
from adtr.model.transformer import ADTR

N, C = 9, 7
SMALL: dict[str, Any] = {
    "width": 16, "encoder_layers": 2, "decoder_layers": 3, "heads": 4, "ffn_width": 24, "dropout": 0.0
}  # fmt: skip


def model(seed: int = 0, **changes: float) -> ADTR:
    """A small network in float64 whose parameters are all random, biases and norms included."""
    torch.manual_seed(seed)
    network = ADTR(N, C, **SMALL | changes).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def tokens(images: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(images, N, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Size


def test_the_papers_model_has_7_874_000_parameters() -> None:
    # D = 256, C = 720, N = 256 tokens, FFN 1024; a linear layer has its weights and a bias for each output.
    #   input_proj 720 x 256 + 256                                    184,576
    #   pos_embed and query_embed, each 256 x 256                     131,072
    #   attention: four of 256 x 256 + 256                 263,168
    #   FFN: 256 x 1024 + 1024, 1024 x 256 + 256           525,568
    #   LayerNorm: 2 x 256                                     512
    #   encoder layer: attention, FFN, 2 norms             789,760 x 4  3,159,040
    #   decoder layer: 2 attentions, FFN, 3 norms        1,053,440 x 4  4,213,760
    #   the decoder's last norm                                             512
    #   output_proj 256 x 720 + 720                                     185,040
    network = ADTR(256, 720)
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_874_000
    assert sum(buffer.numel() for buffer in network.buffers()) == 2 * 720  # mean and standard deviation of the channels


# Parity with PyTorch's layers

PLAIN_NAMES = {
    "self_attn": "attentions.0", "cross_attn": "attentions.1", "linear1": "0", "linear2": "3",
    "norm1": "norms.0", "norm2": "norms.1", "norm3": "norms.2",
}  # fmt: skip


def pairs(ours: ADTR, theirs: plain.Transformer) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """Each of our parameters, the reference's parameter that holds it, and the rows where it lies."""
    reference = dict(theirs.named_parameters())
    for name, mine in ours.named_parameters():
        name = ".".join(PLAIN_NAMES.get(part, part) for part in name.split("."))
        stacked = re.fullmatch(r"(.+)\.([qkv])_proj\.(weight|bias)", name)  # in one matrix of 3D rows
        if stacked:
            start = "qkv".index(stacked[2]) * len(mine)
            yield mine, reference[f"{stacked[1]}.in_proj_{stacked[3]}"], slice(start, start + len(mine))
        else:
            yield mine, reference[name], slice(None)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_output_and_gradients_are_those_of_pytorchs_layers(seed: int, heads: int) -> None:
    ours, f = model(seed, heads=heads), tokens(seed=seed)
    theirs = plain.Transformer(N, C, **SMALL | {"heads": heads}).double()
    with torch.no_grad():
        for mine, other, rows in pairs(ours, theirs):
            other[rows] = mine
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())

    mine, other = ours(f), theirs(f)
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
    assert mine.std((0, 1)).min() > 0.01  # images and tokens differ
    for output in (mine, other):
        (output - f).square().sum().backward()
    for parameter, reference, rows in pairs(ours, theirs):
        assert parameter.grad is not None
        assert reference.grad is not None
        torch.testing.assert_close(parameter.grad, reference.grad[rows], rtol=1e-10, atol=1e-10)


def test_every_parameter_but_the_keys_biases_gets_a_gradient() -> None:
    ours = model()
    ours(tokens()).square().sum().backward()
    dead = {name for name, p in ours.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12}
    # The keys' bias adds the same number to all inputs of a softmax, which does not change it
    assert dead == {name for name, _ in ours.named_parameters() if name.endswith("k_proj.bias")}


# What flows where


def test_an_images_reconstruction_does_not_depend_on_its_neighbours() -> None:
    ours, f = model(), tokens(5)
    alone = torch.cat([ours(image[None]) for image in f])
    torch.testing.assert_close(ours(f), alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(f.flip(0)).flip(0), alone, rtol=0, atol=1e-12)


def test_without_position_the_image_is_a_set_of_tokens() -> None:
    ours, f = model(), tokens()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    assert (ours(f[:, order]) - ours(f)).abs().max() > 1e-3  # with it, the order of tokens counts
    nn.init.zeros_(ours.pos_embed)
    torch.testing.assert_close(ours(f[:, order]), ours(f), rtol=0, atol=1e-12)


def test_position_and_query_say_where_a_token_is() -> None:
    ours, f = model(), tokens()
    before, order = ours(f), torch.randperm(N, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours.pos_embed.copy_(ours.pos_embed[order])
        ours.query_embed.copy_(ours.query_embed[order])
    torch.testing.assert_close(ours(f[:, order]), before[:, order], rtol=0, atol=1e-12)


def test_no_shortcut_carries_the_input_around_the_attention() -> None:
    ours, f = model(), tokens()
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if name.endswith("cross_attn.out_proj.weight"):
                weight.zero_()
    reconstruction = ours(f)
    torch.testing.assert_close(reconstruction, reconstruction[:1].expand_as(f), rtol=0, atol=1e-12)


# Dropout


def test_dropout_acts_in_training_only() -> None:
    ours, f = model(dropout=0.5), tokens()
    ours.train()
    assert not torch.equal(ours(f), ours(f))
    ours.eval()
    assert torch.equal(ours(f), ours(f))
    without = model(dropout=0.0)
    torch.testing.assert_close(ours(f), without(f), rtol=0, atol=1e-12)


# Start, state, precision


def test_weights_start_as_xavier_uniform_and_biases_as_zero() -> None:
    torch.manual_seed(0)
    for name, module in ADTR(N, 40, **SMALL | {"width": 32}).named_modules():
        if isinstance(module, nn.Linear):
            stacked = 3 if name.endswith(("q_proj", "k_proj", "v_proj")) else 1  # one (3D, D) matrix, as in DETR
            bound = math.sqrt(6 / (module.in_features + stacked * module.out_features))
            assert 0.95 * bound < module.weight.abs().max() <= bound * (1 + 1e-6), name
            assert not module.bias.any(), name


def test_standardized_features_have_zero_mean_and_unit_variance_and_come_back() -> None:
    ours, f = ADTR(N, C, **SMALL), (5 + 3 * tokens(50)).half()
    flat = f.float().flatten(0, 1)
    ours.mean.copy_(flat.mean(0))
    ours.std.copy_(flat.std(0, correction=0))
    target = ours.standardized(f)
    assert (target.dtype, target.shape) == (torch.float32, f.shape)
    torch.testing.assert_close(target.mean((0, 1)), torch.zeros(C), rtol=0, atol=1e-5)
    torch.testing.assert_close(target.std((0, 1), correction=0), torch.ones(C), rtol=0, atol=1e-5)
    torch.testing.assert_close(target * ours.std + ours.mean, f.float(), rtol=0, atol=1e-5)


def test_features_are_left_as_they_are_unless_standardised() -> None:
    f = tokens().half()
    assert torch.equal(ADTR(N, C, **SMALL).standardized(f), f.float())


def test_state_comes_back_with_its_standardisation() -> None:
    ours, other, f = model(0), model(1), tokens()
    ours.mean.fill_(2)
    ours.std.fill_(3)
    assert not torch.equal(ours(f), other(f))
    other.load_state_dict(ours.state_dict())
    assert torch.equal(ours(f), other(f))
    assert torch.equal(ours.standardized(f), other.standardized(f))


def test_bfloat16_is_within_one_per_cent_of_float32() -> None:
    torch.manual_seed(0)
    ours = ADTR(64, 40, width=64, ffn_width=128, dropout=0.0)
    f = torch.randn(2, 64, 40)
    with torch.inference_mode():
        exact = ours(f)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = ours(f).float()
    distance = float((rounded - exact).norm() / exact.norm())
    assert 0.001 < distance < 0.01  # 0.5 %; bfloat16 keeps 8 bits, so a single rounding is up to 0.4 %


class OneType(TorchDispatchMode):
    """Refuses matrix products of operands of several types, which the device "meta" does not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.linear):
            assert len({x.dtype for x in args if isinstance(x, Tensor)}) == 1, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("network", [ADTR, NoQuery])
def test_no_matrix_product_on_a_gpu_has_to_cast_what_it_multiplies(
    network: type[ADTR], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under CUDA's autocast, without a GPU: weights of products in bfloat16, LayerNorm in float32."""
    norm = F.layer_norm
    monkeypatch.setattr(F, "layer_norm", lambda x, *others, **named: norm(x.float(), *others, **named))
    with torch.device("meta"), OneType():
        made = network(N, C, **SMALL | {"dropout": 0.1})
        for module in made.modules():
            if isinstance(module, nn.Linear):
                module.bfloat16()
        out = made(torch.zeros(3, N, C, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert made.pos_embed.dtype == torch.float32
    out.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in made.parameters())
