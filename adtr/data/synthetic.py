"""Small generated images in the layouts of the real data sets, for the study `smoke`; no result rests on them.

Every image draws from its own generator, keyed by the seed and the image's path, so that no image depends on which
others are written, or when. H = W = `size`, in pixels; x and y run from -0.5 to 0.5 across an image.
"""

import colorsys
import pickle
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter

from adtr.config.schema import CLASSES
from adtr.errors import UserError

Array = np.ndarray

TEXTURE = "carpet"  # every other category is an object in grey levels, as MVTec-AD's screw
VISIBLE = 24  # grey levels: a smaller change of a pixel is undone and is not in the mask
MARK = ".generated"  # tells a folder of this module from somebody's data


class Scene(NamedTuple):
    """A picture without a defect."""

    clean: Array  # (H, W, 3) uint8
    backdrop: Array  # (H, W, 3) uint8: what a missing part uncovers
    foreground: Array  # (H, W) bool: where a defect may lie


def write_mvtec(root: Path, categories: list[str], images: int, size: int, seed: int) -> None:
    """Writes `categories` below `root` as MVTec-AD lays them out, in place of what was generated there before.

    A category has `images` normal training images, and for testing images // 2 (at least 4) normal ones and as many
    of each defect; a mask (mode L, 0 or 255) marks exactly the pixels in which its image departs from a normal one.

    Args:
        categories: TEXTURE, in colour (RGB); any other name is an object in grey levels (mode L).
        size: H = W, 32 pixels or more.

    Raises:
        UserError: `root` holds files that this module did not write.
    """
    tests = max(4, images // 2)
    with _whole_folder(root) as folder:
        for category in categories:
            defects = ["blob", "scratch"] if category == TEXTURE else ["blob", "missing", "scratch"]
            kinds = [("train/good", images), *((f"test/{kind}", tests) for kind in ["good", *defects])]
            for name in (f"{kind}/{i:03d}" for kind, count in kinds for i in range(count)):
                _write_mvtec_image(folder / category, name, size, seed)


def write_cifar10(root: Path, images: int, seed: int) -> None:
    """Writes root/cifar-10-batches-py: per class `images` over five training batches, images // 2 in the test batch.

    Raises:
        UserError: the folder holds files that this module did not write.
    """
    with _whole_folder(root / "cifar-10-batches-py") as folder:
        for k in range(1, 6):
            batch = _cifar_batch(CLASSES["cifar10"], "train", range(k - 1, images, 5), seed, b"labels")
            _dump(folder / f"data_batch_{k}", batch)
        batch = _cifar_batch(CLASSES["cifar10"], "test", range(images // 2), seed, b"labels")
        _dump(folder / "test_batch", batch)
        _dump(folder / "batches.meta", {b"label_names": [name.encode() for name in CLASSES["cifar10"]]})


def write_cifar100(root: Path, images: int, seed: int) -> None:
    """Writes root/cifar-100-python/{train,meta}: `images` per fine class; no coarse classes, no test images.

    Raises:
        UserError: the folder holds files that this module did not write.
    """
    with _whole_folder(root / "cifar-100-python") as folder:
        batch = _cifar_batch(CLASSES["cifar100"], "train", range(images), seed, b"fine_labels")
        _dump(folder / "train", batch)
        _dump(folder / "meta", {b"fine_label_names": [name.encode() for name in CLASSES["cifar100"]]})


def draw_scene(category: str, size: int, rng: np.random.Generator) -> Scene:
    """A new picture of `category`: its grain or pose, and its light, are drawn from `rng`."""
    x, y = _coordinates(size)
    slope, level = rng.uniform(-0.1, 0.1, 2), rng.uniform(0.96, 1.04)
    light = (level + slope[0] * x + slope[1] * y)[..., None]
    if category == TEXTURE:
        picture = _texture(x, y, rng)
        return Scene(_bytes(picture * light), np.zeros((size, size, 3), np.uint8), np.ones((size, size), bool))
    backdrop = 225 + rng.normal(0, 2, (size, size, 1)) + np.zeros(3)
    cover, colour = _bar(category, x, y, rng)
    picture = backdrop + cover[..., None] * (colour - backdrop)
    return Scene(_bytes(picture * light), _bytes(backdrop * light), cover > 0)


def damage(scene: Scene, defect: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """The scene with one defect, "blob", "missing" or "scratch": image (H, W, 3) uint8 and mask (H, W) bool.

    Outside the mask the image is `scene.clean`; inside, some channel differs by at least VISIBLE grey levels.
    """
    region = _region(scene, defect, rng)
    colour = scene.clean[region].mean(0)
    # Away from the colour found there, so that no defect fades into it.
    shift = np.where((colour if defect == "blob" else colour.mean()) < 128, 90.0, -90.0)
    painted = scene.backdrop if defect == "missing" else _bytes(scene.clean + shift)
    change = np.abs(painted.astype(int) - scene.clean).max(-1)
    mask = region & (change >= VISIBLE)
    return np.where(mask[..., None], painted, scene.clean), mask


def draw_cifar(k: int, rng: np.random.Generator) -> Array:
    """A picture of class k, (3, 32, 32) uint8: its hue, its stripes and its shape tell the class, all with noise."""
    x, y = _coordinates(32)
    # Steps by the golden ratio keep the hues and the angles of any number of classes apart.
    hue, angle, waves = 0.618 * k % 1 + rng.normal(0, 0.02), 0.382 * k % 1 * np.pi, 2 + 1.5 * (k % 3)
    u, _ = _turned(x, y, angle + rng.normal(0, 0.08))
    stripes = 1 + 0.35 * np.sin(2 * np.pi * (waves * u + rng.uniform()))
    picture = stripes * np.array(colorsys.hsv_to_rgb(hue % 1, 0.6, 0.55))[:, None, None]
    u, v = _turned(x, y, rng.normal(0, 0.15), rng.uniform(-0.1, 0.1, 2))
    shape = (np.hypot(u, v), np.maximum(abs(u), abs(v)), abs(u) + abs(v), np.maximum(abs(u), 3 * abs(v)))[k % 4] < 0.24
    other = np.array(colorsys.hsv_to_rgb((hue + 0.5) % 1, 0.5, 0.9))[:, None, None]
    return _bytes(255 * np.where(shape, other, picture) + rng.normal(0, 12, (3, 32, 32)))


def image_rng(seed: int, name: str) -> np.random.Generator:
    """The generator of the image `name`, such as carpet/test/blob/000, alone."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _write_mvtec_image(folder: Path, name: str, size: int, seed: int) -> None:
    """Writes folder/name.png and, where `name` is that of a defect, its mask."""
    split, kind, number = name.split("/")
    rng = image_rng(seed, f"{folder.name}/{name}")
    scene = draw_scene(folder.name, size, rng)
    image = scene.clean
    if kind != "good":
        image, mask = damage(scene, kind, rng)
        _save(mask * np.uint8(255), folder / "ground_truth" / kind / f"{number}_mask.png")
    # All three channels of an object are the same.
    _save(image if folder.name == TEXTURE else image[..., 0], folder / split / kind / f"{number}.png")


def _texture(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """(H, W, 3): a weave at a phase of its own plus band-limited grain, both per image."""
    noise = gaussian_filter(rng.standard_normal(x.shape), 0.006 * len(x), mode="wrap")
    phase = rng.uniform(0, 2 * np.pi, 2)
    threads = np.maximum(np.sin(2 * np.pi * 9 * x + phase[0]), np.sin(2 * np.pi * 9 * y + phase[1]))
    pattern = 0.5 * threads + 0.5 * noise / noise.std()
    return np.array([120, 118, 132]) * (1 + 0.14 * pattern[..., None])


def _bar(category: str, x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Cover (H, W) in 0 to 1, soft at the edge, and grey (H, W, 1), of a screw slightly turned and shifted."""
    u, v = _turned(x, y, rng.uniform(-0.25, 0.25), rng.uniform(-0.05, 0.05, 2))
    trait = image_rng(0, category).uniform(size=2)[1]  # the category's own, whatever the seed
    shaft = np.minimum(0.07 + 0.015 * np.sin(2 * np.pi * (8 + 10 * trait) * u) - abs(v), 0.36 - abs(u))
    inside = np.maximum(shaft, np.minimum(0.1 + 0.06 * trait - abs(v), 0.05 - abs(u + 0.32)))
    grey = 255 * 0.45 * (1.5 - 4 * abs(v))
    return np.clip(inside * len(x) + 0.5, 0, 1), grey[..., None] + rng.normal(0, 3, (*x.shape, 1))


def _region(scene: Scene, defect: str, rng: np.random.Generator) -> Array:
    """(H, W) bool: a defect's outline around a random place of the foreground, and within it."""
    x, y = _coordinates(len(scene.clean))
    inner = binary_erosion(scene.foreground, iterations=1 + len(x) // 40) & (np.maximum(abs(x), abs(y)) < 0.38)
    place = rng.choice(np.flatnonzero(inner))
    u, v = _turned(x, y, rng.uniform(0, 2 * np.pi), (x.flat[place], y.flat[place]))
    if defect == "scratch":
        bend = rng.uniform(-1.5, 1.5) * u**2
        outline = (abs(v - bend) < max(0.012, 1 / len(x))) & (abs(u) < rng.uniform(0.12, 0.2))
    else:
        lobes = 1 + 0.25 * np.sin(3 * np.arctan2(v, u))
        outline = np.hypot(u, v) < lobes * (rng.uniform(0.06, 0.1) if defect == "blob" else 0.15)
    return outline & scene.foreground


def _cifar_batch(classes: list[str], split: str, numbers: range, seed: int, key: bytes) -> dict[bytes, object]:
    """The images `numbers` of every class, mixed: data (n, 3072) uint8, all of red, then green, then blue; labels."""
    pairs = [(k, i) for k in range(len(classes)) for i in numbers]
    order = image_rng(seed, f"{split}/{numbers}").permutation(len(pairs))
    pairs = [pairs[j] for j in order]
    names = [f"{classes[k]}_{split}_{i:06d}.png" for k, i in pairs]
    pixels = [draw_cifar(k, image_rng(seed, name)) for (k, _), name in zip(pairs, names, strict=True)]
    data = np.array(pixels, np.uint8).reshape(-1, 3072)
    return {key: [k for k, _ in pairs], b"data": data, b"filenames": [name.encode() for name in names]}


def _coordinates(size: int) -> tuple[Array, Array]:
    line = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(line, line)
    return x, y


def _turned(x: Array, y: Array, angle: float, centre: Array | tuple[float, float] = (0.0, 0.0)) -> tuple[Array, Array]:
    """Coordinates along and across the direction `angle` (radians), from `centre`."""
    x, y = x - centre[0], y - centre[1]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _bytes(picture: Array) -> Array:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _save(pixels: Array, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _dump(path: Path, batch: dict[bytes, object]) -> None:
    # Protocol 2 and keys of bytes: what `pickle.load(..., encoding="bytes")` finds in the publisher's files.
    path.write_bytes(pickle.dumps(batch, protocol=2))


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `folder` once the block has ended well: a kill leaves no half."""
    folder = folder.resolve()  # the folder itself is replaced, never a link to it
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UserError(f"{folder} holds files that were not generated here: name another folder, or remove it")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    (aside / "new").mkdir(parents=True)
    try:
        yield aside / "new"
        (aside / "new" / MARK).touch()
        if folder.exists():
            folder.rename(aside / "old")
        (aside / "new").rename(folder)
    finally:
        shutil.rmtree(aside)
