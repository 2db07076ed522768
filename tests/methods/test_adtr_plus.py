"""ADTR+: what it starts from, which images it sees, and that it pushes anomalies away.

Shapes: N images, T tokens, C channels, M anomalies.
"""

from pathlib import Path
from typing import Any

import numpy as np
import planted
import pytest
import torch

from adtr.config.methods import Params
from adtr.methods import adtr, adtr_plus
from adtr.model.losses import image_loss, pixel_loss, pseudo_huber
from adtr.train.context import Anomalies, Context, Fitted

NORMAL = 10  # images
VARIANTS = 2


def params(method: str = "adtr_plus", **changes: Any) -> Params:
    return planted.params(method, **{"train": {"epochs": 10, "save_minutes": 60}} | changes)


@pytest.fixture(scope="module")
def started() -> Fitted:
    return adtr.fit(planted.features()[0], params("adtr", train={"epochs": 40, "save_minutes": 60}), Context(0))


def anomalies(shift: float = 3.0) -> Anomalies:
    """Two copies of each normal image, the token i % T of each moved away."""
    features = np.repeat(planted.features()[0], VARIANTS, axis=0)
    tokens = torch.zeros(len(features), planted.SIDE**2, dtype=torch.bool)
    for i in range(len(features)):
        features[i, i % planted.SIDE**2] += shift
        tokens[i, i % planted.SIDE**2] = True
    return Anomalies(features, tokens)


def fit(started: Fitted, changes: dict[str, Any], seed: int = 0) -> Fitted:
    context = Context(seed, start=started.state, anomalies=anomalies())
    return adtr_plus.fit(planted.features()[0], params(**changes), context)


BOTH = pytest.mark.parametrize(
    "plus", [{}, {"anomalies": "outliers", "loss": "image", "top_k": 3}], ids=["confetti", "outliers"]
)


@BOTH
def test_it_starts_from_what_adtr_learned(started: Fitted, plus: dict[str, Any]) -> None:
    still = fit(started, {"train": {"epochs": 1, "lr": 1e-30}, "adtr_plus": plus})
    assert all(torch.equal(started.state[name], still.state[name]) for name in started.state)


@BOTH
def test_the_push_moves_anomalies_away(started: Fitted, plus: dict[str, Any]) -> None:
    """Beside the same training whose push weighs nothing."""
    train, known = {"epochs": 12, "lr": 0.001, "lr_drop_at": 1.0}, anomalies()
    gaps = []
    for alpha in (1e-12, 1.0):
        state = fit(started, {"train": train, "adtr_plus": plus | {"alpha": alpha}}).state
        noisy, clean = (adtr.anomaly_map(state, f, params()) for f in (known.features, planted.features()[0]))
        gaps.append(noisy.reshape(known.tokens.shape)[known.tokens].mean() - clean.mean())
    assert gaps[1] > 1.1 * gaps[0]


@BOTH
def test_the_first_loss_is_eq_7_or_9_of_the_images_of_the_first_epoch(started: Fitted, plus: dict[str, Any]) -> None:
    """One batch, a step too small to matter: the loss computed here from what the network reconstructs."""
    still = {"train": {"epochs": 1, "lr": 1e-30, "batch_size": 100}, "model": {"dropout": 0.0}, "adtr_plus": plus}
    first = fit(started, still).history[0]["loss"]
    normal, bank = planted.features()[0], anomalies()
    images = np.concatenate([normal, bank.features])
    labels = torch.cat([torch.zeros(NORMAL, planted.SIDE**2, dtype=torch.bool), bank.tokens])
    adtr.seeded(0, 1)
    order = torch.arange(len(images)) if plus else adtr_plus.noisy_order(NORMAL, VARIANTS, 0.5)
    network = adtr.trained(started.state, images.shape[1:], params())
    with torch.no_grad():
        f = network.standardized(torch.from_numpy(images[order]))
        phi = pseudo_huber(f, network(f))
    eq_9 = image_loss(phi, order >= NORMAL, 0.003, 3)
    expected = eq_9 if plus else pixel_loss(phi, labels[order], 0.003)
    assert first == pytest.approx(expected.item(), rel=1e-5)


def test_an_epoch_holds_each_image_once_and_replaces_its_share() -> None:
    torch.manual_seed(0)
    orders = torch.stack([adtr_plus.noisy_order(100, 4, 0.3) for _ in range(50)])
    noisy = orders >= 100
    source = torch.where(noisy, (orders - 100) // 4, orders)
    assert torch.equal(source.sort(dim=1).values, torch.arange(100).expand(50, -1))
    assert noisy.float().mean().item() == pytest.approx(0.3, abs=0.03)  # 5,000 draws: sd 0.0065
    assert set(((orders - 100) % 4)[noisy].tolist()) == {0, 1, 2, 3}
    assert orders.max() < 100 + 400
    assert (adtr_plus.noisy_order(20, 3, 1.0) >= 20).all()


@BOTH
def test_the_same_seed_gives_the_same_bytes_and_another_other_ones(started: Fitted, plus: dict[str, Any]) -> None:
    changes = {"train": {"epochs": 2}, "adtr_plus": plus}
    one, same, other = (fit(started, changes, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one.state[name], same.state[name]) for name in one.state)
    assert any(not torch.equal(one.state[name], other.state[name]) for name in one.state)


def test_a_training_resumed_gives_the_bytes_of_an_undisturbed_one(
    started: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = params(train={"epochs": 4, "lr_drop_at": 1.0, "save_minutes": 0})
    whole = fit(started, {"train": settings.train.model_dump()})
    context = Context(0, state=tmp_path, start=started.state, anomalies=anomalies())
    with planted.interrupted_after(2, monkeypatch):
        adtr_plus.fit(planted.features()[0], settings, context)
    rest = adtr_plus.fit(planted.features()[0], settings, context)
    assert all(torch.equal(whole.state[name], rest.state[name]) for name in whole.state)


@pytest.mark.parametrize("lacking", ["start", "anomalies"])
def test_without_a_start_or_anomalies_it_refuses(started: Fitted, lacking: str) -> None:
    known: dict[str, Any] = {"start": started.state, "anomalies": anomalies()}
    with pytest.raises(ValueError, match="needs anomalies and a finished ADTR"):
        adtr_plus.fit(planted.features()[0], params(), Context(0, **known | {lacking: None}))
