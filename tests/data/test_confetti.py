"""Confetti: squares in the number, the size and the colours of the recipe, and a bank whose masks tell the truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
from PIL import Image
from scipy.ndimage import label
from scipy.signal import convolve2d

from adtr.config.reader import read_yaml
from adtr.config.schema import Confetti, Dataset
from adtr.data.confetti import add, confetti, write_bank
from adtr.data.manifest import index, read_manifest, write_manifest
from adtr.errors import UserError
from adtr.files import sha256

DEFAULT = read_yaml(planted.REPOSITORY / "params/default.yaml")["confetti"]
ONE_EACH = {"coloured": 0, "solid": 0}  # the least that there can be
SHARP = {"blur": 1, "rotation": 0}


def params(**changes: Any) -> Confetti:
    return Confetti.model_validate(DEFAULT | changes)


def noise(size: int, seed: int, **changes: Any) -> np.ndarray:
    return confetti(size, np.random.default_rng(seed), params(**changes))


def layers(sharp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Noise without blur, taken apart: the coloured layer (S, S, 3), and where the dark one is (S, S)."""
    dark = np.asarray((sharp <= -255).all(axis=2))
    return sharp + 255 * dark[..., None], dark


def extent(region: np.ndarray) -> tuple[int, int]:
    """Height and width of the box around a region."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def inside(region: np.ndarray) -> bool:
    """The region is not cut by the image's border."""
    return not (region[[0, -1]].any() or region[:, [0, -1]].any())


# Noise


@pytest.mark.parametrize("side", [8, 9])
def test_the_least_is_one_coloured_and_one_dark_square(side: int) -> None:
    whole = 0
    for seed in range(60):
        colours, dark = layers(noise(60, seed, **ONE_EACH, **SHARP, smallest=side, largest=side, reference=60))
        coloured = np.asarray(colours.any(axis=2))
        assert len(np.unique(colours[coloured], axis=0)) == 1
        for region in (dark, coloured):
            height, width = extent(region)
            assert region.sum() == height * width, "one rectangle"
            assert (height, width) == (side, side) if inside(region) else max(height, width) <= side
            whole += inside(region)
    assert whole > 60


def test_a_colour_darkens_every_channel_by_a_value_of_its_own() -> None:
    drawn = [layers(noise(16, seed, **ONE_EACH, **SHARP))[0].reshape(-1, 3) for seed in range(300)]
    colours = np.array([layer[layer.any(axis=1)][0] for layer in drawn])
    assert set(np.unique(colours)) <= set(range(-256, 0))
    assert np.abs(colours.mean(axis=0) + 128.5).max() < 5 * 74 / np.sqrt(300)  # a uniform draw's deviation is 74
    assert np.abs(np.corrcoef(colours.T) - np.eye(3)).max() < 0.25


@pytest.mark.parametrize("size", [60, 120])
def test_the_number_of_squares_is_that_of_the_recipe_at_every_size(size: int) -> None:
    """Poisson, given one at least: mean / (1 - exp(-mean))."""
    few = params(coloured=1 / 60**2, solid=0.5 / 60**2, reference=60, smallest=1, largest=1, **SHARP)
    rng, draws, counts = np.random.default_rng(0), 1200, np.zeros(2)
    for _ in range(draws):
        colours, dark = layers(confetti(size, rng, few))
        counts += label(colours.any(axis=2))[1], label(dark)[1]
    assert counts / draws == pytest.approx([1 / (1 - np.exp(-1)), 0.5 / (1 - np.exp(-0.5))], abs=0.08)


def test_an_image_holds_about_three_squares() -> None:
    means = [params().coloured * params().reference ** 2, params().solid * params().reference ** 2]
    assert sum(mean / (1 - np.exp(-mean)) for mean in means) == pytest.approx(3, abs=0.02)


def test_sides_are_drawn_from_the_smallest_to_the_largest() -> None:
    drawn = [layers(noise(60, s, **ONE_EACH, **SHARP, smallest=3, largest=5, reference=60))[1] for s in range(60)]
    assert {extent(dark) for dark in drawn if inside(dark)} == {(3, 3), (4, 4), (5, 5)}


