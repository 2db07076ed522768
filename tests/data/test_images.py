"""Pixels come out of files as they were put in, and nothing but pixels comes out of a pickle."""

import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adtr.data.images import anomalous_tokens, cifar_batch, decode, raw_bytes, read_mask, read_rgb, verified_masks
from adtr.errors import UserError
from adtr.files import sha256

RED_AND_GREY = np.array([[[255, 0, 0], [10, 10, 10], [0, 0, 0]], [[0, 255, 0], [0, 0, 255], [200, 200, 200]]], np.uint8)


def save(image: Image.Image | np.ndarray, path: Path) -> str:
    """Writes an image and gives the reference by which it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path)
    return path.name


def palette(indices: list[list[int]], colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(np.array(indices, np.uint8)).convert("P")
    image.putdata([value for row in indices for value in row])
    image.putpalette([channel for colour in colours for channel in colour])
    return image


GREY, BINARY = np.array([[0, 7], [128, 255]], np.uint8), np.array([[True, False], [False, True]])
COLOURS = [[[200, 10, 20], [0, 0, 9]], [[0, 0, 9], [200, 10, 20]]]
OPAQUE = np.concatenate([RED_AND_GREY, np.full((2, 3, 1), 3, np.uint8)], axis=2)
IMAGES: dict[str, Any] = {  # and what they become
    "RGB.png": (RED_AND_GREY, RED_AND_GREY),
    "RGBA.png": (OPAQUE, RED_AND_GREY),
    "P.png": (palette([[0, 1], [1, 0]], [(200, 10, 20), (0, 0, 9)]), COLOURS),
    "1.png": (Image.fromarray(BINARY), BINARY[..., None].repeat(3, axis=2) * 255),
} | {f"L.{suffix}": (GREY, GREY[..., None].repeat(3, axis=2)) for suffix in ("png", "bmp", "tiff")}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_any_mode_becomes_rgb(tmp_path: Path, name: str) -> None:
    image, expected = IMAGES[name]
    assert np.array_equal(read_rgb(tmp_path, save(image, tmp_path / name)), expected)


def test_resizing_gives_a_square_and_keeps_means(tmp_path: Path) -> None:
    """Antialiased: every second column white becomes grey, where picking pixels would give black or white."""
    stripes = np.zeros((40, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = read_rgb(tmp_path, save(stripes, tmp_path / "a.png"), size=8)
    assert small.shape == (8, 8, 3)
    assert np.abs(small.astype(int) - 127.5).max() < 10


def test_an_image_of_the_right_size_is_not_touched(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.array_equal(read_rgb(tmp_path, save(noise, tmp_path / "a.png"), size=8), noise)


# Masks


RED = (BINARY[..., None] * [9, 0, 0]).astype(np.uint8)
CUT = np.stack([np.full((2, 2), 255, np.uint8)] * 3 + [BINARY * np.uint8(255)], axis=2)
MASKS: dict[str, Image.Image] = {
    "1": Image.fromarray(BINARY),
    "L": Image.fromarray(BINARY * np.array([[1, 9], [9, 255]], np.uint8)),
    "RGB, one channel": Image.fromarray(RED),
    "RGBA, opaque": Image.fromarray(np.concatenate([RED, np.full((2, 2, 1), 255, np.uint8)], axis=2)),
    "LA, opaque": Image.merge("LA", [Image.fromarray(BINARY.astype(np.uint8)), Image.new("L", (2, 2), 255)]),
    "RGBA, transparent is normal": Image.fromarray(CUT),
    "LA, transparent is normal": Image.merge("LA", [Image.new("L", (2, 2), 255), Image.fromarray(CUT[..., 3])]),
    "P, black first": palette([[1, 0], [0, 1]], [(0, 0, 0), (255, 255, 255)]),
    "P, white first": palette([[0, 1], [1, 0]], [(255, 255, 255), (0, 0, 0)]),
}


@pytest.mark.parametrize("image", MASKS.values(), ids=MASKS.keys())
def test_a_mask_of_any_mode_marks_what_is_not_black(tmp_path: Path, image: Image.Image) -> None:
    mask = read_mask(tmp_path, save(image, tmp_path / "a.png"))
    assert (mask.dtype, mask.tolist()) == (bool, BINARY.tolist())


def test_masks_are_resized_by_nearest(tmp_path: Path) -> None:
    """A block of 2x2 pixels becomes one, and no pixel between anomalous and normal arises on the way up."""
    small = np.random.default_rng(0).random((6, 6)) < 0.5
    reference = save(np.kron(small, np.ones((2, 2))).astype(np.uint8), tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path, reference, size=6), small)
    large = read_mask(tmp_path, reference, size=24)
    assert large.dtype == bool
    assert np.array_equal(large, np.kron(small, np.ones((4, 4), bool)))


def test_a_shrunk_mask_takes_the_pixel_at_the_centre_and_does_not_average(tmp_path: Path) -> None:
    """One pixel in nine is anomalous: the one that a third of the size samples, or another."""
    centres, corners = np.zeros((2, 9, 9), np.uint8)
    centres[1::3, 1::3], corners[::3, ::3] = 1, 1
    assert read_mask(tmp_path, save(centres, tmp_path / "a.png"), size=3).all()
    assert not read_mask(tmp_path, save(corners, tmp_path / "b.png"), size=3).any()


def test_the_masks_that_were_indexed_are_read_and_no_others(tmp_path: Path) -> None:
    name = save(np.kron([[0, 255], [0, 0]], np.ones((2, 2))).astype(np.uint8), tmp_path / "m.png")
    images = pd.DataFrame({"mask": [name, ""], "mask_sha256": [sha256(tmp_path / name), ""]})
    assert verified_masks(tmp_path, images, 2).tolist() == [[[False, True], [False, False]], [[False] * 2] * 2]
    save(GREY, tmp_path / "m.png")
    with pytest.raises(UserError, match=r"m\.png: changed since it was indexed"):
        verified_masks(tmp_path, images, 2)
    with pytest.raises(UserError, match=r"gone\.png: no such mask"):
        verified_masks(tmp_path, images.assign(mask="gone.png"), 2)


def test_a_token_is_anomalous_where_any_of_its_pixels_is() -> None:
    mask = np.zeros((6, 6), bool)
    mask[1, 2] = mask[5, 0] = True  # of 3x3 tokens of 2x2 px: the first row's second, the last row's first
    assert anomalous_tokens(mask, 3).tolist() == [False, True, False, False, False, False, True, False, False]
    assert anomalous_tokens(mask, 6).tolist() == mask.ravel().tolist()
    assert anomalous_tokens(mask, 1).tolist() == [True]


# Files that are not images


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("share", [0, 0.01, 0.05, 0.5, 0.9])
def test_a_truncated_image_is_refused_by_name(share: float) -> None:
    raw = png()
    assert decode(raw, "test/hole/003.png").size == (16, 16)
    with pytest.raises(UserError, match=r"^test/hole/003\.png: not readable as an image"):
        decode(raw[: int(share * len(raw))], "test/hole/003.png")


def test_text_is_no_image() -> None:
    with pytest.raises(UserError, match=r"not readable as an image \(cannot identify image file\)"):
        decode(b"version https://git-lfs.github.com/spec/v1\n", "000.png")


def test_an_image_of_a_turned_camera_is_read_upright(tmp_path: Path) -> None:
    """Orientation 6: stored a quarter turn to the left of how it is looked at. The mask was drawn upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "tiff", "webp"):
        stored = Image.fromarray(RED_AND_GREY).transpose(Image.Transpose.ROTATE_90)
        stored.save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
        assert np.array_equal(read_rgb(tmp_path, f"a.{suffix}"), RED_AND_GREY)
    Image.fromarray(RED_AND_GREY[..., 0]).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "m.png", exif=exif)
    assert np.array_equal(read_mask(tmp_path, "m.png"), RED_AND_GREY[..., 0] > 0)


