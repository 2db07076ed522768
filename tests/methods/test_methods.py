"""The methods: what all of them hold to, and ADTR's training.

Shapes: N images, T tokens, C channels.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import planted
import pytest
import torch
from planted import fit, maps

from adtr.methods import adtr, autoencoder, kde, padim, patchcore, spade

ALL = [adtr, padim, spade, patchcore, kde, autoencoder]
METHODS = pytest.mark.parametrize("method", ALL, ids=lambda method: method.__name__.split(".")[-1])
SHORT = {"epochs": 2}
Changes = dict[str, Any]  # by section


# All methods


@METHODS
@pytest.mark.parametrize("images", [1, 2, 65])
def test_there_is_a_finite_map_for_each_image(method: ModuleType, images: int) -> None:
    train, _ = planted.features()
    fitted = fit(method, train, train=SHORT)
    found = maps(method, fitted, np.resize(train, (images, *train.shape[1:])))
    assert (found.shape, found.dtype) == ((images, planted.SIDE, planted.SIDE), np.float32)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@METHODS
def test_the_map_of_an_image_does_not_depend_on_its_neighbours(method: ModuleType) -> None:
    train, test = planted.features()
    fitted = fit(method, train, train=SHORT)
    alone = np.concatenate([maps(method, fitted, image[None]) for image in test])
    np.testing.assert_allclose(maps(method, fitted, test), alone, rtol=1e-5)


@METHODS
def test_the_planted_anomalies_rank_highest(method: ModuleType) -> None:
    train, test = planted.features()
    found = maps(method, fit(method, train), test).reshape(len(test), -1)
    for image, token in enumerate(planted.ANOMALIES):
        if token is not None:
            assert found[image].argmax() == token
    anomalous = [token is not None for token in planted.ANOMALIES]
    assert found[anomalous].max(1).min() > 1.2 * found[np.logical_not(anomalous)].max()


@METHODS
def test_the_same_seed_gives_the_same_bytes_whatever_was_fitted_before(method: ModuleType) -> None:
    train, test = planted.features()
    first = fit(method, train, seed=3, train=SHORT)
    torch.rand(7)
    fit(method, planted.features(seed=9)[0], seed=5, train=SHORT)
    again = fit(method, train, seed=3, train=SHORT)
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    assert first.history == again.history
    assert maps(method, first, test).tobytes() == maps(method, again, test).tobytes()


@METHODS
def test_another_seed_gives_another_state_where_the_method_is_random(method: ModuleType) -> None:
    train, _ = planted.features()
    first, second = (fit(method, train, seed, train=SHORT).state for seed in (0, 1))
    random = method not in (spade, kde)
    assert random == any(not torch.equal(first[name], second[name]) for name in first)
    assert random == planted.params(method.__name__.split(".")[-1]).random


@METHODS
def test_one_training_image_is_enough(method: ModuleType) -> None:
    train, test = planted.features(train=1)
    assert np.isfinite(maps(method, fit(method, train, train=SHORT), test)).all()


@METHODS
@pytest.mark.parametrize("standardize", [False, True])
def test_channels_that_never_vary_give_no_nan(method: ModuleType, standardize: bool) -> None:
    train, test = planted.features()
    train[:, :, :4], test[:, :, :4] = 0.1, 0.1  # not exact in binary
    changes: Changes = {"train": SHORT, "model": {"standardize": standardize}}
    found = maps(method, fit(method, train, **changes), test, **changes)
    assert np.isfinite(found).all()
    assert found.max() < 1e3  # rounding divided by a deviation of nothing would be far above


@METHODS
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_features_are_left_unchanged_and_may_be_read_only(method: ModuleType, tmp_path: Path) -> None:
    train, test = planted.features()
    before = train.tobytes(), test.tobytes()
    for name, array in (("train", train), ("test", test)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped_train, mapped_test = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("train", "test"))
    expected = maps(method, fit(method, train, train=SHORT), test)
    assert (train.tobytes(), test.tobytes()) == before
    np.testing.assert_array_equal(maps(method, fit(method, mapped_train, train=SHORT), mapped_test), expected)


# ADTR: training


def test_the_loss_of_an_epoch_is_the_mean_over_its_images() -> None:
    train, _ = planted.features(train=5)
    still: Changes = {"train": {"epochs": 1, "lr": 1e-30, "batch_size": 4}, "model": {"dropout": 0.0}}  # of 4 and 1
    fitted = fit(adtr, train, **still)
    found = maps(adtr, fitted, train, **still)
    assert fitted.history[0]["loss"] == pytest.approx((found**2).mean() / planted.CHANNELS, rel=1e-5)


def test_the_anomaly_map_is_the_norm_of_the_feature_difference() -> None:
    train, test = planted.features()
    fitted = fit(adtr, train, train=SHORT)
    mean, std = (fitted.state[name].numpy() for name in ("mean", "std"))
    f = torch.from_numpy((test.astype(np.float32) - mean) / std)
    model = adtr.trained(fitted.state, test.shape[1:], planted.params())
    with torch.inference_mode():
        difference = (f - model(f)).numpy()
    expected = np.sqrt((difference.astype(np.float64) ** 2).sum(-1)).reshape(-1, planted.SIDE, planted.SIDE)
    np.testing.assert_allclose(maps(adtr, fitted, test), expected, rtol=1e-5)


def test_channels_are_standardised_on_the_training_set() -> None:
    train, _ = planted.features(train=70)
    state = fit(adtr, train, train=SHORT, model={"standardize": True}).state
    tokens = train.reshape(-1, planted.CHANNELS).astype(np.float64)
    np.testing.assert_allclose(state["mean"], tokens.mean(0), rtol=1e-6)
    np.testing.assert_allclose(state["std"], tokens.std(0), rtol=1e-6)
    plain = fit(adtr, train, train=SHORT, model={"standardize": False}).state
    assert not plain["mean"].any()
    assert torch.equal(plain["std"], torch.ones(planted.CHANNELS))


def test_weight_decay_shrinks_the_weights() -> None:
    train, _ = planted.features()
    free, decayed = (fit(adtr, train, train=SHORT | {"weight_decay": decay}).state for decay in (0.0, 50.0))
    # AdamW takes lr x decay = 0.15 of a weight away at each of the six steps
    ratio = float(decayed["output_proj.weight"].norm() / free["output_proj.weight"].norm())
    assert ratio == pytest.approx(0.85**6, rel=0.1)


def test_the_gradient_is_clipped_to_its_norm() -> None:
    train, _ = planted.features()
    start = fit(adtr, train, train={"epochs": 1, "lr": 1e-30}).state["input_proj.weight"]
    free, loose, clipped = (
        fit(adtr, train, train=SHORT | {"grad_clip": clip}).state["input_proj.weight"] for clip in (0.0, 1e9, 1e-9)
    )
    assert torch.equal(free, loose)
    # AdamW divides by the gradient's size plus 1e-8: a gradient of 1e-9 in all moves next to nothing
    assert (clipped - start).norm() < 0.1 * (free - start).norm()


@METHODS
def test_features_as_large_as_float16_can_be_give_finite_maps(method: ModuleType) -> None:
    train, test = planted.features()
    train[:, :, 3], test[:, :, 3] = 65504, -65504
    plain: Changes = {"train": SHORT, "model": {"standardize": False}}
    assert np.isfinite(maps(method, fit(method, train, **plain), test, **plain)).all()


def test_every_precision_trains_and_bfloat16_differs_from_float32_by_little() -> None:
    train, test = planted.features()
    full, half, chosen = (fit(adtr, train, train={"precision": p}) for p in ("float32", "bfloat16", "auto"))
    for fitted in (full, half, chosen):
        assert {value.dtype for value in fitted.state.values()} == {torch.float32}
        assert maps(adtr, fitted, test)[1].argmax() == 0
    losses = [[row["loss"] for row in fitted.history] for fitted in (full, half)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    exact, rounded = maps(adtr, full, test), maps(adtr, half, test)
    assert 0 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.02
