"""Distances of what a reconstruction leaves: PaDiM is one of them, ADTR's norm another."""

from typing import Any

import numpy as np
import planted
import pytest
import torch
from torch import Tensor

from adtr.methods import adtr, padim, residual
from adtr.train.context import Context

TRAIN, TEST = planted.features(train=40)
ALL = planted.CHANNELS


def maps(context: Context, **settings: Any) -> np.ndarray:
    params = planted.params("residual", residual={"channels": ALL} | settings)
    return residual.anomaly_map(residual.fit(TRAIN, params, context).state, TEST, params)


@pytest.fixture(scope="module")
def learned() -> dict[str, Tensor]:
    return adtr.fit(TRAIN, planted.params(train={"epochs": 5}), Context(0)).state


def test_the_mahalanobis_distance_to_the_mean_is_padim() -> None:
    whole = planted.params("padim", padim={"channels": ALL, "epsilon": 1e-6})
    expected = padim.anomaly_map(padim.fit(TRAIN, whole, Context(0)).state, TEST, whole)
    assert maps(Context(0), start="mean", epsilon=1e-6) == pytest.approx(expected, rel=1e-2)


def test_the_norm_of_what_a_network_leaves_is_adtrs_map(learned: dict[str, Tensor]) -> None:
    expected = adtr.anomaly_map(learned, TEST, planted.params())
    assert maps(Context(0, start=learned), distance="l2") == pytest.approx(expected, rel=1e-5)


def test_the_norm_to_the_mean_is_a_distance_of_features() -> None:
    expected = np.linalg.norm(TEST.astype(float) - TRAIN.astype(float).mean(0), axis=-1).reshape(-1, 4, 4)
    assert maps(Context(0), start="mean", distance="l2") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shared", [False, True])
def test_standardised_channels_have_unit_variance_on_normal_images(learned: dict[str, Tensor], shared: bool) -> None:
    settings = {"distance": "standardized", "epsilon": 1e-9, "shared": shared, "channels": ALL}
    params = planted.params("residual", residual=settings)
    state = residual.fit(TRAIN, params, Context(0, start=learned)).state
    squares = residual.anomaly_map(state, TRAIN, params) ** 2
    assert squares.mean() == pytest.approx(ALL, rel=0.05)
    assert state["scale"].shape == (1 if shared else 16, ALL)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("distance", ["standardized", "mahalanobis"])
def test_planted_anomalies_are_farthest(learned: dict[str, Tensor], distance: str, shared: bool) -> None:
    found = maps(Context(0, start=learned), distance=distance, shared=shared).reshape(len(TEST), -1)
    for image, token in enumerate(planted.ANOMALIES):
        assert token is None or found[image].argmax() == token
    assert torch.from_numpy(found).isfinite().all()


@pytest.mark.parametrize("distance", ["standardized", "mahalanobis"])
def test_in_equal_scale_normal_images_are_as_far_as_features_deviate_there(distance: str) -> None:
    settings = {"start": "mean", "distance": distance, "epsilon": 1e-9, "channels": ALL, "equal_scale": True}
    params = planted.params("residual", residual=settings)
    found = residual.anomaly_map(residual.fit(TRAIN, params, Context(0)).state, TRAIN, params)
    deviations = TRAIN.astype(float).std(0, ddof=1)  # (T, C)
    expected = np.sqrt(ALL * (len(TRAIN) - 1) / len(TRAIN)) * np.linalg.norm(deviations, axis=1)
    assert np.sqrt(np.square(found).mean(0)).ravel() == pytest.approx(expected, rel=1e-3)


def test_channels_are_drawn_by_the_seed(learned: dict[str, Tensor]) -> None:
    one, two, again = (maps(Context(seed, start=learned), channels=4) for seed in (0, 1, 0))
    assert np.array_equal(one, again)
    assert not np.allclose(one, two)