def test_an_image_larger_than_pillow_admits_is_read(tmp_path: Path) -> None:
    """179 million pixels are Pillow's limit; line-scan cameras have more."""
    reference = save(Image.new("1", (20000, 10000), 1), tmp_path / "a.png")
    assert read_rgb(tmp_path, reference, size=4).tolist() == [[[255] * 3] * 4] * 4


def test_an_image_without_end_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    reference = save(GREY, tmp_path / "a.png")
    raw = bytearray((tmp_path / reference).read_bytes())
    raw[16:29] = struct.pack(">IIBBBBB", 1 << 18, 1 << 18, 8, 0, 0, 0, 0)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    with pytest.raises(UserError, match=r"^a\.png: 262144x262144 px are more than 1,073,741,824: cut or shrink it"):
        decode(bytes(raw), "a.png")


def png_of_16_bits(pixels: np.ndarray, colour: int) -> bytes:
    """A PNG of (H, W, C) uint16; of colour type 2 RGB, 4 grey with alpha, 6 RGBA."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_are_refused(colour: int, channels: int) -> None:
    """Pillow would keep the upper byte, of a camera's twelve bits the upper four."""
    raw = png_of_16_bits(np.full((3, 4, channels), 4095, np.uint16), colour)
    with pytest.raises(UserError, match=r"^a\.png: mode (RGB|LA|RGBA);16B is not of eight bits a channel: convert it"):
        decode(raw, "a.png")


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("LAB", "tiff"), ("YCbCr", "tiff")])
def test_other_colours_than_rgb_are_refused_with_the_true_reason(tmp_path: Path, mode: str, suffix: str) -> None:
    reference = save(Image.new(mode, (4, 4)), tmp_path / f"a.{suffix}")
    with pytest.raises(UserError, match=rf"^a\.{suffix}: mode {mode} is neither grey nor RGB: convert it to RGB"):
        read_rgb(tmp_path, reference)


