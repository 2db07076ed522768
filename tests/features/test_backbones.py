"""Backbones against their libraries, a plain functional computation, and what the papers say of their layers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet as EfficientNetLite
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn

from adtr.config.schema import Backbone, Features
from adtr.errors import UserError
from adtr.features.backbones import build, network, pyramid
from adtr.features.backbones.efficientnet import Swish
from adtr.features.backbones.resnet import ResNet
from adtr.features.weights import weights_file
from adtr.files import sha256

CHANNELS = {
    "efficientnet_b0": [16, 24, 40, 112, 320],
    "efficientnet_b1": [16, 24, 40, 112, 320],
    "efficientnet_b2": [16, 24, 48, 120, 352],
    "efficientnet_b3": [24, 32, 48, 136, 384],
    "efficientnet_b4": [24, 32, 56, 160, 448],
    "efficientnet_lite0": [16, 24, 40, 112, 320],
    "efficientnet_lite1": [16, 24, 40, 112, 320],
    "efficientnet_lite2": [16, 24, 48, 120, 352],
    "resnet18": [64, 64, 128, 256, 512],
    "resnet34": [64, 64, 128, 256, 512],
}


def features(backbone: str, image_size: int = 64, weights: str = "random") -> Features:
    fields = {"backbone": backbone, "weights": weights, "layers": (1, 2, 3, 4, 5)}
    return Features.model_validate(fields | {"image_size": image_size, "grid_size": 4, "precision": "float32"})


def images(count: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


# Layers


def test_every_backbone_is_tested() -> None:
    assert set(CHANNELS) == set(get_args(Backbone)) - {"pixels"}


@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("name", CHANNELS)
def test_layers_have_their_channels_at_strides_2_to_32(name: str, size: int) -> None:
    layers = build(features(name, size), None)(images(1, size))
    expected = [(1, channels, size // 2**i, size // 2**i) for i, channels in enumerate(CHANNELS[name], start=1)]
    assert [tuple(layer.shape) for layer in layers] == expected


@pytest.mark.parametrize("size", [(32, 32), (128, 128), (64, 32)])
def test_another_image_size_than_the_built_one_is_refused(size: tuple[int, int]) -> None:
    """EfficientNet pads for the size it was built with: another would shift the grid silently."""
    with pytest.raises(ValueError, match="built for 64 px"):
        build(features("efficientnet_lite0", 64), None)(torch.zeros(1, 3, *size))


def test_a_backbone_of_no_family_is_refused() -> None:
    with pytest.raises(UserError, match=r"backbone vgg16: no module of adtr/features/backbones"):
        network("vgg16", 64)


# Values


def randomize_norms(network: nn.Module) -> None:
    """Statistics and weights such that leaving any of them out of the folding would show."""
    random = torch.Generator().manual_seed(1)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -0.3, 0.3)):
            tensor.data.uniform_(low, high, generator=random)
        for buffer, low, high in ((norm.running_mean, -0.3, 0.3), (norm.running_var, 0.5, 2)):
            assert buffer is not None
            buffer.uniform_(low, high, generator=random)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("name", "library", "blocks", "size"),
    [
        ("efficientnet_b0", EfficientNet, (0, 2, 4, 10, 15), 64),
        ("efficientnet_b4", EfficientNet, (1, 5, 9, 21, 31), 32),
        ("efficientnet_b4", EfficientNet, (1, 5, 9, 21, 31), 72),
        ("efficientnet_b4", EfficientNet, (1, 5, 9, 21, 31), 256),
        ("efficientnet_lite0", EfficientNetLite, (0, 2, 4, 10, 15), 64),
        ("efficientnet_lite2", EfficientNetLite, (0, 3, 6, 14, 20), 64),
    ],
)
def test_folded_efficientnet_gives_what_its_library_gives_unfolded(
    name: str, library: Any, blocks: tuple[int, ...], size: int, tmp_path: Path
) -> None:
    """At sizes whose halves are even, and at 72 px: 36, 18, 9, 5, 3, where the padding is another."""
    network = library.from_name(name.replace("_", "-"), image_size=size).eval()
    randomize_norms(network)
    path = saved(network.state_dict(), tmp_path / "weights.pth")
    outputs: dict[int, Tensor] = {}
    for i, block in enumerate(network._blocks):
        block.register_forward_hook(lambda _block, _inputs, output, i=i: outputs.update({i: output}))
    with torch.inference_mode():
        network.extract_features(images(2, size))
        layers = build(features(name, size), path)(images(2, size))
    assert len(network._blocks) == blocks[-1] + 1
    for layer, block in zip(layers, blocks, strict=True):
        assert relative_error(layer, outputs[block]) < 1e-4


def resnet_by_hand(state: dict[str, Tensor], depths: tuple[int, ...], x: Tensor) -> list[Tensor]:
    """Layers of a ResNet computed from torchvision's names alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    layers = [F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1"))]
    x = F.max_pool2d(layers[0], 3, 2, 1)
    for stage, depth in enumerate(depths, start=1):
        for i in range(depth):
            name, stride = f"layer{stage}.{i}", 2 if i == 0 and stage > 1 else 1
            y = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            y = norm(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            x = F.relu(x + y)
        layers.append(x)
    return layers


RESNETS = [("resnet18", (2, 2, 2, 2), 11_689_512, 122), ("resnet34", (3, 4, 6, 3), 21_797_672, 218)]


@pytest.mark.parametrize(("name", "depths", "parameters", "tensors"), RESNETS)
def test_folded_resnet_gives_what_a_plain_computation_gives(
    name: str, depths: tuple[int, ...], parameters: int, tensors: int, tmp_path: Path
) -> None:
    network = ResNet(depths)
    randomize_norms(network)
    state = network.state_dict()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(state) == tensors
    assert state["fc.weight"].shape == (1000, 512)
    with torch.inference_mode():
        layers = build(features(name), saved(state, tmp_path / "weights.pth"))(images(2, 64))
        expected = resnet_by_hand(state, depths, images(2, 64))
    for layer, reference in zip(layers, expected, strict=True):
        assert relative_error(layer, reference) < 1e-4


@pytest.mark.parametrize(
    ("name", "size"),
    [(f"efficientnet_b{i}", 64) for i in range(5)]
    + [("efficientnet_b3", 32), ("efficientnet_b4", 33), ("efficientnet_lite0", 33), ("resnet18", 33)],
)
def test_an_image_gives_the_same_bits_whatever_is_beside_it_and_again(name: str, size: int) -> None:
    """At 33 px a map's numbers are no multiple of what a processor does at once."""
    backbone, batch = build(features(name, image_size=size), None), images(7, size)
    alone = [torch.cat(layers) for layers in zip(*(backbone(image[None]) for image in batch), strict=True)]
    for parts in (batch.split(7), batch.split(3), batch.split(7)):
        together = [torch.cat(layers) for layers in zip(*map(backbone, parts), strict=True)]
        assert all(map(torch.equal, together, alone))


@pytest.mark.parametrize("channels", [816, 1392, 10])
def test_swish_of_an_image_does_not_depend_on_the_batch(channels: int) -> None:
    x = torch.randn(40, channels, 1, 1, generator=torch.Generator().manual_seed(0)) * 4
    alone = torch.cat([Swish()(image[None].clone()) for image in x])
    assert torch.equal(Swish()(x.clone()), alone)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0", "resnet18"])
def test_a_backbone_is_frozen(name: str) -> None:
    backbone = build(features(name), None)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    assert not any(layer.requires_grad for layer in backbone(images(1, 64)))


# One grid


def test_the_pyramid_is_the_chosen_layers_in_order() -> None:
    layers = [torch.full((2, channels, 32 // 2**i, 32 // 2**i), float(i)) for i, channels in enumerate((1, 2, 3, 4, 5))]
    tokens = pyramid(layers, (2, 5), 4)
    assert tokens.shape == (2, 7, 4, 4)
    assert tokens[0, :, 0, 0].tolist() == [1, 1, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("grid", [2, 4, 8, 16])
def test_resizing_is_bilinear_from_corner_to_corner(grid: int) -> None:
    """A ramp stays a ramp, and its ends stay where they are (align_corners)."""
    ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    expected = torch.linspace(0, 1, grid).expand(1, 1, grid, grid)
    torch.testing.assert_close(pyramid([ramp], (1,), grid), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(pyramid([ramp.mT], (1,), grid), expected.mT, rtol=0, atol=1e-6)


def test_a_layer_of_the_grids_size_is_not_touched() -> None:
    layer = images(2, 8)
    assert torch.equal(pyramid([layer], (1,), 8), layer)


# Random weights


def test_random_weights_are_always_the_same_and_leave_the_random_state_alone() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(build(features("efficientnet_lite0"), None)(images(1, 64))[4])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0], results[1])
    assert results[0].std() > 0


# Weight files


def test_the_weights_of_the_lite0_package_fit_strictly() -> None:
    wanted = features("efficientnet_lite0", weights="imagenet")
    path = weights_file(wanted, {}, Path("nowhere"))
    assert path is not None
    assert sha256(path).startswith("57934424")
    layer, random = build(wanted, path)(images(1, 64))[4], build(wanted, None)(images(1, 64))[4]
    assert torch.isfinite(layer).all()
    assert relative_error(layer, random) > 0.5


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return dict(EfficientNetLite.from_name("efficientnet-lite0").state_dict())


MISFITS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "a tensor is missing": lambda state: {name: state[name] for name in state if name != "_bn0.running_var"},
    "a tensor too many": lambda state: state | {"_blocks.16._bn0.bias": torch.zeros(1)},
    "another shape": lambda state: state | {"_fc.bias": torch.zeros(10)},
    "of another network": lambda _: ResNet((1, 1, 1, 1)).state_dict(),
    "not a dictionary": lambda state: list(state.values()),
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS.keys())
def test_weights_that_do_not_fit_are_refused(
    state: dict[str, Tensor], tmp_path: Path, change: Callable[[dict[str, Tensor]], object]
) -> None:
    path = saved(change(state), tmp_path / "wrong.pth")
    with pytest.raises(UserError, match=r"/wrong\.pth: not readable as the weights of this backbone \(."):
        build(features("efficientnet_lite0"), path)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(state: dict[str, Tensor], tmp_path: Path, share: float) -> None:
    raw = saved(state, tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(UserError, match=r"/cut\.pth: not readable as the weights of this backbone \(."):
        build(features("efficientnet_lite0"), tmp_path / "cut.pth")


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.system, (self.command,)


def test_weights_that_would_run_code_are_refused_and_do_not(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = saved({"_fc.bias": Payload(f"touch {trace}")}, tmp_path / "wrong.pth")
    with pytest.raises(UserError, match="not readable as the weights"):
        build(features("efficientnet_lite0"), path)
    assert not trace.exists()