def test_squares_are_turned_and_keep_their_area() -> None:
    boxes = set()
    for seed in range(80):
        dark = layers(noise(240, seed, **ONE_EACH, blur=1, smallest=41, largest=41))[1]
        if inside(dark):
            assert dark.sum() == pytest.approx(41**2, rel=0.05)
            boxes.add(max(extent(dark)))
    assert min(boxes) < 47
    assert 54 < max(boxes) <= 41 * np.sqrt(2) + 2


def test_a_larger_square_covers_the_smaller_ones() -> None:
    """Among many squares one of side 32 covers 16 x 16 pixels, wherever its centre; sums would be far below -511."""
    everywhere = noise(16, 0, **SHARP, coloured=1, solid=1, reference=16, smallest=1, largest=32)
    assert (everywhere == everywhere[0, 0]).all()
    assert -511 <= everywhere.min() < -255


def test_the_blur_is_a_gaussian_kernel_cut_to_its_side() -> None:
    sharp, smooth = noise(240, 1, blur=1), noise(240, 1, blur=25)
    weights = np.exp(-(np.arange(-12, 13) ** 2) / (2 * 5**2))
    padded = np.pad(sharp[..., 1], 12, mode="reflect")
    expected = convolve2d(padded, np.outer(weights, weights) / weights.sum() ** 2, mode="valid")
    assert np.abs(smooth[..., 1] - expected).max() < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_lengths_scale_with_the_image(seed: int) -> None:
    """One generator gives one picture at both sizes."""
    small, large = noise(240, seed), noise(480, seed)
    shrunk = large.reshape(240, 2, 240, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 0.08 * np.abs(small).mean()


# Addition


def test_the_sum_is_rounded_and_clamped_and_the_mask_is_where_it_differs() -> None:
    image = np.array([[[250, 5, 100], [0, 0, 0]], [[7, 7, 7], [255, 9, 0]]], np.uint8)
    added = np.array([[[10, -10, -0.4], [-90, -300, 0]], [[0, 0, -0.6], [80, 0.3, -0.3]]], np.float32)
    noisy, mask = add(image, added)
    assert noisy.tolist() == [[[255, 0, 100], [0, 0, 0]], [[7, 7, 6], [255, 9, 0]]]
    assert (noisy.dtype, mask.dtype) == (np.uint8, bool)
    assert mask.tolist() == [[True, False], [True, False]]


# The bank


@pytest.fixture(scope="module")
def manifest(mvtec_root: Path) -> pd.DataFrame:
    fields = {"title": "Screws", "layout": "mvtec", "root": str(mvtec_root), "categories": ["screw"]}
    return index(Dataset.model_validate(fields), "screw")


def pixels(folder: Path, reference: str) -> np.ndarray:
    return np.asarray(Image.open(folder / reference))


def by_source(bank: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """Checksums of a copy and its mask, by source and variant."""
    return {(r.source, r.image.rpartition("-")[2]): (r.sha256, r.mask_sha256) for r in bank.itertuples()}


def test_a_bank_lists_the_variants_of_each_training_image_in_turn(
    manifest: pd.DataFrame, mvtec_root: Path, tmp_path: Path
) -> None:
    bank = write_bank(manifest, mvtec_root, 48, params(variants=2), tmp_path)
    assert list(bank.columns) == [*manifest.columns, "source"]
    assert bank.image.tolist() == [f"screw/{i:05}-{v}.png" for i in range(6) for v in range(2)]
    assert bank["mask"].tolist() == [f"screw/{i:05}-{v}_mask.png" for i in range(6) for v in range(2)]
    assert bank.source.tolist() == manifest.image[:6].repeat(2).tolist()
    assert set(bank[["label", "split", "defect", "part"]].itertuples(index=False, name=None)) == {
        (1, "train", "confetti", "screw")
    }
    for row in bank.itertuples():
        assert row.sha256 == sha256(tmp_path / str(row.image))
        assert row.mask_sha256 == sha256(tmp_path / str(row.mask))
    write_manifest(tmp_path / "screw.csv", bank)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "screw.csv"), bank)