@pytest.mark.parametrize("kind", ["pipe", "folder", "broken link", "loop", "nothing"])
def test_what_is_not_a_file_is_refused_and_does_not_block(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "009.png"
    make = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "broken link": lambda: path.symlink_to("gone.png"),
        "loop": lambda: path.symlink_to("009.png"),
    }
    make.get(kind, lambda: None)()
    with pytest.raises(UserError, match=r"/009\.png: no such file, or a broken link, a pipe or a folder"):
        read_rgb(tmp_path, path.name)
    with pytest.raises(UserError, match=r"/009\.png: no such mask"):
        read_mask(tmp_path, path.name)
    with pytest.raises(UserError, match=r"/009\.png: no such file"):
        cifar_batch(path)


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I", "tiff"), ("F", "tiff")])
def test_more_than_eight_bits_are_refused(tmp_path: Path, mode: str, suffix: str) -> None:
    """Pillow's conversion to RGB would clip them at 255."""
    reference = save(Image.new(mode, (4, 4)), tmp_path / f"a.{suffix}")
    with pytest.raises(UserError, match=f"^a.{suffix}: mode {mode} is not of eight bits"):
        read_rgb(tmp_path, reference)


def test_a_file_name_may_hold_a_colon(tmp_path: Path) -> None:
    reference = save(RED_AND_GREY, tmp_path / "2026-11-21T12:30:00.png")
    assert np.array_equal(read_rgb(tmp_path, reference), RED_AND_GREY)


# CIFAR


PurePickler: Any = vars(pickle)["_Pickler"]


