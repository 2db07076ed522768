"""The ablations: each differs from ADTR only in what its name says, in its parameters and in its network.

Shapes: B batch, N = G·G tokens, C channels, D width.
"""

import inspect
from typing import Any

import planted
import pytest
import torch

from adtr.config.levels import flatten
from adtr.config.methods import Model
from adtr.config.study import resolve
from adtr.model.ablations import CNN, Concatenation, NoQuery, reconstruction_network
from adtr.model.transformer import ADTR

N, C = 16, 7
VARIANTS = ["transformer", "no_attention", "no_query", "cnn"]
CHANGED = {  # and nothing else
    "cnn": {"model.variant": "cnn"},
    "no_attention": {"model.variant": "no_attention"},
    "no_query": {"model.variant": "no_query"},
    "pixels": {"features.backbone": "pixels"},
    "resnet18": {"features.backbone": "resnet18"},
    "resnet34": {"features.backbone": "resnet34"},
    "efficientnet_b0": {"features.backbone": "efficientnet_b0"},
    "last_layer": {"features.layers": [5]},
    "adtr_512": {"features.image_size": 512, "features.grid_size": 32},
    "adtr_plus": {"method": "adtr_plus", "train.epochs": 300, "train.lr_drop_at": 0.6667},
}


@pytest.fixture(scope="module")
def params() -> dict[str, dict[str, Any]]:
    """The resolved parameters of every experiment of the study `paper` on MVTec-AD, by dotted name."""
    plan = resolve("paper", planted.REPOSITORY / "params")
    found = {e: p.model_dump(mode="json") for (dataset, e), p in plan.params.items() if dataset == "mvtec"}
    return {name: {key: value for key, (value, _) in flatten(tree, "").items()} for name, tree in found.items()}


@pytest.mark.parametrize("experiment", CHANGED)
def test_an_ablation_differs_from_adtr_in_what_its_name_says_only(
    experiment: str, params: dict[str, dict[str, Any]]
) -> None:
    mine, reference = params[experiment], params["adtr"]
    assert mine.keys() == reference.keys()
    assert {key: value for key, value in mine.items() if value != reference[key]} == CHANGED[experiment]


def settings(variant: str, **changes: Any) -> Model:
    small = {"width": 8, "encoder_layers": 1, "decoder_layers": 2, "heads": 2, "ffn_width": 12, "dropout": 0.0}
    return Model.model_validate(small | {"variant": variant, "standardize": False, "cnn_blocks": 2} | changes)


def network(variant: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return reconstruction_network((N, C), settings(variant, **changes)).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_network_gives_the_shape_it_gets_and_can_be_trained(variant: str) -> None:
    f, model = torch.randn(3, N, C), network(variant)
    reconstruction = model(f)
    assert reconstruction.shape == f.shape
    torch.testing.assert_close(reconstruction[1:2], model(f[1:2]))  # whatever is beside it
    (f - reconstruction).square().mean().backward()
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_the_variants_are_the_networks_they_are_named_after() -> None:
    assert [type(network(variant)) for variant in VARIANTS] == [ADTR, ADTR, NoQuery, CNN]


def test_without_attention_no_token_sees_another() -> None:
    model, f = network("no_attention"), torch.randn(1, N, C)
    changed = f.clone()
    changed[0, 5] += 1
    moved = (model(f) - model(changed)).abs().amax(dim=2)[0] > 0
    assert moved.nonzero().flatten().tolist() == [5]
    whole = network("transformer")
    assert ((whole(f) - whole(changed)).abs().amax(dim=2)[0] > 0).all()


def test_concatenation_is_one_projection_of_query_and_value() -> None:
    torch.manual_seed(0)
    layer, query, key, value = Concatenation(8, 2, 0.0), *torch.randn(3, 2, N, 8)
    weight, bias = layer.proj.weight, layer.proj.bias
    torch.testing.assert_close(layer(query, key, value), query @ weight[:, :8].T + value @ weight[:, 8:].T + bias)


def test_without_the_query_the_decoder_starts_from_the_memory() -> None:
    memory = torch.randn(2, N, 8)
    assert torch.equal(network("no_query").decoder_input(memory), memory)
    assert "query_embed" not in dict(network("no_query").named_parameters())
    whole = network("transformer")
    assert torch.equal(whole.decoder_input(memory), whole.query_embed[None])
    dropping = network("transformer", dropout=0.1).train()
    assert torch.equal(dropping.decoder_input(memory), dropping.query_embed.expand(2, -1, -1))
    assert torch.equal(dropping.eval().decoder_input(memory), dropping.query_embed[None])


def test_the_same_seed_gives_transformer_and_no_query_the_same_weights() -> None:
    one, other = network("transformer").state_dict(), network("no_query").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_the_cnn_sees_as_far_as_its_convolutions() -> None:
    """Two blocks of two 3x3 convolutions: four tokens in each direction."""
    torch.manual_seed(0)
    model = reconstruction_network((121, C), settings("cnn")).eval()
    f = torch.randn(1, 121, C)
    changed = f.clone()
    changed[0, 0] += 1
    moved = ((model(f) - model(changed)).abs().amax(dim=2)[0] > 0).reshape(11, 11)
    rows, columns = moved.nonzero(as_tuple=True)
    assert (rows.max(), columns.max()) == (4, 4)


def test_the_cnn_of_the_papers_size_has_about_as_many_parameters_as_adtr() -> None:
    default = planted.read_yaml(planted.REPOSITORY / "params/default.yaml")["model"]
    sizes = {}
    for variant in VARIANTS:
        network = reconstruction_network((256, 720), Model.model_validate(default | {"variant": variant}))
        sizes[variant] = sum(parameter.numel() for parameter in network.parameters())
    # per block: two convolutions 9 · 256² and two norms of 2 · 256; input_proj and output_proj as in ADTR
    assert sizes["cnn"] == 6 * (2 * 9 * 256**2 + 2 * 2 * 256) + (720 * 256 + 256) + (256 * 720 + 720)
    assert sizes["transformer"] == 7_874_000
    assert sizes["no_query"] == 7_874_000 - 256 * 256
    # twelve attentions of 4 D² + 4 D become 2 D² + D
    assert sizes["no_attention"] == 7_874_000 - 12 * (2 * 256**2 + 3 * 256)
    assert abs(sizes["cnn"] / sizes["transformer"] - 1) < 0.06


@pytest.mark.parametrize("network", [ADTR, CNN])
def test_the_defaults_are_the_papers_parameters(network: type) -> None:
    default = planted.read_yaml(planted.REPOSITORY / "params/default.yaml")["model"]
    default["blocks"] = default["cnn_blocks"]
    signature = inspect.signature(network).parameters.values()
    values = {p.name: p.default for p in signature if p.default not in (inspect.Parameter.empty, None)}
    assert values == {name: default[name] for name in values} != {}