def test_a_copy_departs_from_its_source_exactly_in_its_mask(
    manifest: pd.DataFrame, mvtec_root: Path, tmp_path: Path
) -> None:
    for row in write_bank(manifest, mvtec_root, 64, params(variants=3), tmp_path).itertuples():
        source = np.asarray(Image.open(mvtec_root / str(row.source)).convert("RGB"))
        noisy, mask = pixels(tmp_path, str(row.image)), pixels(tmp_path, str(row.mask))
        assert (noisy.shape, mask.shape, mask.dtype) == ((64, 64, 3), (64, 64), np.uint8)
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(mask == 255, (noisy != source).any(axis=2))


def test_a_copy_does_not_depend_on_the_others(manifest: pd.DataFrame, mvtec_root: Path, tmp_path: Path) -> None:
    large = by_source(write_bank(manifest, mvtec_root, 48, params(variants=3), tmp_path / "large"))
    small = by_source(write_bank(manifest[2:], mvtec_root, 48, params(variants=2), tmp_path / "small"))
    assert small == {(s, v): d for (s, v), d in large.items() if s in set(manifest.image[2:6]) and v != "2.png"}
    assert len(set(large.values())) == 18


def test_the_bytes_of_a_bank_follow_from_its_seed(manifest: pd.DataFrame, mvtec_root: Path, tmp_path: Path) -> None:
    banks = [
        write_bank(manifest, mvtec_root, 48, params(variants=1, seed=seed), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert banks[0].equals(banks[1])
    assert not set(banks[0].sha256) & set(banks[2].sha256)


def test_what_an_earlier_bank_left_is_removed_and_nothing_else(
    manifest: pd.DataFrame, mvtec_root: Path, tmp_path: Path
) -> None:
    write_bank(manifest, mvtec_root, 48, params(variants=3), tmp_path)
    others = ["screw/notes.txt", "screw/photo.png", "screw/train/00000-0.png", "carpet/00000-0.png"]
    for name in [*others, "screw/.00007-1_mask.png.0a1b2c3d.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    bank = write_bank(manifest, mvtec_root, 48, params(variants=1), tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {*bank.image, *bank["mask"], *others}


def test_a_source_that_changed_is_refused(manifest: pd.DataFrame, mvtec_root: Path, tmp_path: Path) -> None:
    changed = manifest.copy()
    changed.loc[1, "sha256"] = "0" * 64
    with pytest.raises(UserError, match=r"screw/train/good/001\.png: changed since it was indexed"):
        write_bank(changed, mvtec_root, 48, params(), tmp_path)


def painted(root: Path, image: np.ndarray) -> pd.DataFrame:
    """The manifest of one training image."""
    Image.fromarray(image).save(root / "cup.png")
    fixed = {"mask": "", "label": 0, "split": "train", "defect": "good", "mask_sha256": "", "part": "cup"}
    return pd.DataFrame([{"image": "cup.png", "sha256": sha256(root / "cup.png")} | fixed])


def test_noise_that_clamps_away_is_drawn_again(tmp_path: Path) -> None:
    """On black it shows in a bright corner alone, of which one draw in many has a part."""
    image = np.zeros((48, 48, 3), np.uint8)
    image[:4, :4] = 200
    bank = write_bank(painted(tmp_path, image), tmp_path, 48, params(variants=12), tmp_path / "bank")
    for name in bank["mask"]:
        mask = pixels(tmp_path / "bank", name) > 0
        assert mask.any()
        assert not mask[4:].any()


def test_an_image_on_which_nothing_can_show_is_refused(tmp_path: Path) -> None:
    black = painted(tmp_path, np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"^cup\.png: no confetti shows on it in 100 draws"):
        write_bank(black, tmp_path, 32, params(), tmp_path / "bank")