class Python2Pickler(PurePickler):
    """Pickles str and bytes as Python 2's str, as the publisher's files hold them."""

    dispatch = PurePickler.dispatch.copy()

    def save_string(self, value: str | bytes) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        head = b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))
        self.write(head + raw)
        self.memoize(value)

    def save_global(self, value: Any, _: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch |= {str: save_string, bytes: save_string, type(png): save_global, type(len): save_global}


def python2(content: object) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def python3(content: dict[str, Any]) -> bytes:
    return pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2)


BATCH: dict[str, Any] = {
    "batch_label": "training batch 1 of 5",
    "labels": [6, 9],
    "data": np.stack([np.arange(3072) % 251, np.arange(3072) // 1024 * 100]).astype(np.uint8),
}


@pytest.fixture(params=[python2, python3])
def batch_root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder that holds one batch, as Python 2 or 3 writes it."""
    write: Callable[[dict[str, Any]], bytes] = request.param
    (tmp_path / "data_batch_1").write_bytes(write(BATCH))
    return tmp_path


def test_a_batch_of_python_2_or_3_is_read(batch_root: Path) -> None:
    content = cifar_batch(batch_root / "data_batch_1")
    assert content[b"labels"] == [6, 9]
    assert content[b"data"].dtype == np.uint8
    assert np.array_equal(content[b"data"], BATCH["data"])


def test_a_row_is_a_red_a_green_and_a_blue_plane(batch_root: Path) -> None:
    assert (read_rgb(batch_root, "data_batch_1:1") == [0, 100, 200]).all()
    pixels = read_rgb(batch_root, "data_batch_1:0")
    y, x, channel = np.mgrid[:32, :32, :3]
    assert np.array_equal(pixels, (1024 * channel + 32 * y + x) % 251)


def test_the_bytes_of_a_row_are_those_of_the_batch(batch_root: Path) -> None:
    assert raw_bytes(batch_root, "data_batch_1:0") == bytes(i % 251 for i in range(3072))


class Payload:
    """What an attacker would put into a pickle: its loading runs a command."""

    def __init__(self, run: Callable, *arguments: str):
        self.call = run, arguments

    def __reduce__(self) -> tuple[Callable, tuple[str, ...]]:
        return self.call


@pytest.mark.parametrize("run", [os.system, eval, exec], ids=["os.system", "eval", "exec"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path, run: Callable) -> None:
    trace = tmp_path / "trace"
    command = f"touch {trace}" if run is os.system else f"open({str(trace)!r}, 'w')"
    batch = {b"labels": [0], b"data": Payload(run, command)}
    pickle.loads(pickle.dumps(batch))
    assert trace.exists(), "the payload works"
    trace.unlink()
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(UserError, match=r"data_batch_1: not a CIFAR batch \(refuses (posix|__builtin__|builtins)\."):
        cifar_batch(path)
    assert not trace.exists()


DAMAGED = {
    "empty": b"",
    "truncated": python2(BATCH)[:-100],
    "no pickle": b"<html>not found</html>",
    "no dictionary": python2([1, 2]),
    "other rows": python2(BATCH | {"data": np.zeros((2, 1024), np.uint8)}),
    "other type": python2(BATCH | {"data": np.zeros((2, 3072), np.float32)}),
    "no array": python2(BATCH | {"data": [0]}),
    "a label missing": python2(BATCH | {"labels": [0]}),
    "no labels": python2({key: value for key, value in BATCH.items() if key != "labels"}),
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_batch_is_refused_by_name(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "test_batch").write_bytes(raw)
    with pytest.raises(UserError, match=r"/test_batch: not a CIFAR batch \("):
        raw_bytes(tmp_path, "test_batch:0")


def test_a_row_beyond_the_batch_is_refused(batch_root: Path) -> None:
    with pytest.raises(UserError, match=r"/data_batch_1:2: the batch has 2 images"):
        raw_bytes(batch_root, "data_batch_1:2")


def test_a_missing_batch_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/test_batch: no such file: `adtr fetch`"):
        cifar_batch(tmp_path / "test_batch")
