"""Synthetic anomalies: confetti noise on normal images, and a bank of noisy copies with their masks.

After FCDD (Liznerski et al., ICLR 2021): `confetti_noise`, `smooth_noise` and the mode 'confetti' of its code. Both
layers darken: there, too, a coloured square holds its colour alone, and the fill value 255 beside it goes unused.
Departures: the number of squares is Poisson, not a coin per pixel; each square has its own colour (there, those of one
size share it); a rotated square is drawn as such (there, pixels are turned, a neighbour's with them); the noise is not
cut to whole numbers before it is added; and what clamps away is drawn again (there, its sign is turned).
Shapes: S side of the square image, px.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from adtr.config.schema import Confetti
from adtr.data.images import read_rgb
from adtr.data.manifest import COLUMNS
from adtr.errors import UserError
from adtr.files import sha256, written_atomically

COLOURED = (-256, 0)  # added to each channel, grey levels; the end is not drawn
SOLID = (-255, -254)
DRAWS = 100  # of noise, until some of it shows
BANKED = re.compile(r"\.?\d{5,}-\d+(_mask)?\.png")  # how a bank's files begin, left-overs of a killed one included


def confetti(size: int, rng: np.random.Generator, params: Confetti) -> np.ndarray:
    """(S, S, 3) float32 noise, to be added to an image in 0..255: coloured squares plus dark ones, blurred.

    The same generator gives the same picture at every size: lengths scale with it, the number of squares does not.
    """
    noise = np.zeros((size, size, 3), np.float32)
    for probability, values in ((params.coloured, COLOURED), (params.solid, SOLID)):
        count = _one_or_more(probability * params.reference**2, rng)
        noise += _squares(size, count, values, rng, params)
    scale = size / params.reference
    radius = round(params.blur // 2 * scale)
    return gaussian_filter(noise, (params.sigma * scale, params.sigma * scale, 0), radius=radius, mode="mirror")


def add(image: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The noisy image (S, S, 3) uint8, clamped, and the mask (S, S) bool of the pixels that changed in any channel."""
    noisy = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    return noisy, (noisy != image).any(axis=2)


def write_bank(manifest: pd.DataFrame, root: Path, size: int, params: Confetti, folder: Path) -> pd.DataFrame:
    """Writes noisy copies of a category's training images below `folder`, in place of those of an earlier bank.

    Args:
        manifest: the category's; its rows of split 'train' are copied in their order, `params.variants` times each.
        size: side of the copies, px.

    Returns:
        The bank's manifest, references relative to `folder`; its last column, source, is the image copied.

    Raises:
        UserError: an image changed since it was indexed, no noise shows on it, or the disk is full.
    """
    train = manifest[manifest.split == "train"]
    for path in (path for part in train.part.unique() for path in (folder / part).glob("*.png")):
        if BANKED.match(path.name):
            path.unlink()
    rows = []
    for i, row in enumerate(tqdm(train.itertuples(), total=len(train), unit="image", disable=None)):
        image = read_rgb(root, row.image, size, row.sha256)
        for v in range(params.variants):
            # Keyed by the image itself, so that no copy depends on which others there are
            rng = np.random.default_rng([params.seed, int(row.sha256, 16), v])
            noisy, mask = _noisy(image, rng, params, row.image)
            names = [f"{row.part}/{i:05}-{v}{end}.png" for end in ("", "_mask")]
            digests = [_write(folder / name, px) for name, px in zip(names, (noisy, mask * np.uint8(255)), strict=True)]
            rows.append((*names, 1, "train", "confetti", *digests, row.part, row.image))
    return pd.DataFrame(rows, columns=[*COLUMNS, "source"])


def _one_or_more(mean: float, rng: np.random.Generator) -> int:
    """A Poisson number of `mean`, given that it is not zero."""
    # Events at rate 1 until `mean`: the time of the first, given that there is one, and how many follow it
    first = -np.log1p(rng.random() * np.expm1(-mean))
    return 1 + int(rng.poisson(max(0.0, mean - first)))


def _squares(size: int, count: int, values: tuple[int, int], rng: np.random.Generator, params: Confetti) -> np.ndarray:
    """(S, S, 3) float32: rotated squares around random pixels, the larger over the smaller, cut at the border."""
    layer = np.zeros((size, size, 3), np.float32)
    y, x = np.mgrid[:size, :size]
    for side in np.sort(rng.integers(params.smallest, params.largest, count, endpoint=True)):
        row, column = np.floor(size * rng.random(2))
        angle = np.deg2rad(rng.uniform(-params.rotation, params.rotation))
        u = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        v = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        half = side * size / params.reference / 2
        layer[(u > -half) & (u <= half) & (v > -half) & (v <= half)] = rng.integers(*values, 3)
    return layer


def _noisy(
    image: np.ndarray, rng: np.random.Generator, params: Confetti, reference: str
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy copy (S, S, 3) uint8 and its mask (S, S) bool, which is not empty."""
    for _ in range(DRAWS):
        noisy, mask = add(image, confetti(len(image), rng, params))
        if mask.any():
            return noisy, mask
    raise UserError(f"{reference}: no confetti shows on it in {DRAWS} draws: is the image black?")


def _write(path: Path, pixels: np.ndarray) -> str:
    """Writes a PNG and gives the sha256 of its bytes."""
    with written_atomically(path) as temporary:
        Image.fromarray(pixels).save(temporary)
    return sha256(path)
