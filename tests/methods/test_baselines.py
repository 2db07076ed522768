"""The baselines, each against a plain version of itself, in float64 and with loops.

Shapes: N images, T tokens, C channels, d channels drawn, M points or tokens kept.
"""

from types import ModuleType
from typing import Any

import numpy as np
import planted
import pytest
import torch
from planted import fit, maps
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from adtr.errors import UserError
from adtr.methods import autoencoder, kde, neighbours, padim, patchcore, spade
from adtr.train.context import Fitted

Changes = dict[str, Any]  # by section


def scores(method: ModuleType, fitted: Fitted, features: np.ndarray, **changes: Any) -> np.ndarray:
    return method.image_score(fitted.state, features, planted.params(**changes))


def standardised(train: np.ndarray, features: np.ndarray) -> np.ndarray:
    """`features` in channels of zero mean and unit variance over all tokens of `train`."""
    tokens = train.reshape(-1, train.shape[-1]).astype(np.float64)
    return (features.astype(np.float64) - tokens.mean(0)) / tokens.std(0)


def distances(tokens: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """(n, C) to (M, C): (n, M)."""
    return np.linalg.norm(tokens[:, None] - bank, axis=-1)


# Tokens in their space


@pytest.mark.parametrize("count", [1, 4, 1000])
def test_the_nearest_tokens_are_those_of_a_full_search(count: int) -> None:
    rng = np.random.default_rng(0)
    tokens, bank = rng.normal(size=(600, 5)).astype(np.float32), rng.normal(size=(70, 5)).astype(np.float32)
    found, indices = neighbours.nearest(torch.from_numpy(tokens), torch.from_numpy(bank), count)
    expected = distances(tokens.astype(np.float64), bank)
    np.testing.assert_array_equal(indices, expected.argsort(1)[:, :count])
    np.testing.assert_allclose(found, np.sort(expected, 1)[:, :count], rtol=1e-5)


def test_small_distances_far_from_the_origin_keep_their_digits() -> None:
    bank = torch.tensor([[1e4, 1.0], [1e4, 2.0]])
    found, _ = neighbours.nearest(torch.tensor([[1e4, 1.125]]), bank, 2)
    assert sorted(found[0].tolist()) == [0.125, 0.875]


@pytest.mark.parametrize("method", [padim, spade, patchcore, kde], ids=lambda method: method.__name__.split(".")[-1])
def test_the_number_of_threads_does_not_matter(method: ModuleType) -> None:
    train, test = planted.features(train=40)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(maps(method, fit(method, train), test))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


# PaDiM


@pytest.mark.parametrize("images", [1, 3, 10])
@pytest.mark.parametrize("channels", [1, 4, 100])
def test_padim_is_the_mahalanobis_distance_at_each_position(images: int, channels: int) -> None:
    train, test = planted.features(images)
    settings: Changes = {"padim": {"channels": channels, "epsilon": 0.01}}
    fitted = fit(padim, train, **settings)
    drawn = fitted.state["channels"].numpy()
    assert len(set(drawn)) == len(drawn) == min(channels, planted.CHANNELS)

    normal, tokens = train[:, :, drawn].astype(np.float64), test[:, :, drawn].astype(np.float64)
    expected = np.empty(tokens.shape[:2])
    for position in range(planted.SIDE**2):
        mean = normal[:, position].mean(0)
        centred = normal[:, position] - mean
        covariance = centred.T @ centred / max(1, images - 1) + 0.01 * np.eye(len(drawn))
        inverse = np.linalg.inv(covariance)
        for image in range(len(test)):
            difference = tokens[image, position] - mean
            expected[image, position] = np.sqrt(difference @ inverse @ difference)
    found = maps(padim, fitted, test, **settings).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_padim_of_the_mean_image_is_zero() -> None:
    train = np.stack([np.zeros((16, 12)), np.full((16, 12), 2)]).astype(np.float16)
    assert maps(padim, fit(padim, train), np.ones((1, 16, 12), np.float16)).max() == 0


def test_padim_says_what_to_do_about_a_singular_covariance() -> None:
    with pytest.raises(UserError, match=r"singular: raise padim\.epsilon \(1e-30\)"):
        fit(padim, planted.features(train=2)[0], padim={"epsilon": 1e-30})


# SPADE


def spade_by_hand(train: np.ndarray, image: np.ndarray, k: int, kappa: int) -> tuple[float, np.ndarray]:
    """The score and the map (T,) of one image (T, C)."""
    gallery, tokens = standardised(train, train), standardised(train, image)
    to_images = np.linalg.norm(gallery.mean(1) - tokens.mean(0), axis=1)
    nearest = np.argsort(to_images)[:k]
    bank = np.concatenate([gallery[i] for i in nearest])
    to_tokens = np.array([[np.sqrt(((token - other) ** 2).sum()) for other in bank] for token in tokens])
    return to_images[nearest].mean(), np.sort(to_tokens, 1)[:, :kappa].mean(1)


@pytest.mark.parametrize(("k", "kappa"), [(1, 1), (3, 1), (3, 5), (50, 2), (2, 1000)])
def test_spade_is_the_distance_to_the_nearest_images_and_their_tokens(k: int, kappa: int) -> None:
    train, test = planted.features()
    settings: Changes = {"spade": {"neighbours": k, "kappa": kappa}}
    fitted = fit(spade, train, **settings)
    found = maps(spade, fitted, test, **settings).reshape(test.shape[:2]), scores(spade, fitted, test, **settings)
    for image, tokens in enumerate(test):
        score, expected = spade_by_hand(train, tokens, k, kappa)
        assert found[1][image] == pytest.approx(score, rel=1e-4)
        np.testing.assert_allclose(found[0][image], expected, rtol=1e-4)


def test_spade_looks_for_tokens_in_the_nearest_images_only() -> None:
    train, _ = planted.features(train=4)
    train[2:] += 3  # two images of another kind
    settings: Changes = {"spade": {"neighbours": 2, "kappa": 1}}
    fitted = fit(spade, train, **settings)
    mixed = train[:1].copy()
    mixed[0, 5] = train[3, 5]
    found = maps(spade, fitted, mixed, **settings).reshape(-1)
    assert found.argmax() == 5
    assert np.delete(found, 5).max() == 0
    assert maps(spade, fitted, mixed, spade={"neighbours": 4, "kappa": 1}).max() == 0


def test_spade_finds_training_images_in_the_gallery() -> None:
    train, _ = planted.features()
    settings: Changes = {"spade": {"neighbours": 1, "kappa": 1}}
    fitted = fit(spade, train, **settings)
    assert maps(spade, fitted, train, **settings).max() == 0
    assert scores(spade, fitted, train, **settings).max() == 0
    assert fitted.state["gallery"].dtype == torch.float16


# PatchCore


def locally_aware(train: np.ndarray, features: np.ndarray, side: int) -> np.ndarray:
    """(N, T, C), standardised, each token the mean of the side x side tokens around it, zeros beyond the border."""
    grid = standardised(train, features).reshape(len(features), planted.SIDE, planted.SIDE, -1)
    found, reach = np.empty_like(grid), side // 2
    for row in range(planted.SIDE):
        for column in range(planted.SIDE):
            rows, columns = (slice(max(0, i - reach), i + reach + 1) for i in (row, column))
            found[:, row, column] = grid[:, rows, columns].sum((1, 2)) / side**2
    return found.reshape(features.shape)


def greedy_by_hand(tokens: np.ndarray, count: int, first: int) -> list[int]:
    chosen, to_nearest = [first], np.linalg.norm(tokens - tokens[first], axis=1)
    while len(chosen) < count:
        to_nearest[chosen] = -1
        chosen.append(int(to_nearest.argmax()))
        to_nearest = np.minimum(to_nearest, np.linalg.norm(tokens - tokens[chosen[-1]], axis=1))
    return chosen


@pytest.mark.parametrize("candidates", [1, 2, 7, 1024])
@pytest.mark.parametrize("count", [1, 2, 60, 300])
def test_the_greedy_coreset_is_that_of_a_choice_step_by_step(
    count: int, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    monkeypatch.setattr(patchcore, "CANDIDATES", candidates)
    monkeypatch.setattr(patchcore, "CHUNK", 64)
    found = patchcore.greedy_coreset(torch.from_numpy(tokens), count, 17)
    assert found.tolist() == greedy_by_hand(tokens.astype(np.float64), count, 17)


def test_clustered_tokens_are_chosen_step_by_step_too() -> None:
    rng = np.random.default_rng(2)
    tokens = (10 * rng.normal(size=(8, 3))[rng.integers(8, size=3000)] + rng.normal(size=(3000, 3))).astype(np.float32)
    found = patchcore.greedy_coreset(torch.from_numpy(tokens), 200, 0)
    assert found.tolist() == greedy_by_hand(tokens.astype(np.float64), 200, 0)


def test_equal_tokens_are_chosen_once_each() -> None:
    found = patchcore.greedy_coreset(torch.ones(9, 2), 9, 4)
    assert sorted(found.tolist()) == list(range(9))


@pytest.mark.parametrize(("share", "kept"), [(1e-6, 1), (0.1, 16), (0.5, 80), (1.0, 160)])
def test_patchcore_keeps_its_share_of_the_training_tokens(share: float, kept: int) -> None:
    train, _ = planted.features()
    bank = fit(patchcore, train, patchcore={"coreset_ratio": share, "neighbourhood": 3}).state["bank"]
    tokens = locally_aware(train, train, 3).reshape(-1, planted.CHANNELS)
    to_tokens = distances(bank.double().numpy(), tokens)
    assert bank.dtype == torch.float16
    assert len(set(to_tokens.argmin(1))) == len(bank) == kept
    assert to_tokens.min(1).max() < 5e-3  # the rounding to float16


@pytest.mark.parametrize("projection", [2, 128])
def test_patchcore_keeps_the_greedy_coreset_of_the_projected_tokens(projection: int) -> None:
    train, _ = planted.features()
    settings = {"coreset_ratio": 0.2, "projection": projection, "neighbourhood": 3}
    state = fit(patchcore, train, seed=3, patchcore=settings).state
    tokens = locally_aware(train, train, 3).reshape(-1, planted.CHANNELS)
    kept = distances(state["bank"].double().numpy(), tokens).argmin(1)
    rng = np.random.default_rng(3)
    first = int(rng.integers(160))
    matrix = np.eye(planted.CHANNELS)
    if projection == 2:
        matrix = rng.standard_normal((planted.CHANNELS, 2), np.float32) / np.sqrt(2)
    assert kept.tolist() == sorted(greedy_by_hand(tokens @ matrix, 32, first))


@pytest.mark.parametrize("neighbourhood", [1, 3, 5])
def test_patchcore_is_the_distance_to_the_nearest_token_kept(neighbourhood: int) -> None:
    train, test = planted.features()
    settings: Changes = {"patchcore": {"coreset_ratio": 0.3, "neighbourhood": neighbourhood}}
    fitted = fit(patchcore, train, **settings)
    tokens = locally_aware(train, test, neighbourhood)
    bank = fitted.state["bank"].double().numpy()
    expected = distances(tokens.reshape(-1, planted.CHANNELS), bank).min(1).reshape(test.shape[:2])
    np.testing.assert_allclose(maps(patchcore, fitted, test, **settings).reshape(expected.shape), expected, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 9, 1000])
def test_patchcore_weights_the_score_of_an_image_by_its_neighbourhood(count: int) -> None:
    """Eq. 7, in the paper's symbols."""
    train, test = planted.features()
    settings: Changes = {"patchcore": {"coreset_ratio": 0.3, "neighbours": count, "neighbourhood": 3}}
    fitted = fit(patchcore, train, **settings)
    bank = fitted.state["bank"].double().numpy()
    found = scores(patchcore, fitted, test, **settings)
    for image, tokens in enumerate(locally_aware(train, test, 3)):
        to_bank = distances(tokens, bank)
        worst = to_bank.min(1).argmax()
        m_star, s_star = bank[to_bank[worst].argmin()], to_bank[worst].min()
        around = np.argsort(distances(m_star[None], bank)[0])[:count]
        weight = 1 - np.exp(s_star) / np.exp(to_bank[worst, around]).sum() if count > 1 else 1
        assert found[image] == pytest.approx(weight * s_star, rel=1e-3)


def test_patchcore_scores_stay_finite_where_exponentials_do_not() -> None:
    train, test = planted.features()
    fitted = fit(patchcore, train)
    assert np.isfinite(scores(patchcore, fitted, 3000 * test)).all()


# Kernel density


def density(points: np.ndarray, asked: np.ndarray, components: int) -> tuple[np.ndarray, float]:
    """-log density by scikit-learn, less the kernel's constant, and the bandwidth by leave-one-out likelihood."""
    mean, std = points.mean(0), points.std(0)
    pca = PCA(components, svd_solver="full").fit((points - mean) / std)
    points, asked = (pca.transform((x - mean) / std) for x in (points, asked))

    def left_out(h: float) -> float:
        rest = [(np.delete(points, i, 0), points[i : i + 1]) for i in range(len(points))]
        return sum(KernelDensity(bandwidth=h).fit(others).score(own) for others, own in rest)

    bandwidth = max(kde.BANDWIDTHS, key=left_out)
    constant = -0.5 * points.shape[1] * np.log(2 * np.pi * bandwidth**2)
    return constant - KernelDensity(bandwidth=bandwidth).fit(points).score_samples(asked), bandwidth


@pytest.mark.parametrize("components", [1, 3, planted.CHANNELS])
def test_kde_of_images_is_scikit_learns(components: int) -> None:
    train, test = planted.features(train=30)
    settings: Changes = {"kde": {"components": components}}
    fitted = fit(kde, train, **settings)
    expected, bandwidth = density(train.mean(1, dtype=np.float64), test.mean(1, dtype=np.float64), components)
    assert fitted.state["images.bandwidth"].item() == pytest.approx(bandwidth)
    np.testing.assert_allclose(scores(kde, fitted, test, **settings), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("components", "most"), [(3, 1000), (100, 40)])
def test_kde_of_tokens_is_scikit_learns(components: int, most: int) -> None:
    train, test = planted.features()
    settings: Changes = {"kde": {"components": components, "max_tokens": most}}
    fitted = fit(kde, train, **settings)
    tokens = train.reshape(-1, planted.CHANNELS).astype(np.float64)
    spaced = np.round(np.linspace(0, 159, min(most, 160))).astype(int)
    asked = test.reshape(-1, planted.CHANNELS).astype(np.float64)
    expected, bandwidth = density(tokens[spaced], asked, min(components, planted.CHANNELS))
    assert fitted.state["tokens.bandwidth"].item() == pytest.approx(bandwidth)
    found = maps(kde, fitted, test, **settings).reshape(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_kde_stays_finite_far_from_all_points() -> None:
    train, test = planted.features()
    fitted = fit(kde, train)
    assert np.isfinite(maps(kde, fitted, 3000 * test)).all()
    assert np.isfinite(scores(kde, fitted, 3000 * test)).all()


# Autoencoder


def images(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """(n, 3, S, S) of smooth colours."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


@pytest.mark.parametrize(("size", "grid"), [(32, 8), (64, 8), (48, 16), (4, 4)])
def test_images_survive_being_patched(size: int, grid: int) -> None:
    original = images(3, size)
    tokens = autoencoder.patched(original, grid)
    assert tokens.shape == (3, grid**2, 3 * (size // grid) ** 2)
    assert torch.equal(autoencoder.unpatched(tokens), original)


def test_a_token_is_the_patch_at_its_place() -> None:
    original = images(1, 32)
    side = 4
    token = autoencoder.patched(original, 8)[0, 8 * 2 + 5]  # row 2, column 5
    patch = original[0, :, 2 * side : 3 * side, 5 * side : 6 * side]
    assert sorted(token.tolist()) == sorted(patch.flatten().tolist())


@pytest.mark.parametrize(("size", "halvings"), [(256, 5), (64, 3), (48, 3), (32, 2), (36, 2), (16, 1), (8, 0), (4, 0)])
def test_images_of_any_size_keep_it(size: int, halvings: int) -> None:
    network = autoencoder.Autoencoder(size, width=4, latent=5)
    assert len(network.down) == len(network.up) == halvings
    with torch.inference_mode():
        assert network(images(2, size)).shape == (2, 3, size, size)


def test_the_widths_double_every_two_convolutions() -> None:
    network = autoencoder.Autoencoder(256, width=32, latent=100)
    assert [layer.out_channels for layer in network.down] == [32, 32, 64, 64, 128]
    assert [layer.out_channels for layer in network.up] == [64, 64, 32, 32, 3]
    assert (network.squeeze.out_channels, network.squeeze.kernel_size) == (100, (8, 8))


def test_the_map_of_the_autoencoder_is_what_each_patch_misses() -> None:
    original = images(5, 32)
    features = autoencoder.patched(original, 8).numpy().astype(np.float16)
    fitted = fit(autoencoder, features, train={"epochs": 2})
    network = autoencoder.Autoencoder(32, width=8, latent=8)
    network.load_state_dict(fitted.state)
    given = autoencoder.unpatched(torch.from_numpy(features).float())
    with torch.inference_mode():
        squares = (given - network(given)).double().square().sum(1).numpy()
    expected = np.sqrt(squares.reshape(5, 8, 4, 8, 4).sum((2, 4)))
    np.testing.assert_allclose(maps(autoencoder, fitted, features), expected, rtol=1e-4)
    assert fitted.parameters == sum(value.numel() for value in fitted.state.values())


def test_the_autoencoder_learns_and_finds_a_foreign_patch() -> None:
    original = images(8, 32)
    tokens = autoencoder.patched(original, 8).numpy().astype(np.float16)
    fitted = fit(autoencoder, tokens, train={"epochs": 60, "lr": 0.003})
    losses = [row["loss"] for row in fitted.history]
    assert losses[-1] < 0.3 * losses[0]
    spoiled = tokens.copy()
    spoiled[0, 11] = -spoiled[0, 11] + 3
    assert maps(autoencoder, fitted, spoiled)[0].argmax() == 11


def test_the_loss_of_the_autoencoder_is_the_mean_squared_difference() -> None:
    tokens = autoencoder.patched(images(5, 32), 8).numpy().astype(np.float16)
    still: Changes = {"train": {"epochs": 1, "lr": 1e-30}}
    fitted = fit(autoencoder, tokens, **still)
    found = maps(autoencoder, fitted, tokens, **still)
    assert fitted.history[0]["loss"] == pytest.approx((found**2).mean() / 48, rel=1e-4)


def test_the_autoencoder_refuses_what_is_no_patch() -> None:
    with pytest.raises(UserError, match=r"tokens of 6 channels are no patches of pixels: set features\.backbone"):
        fit(autoencoder, np.zeros((2, 16, 6), np.float16))
