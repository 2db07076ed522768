"""From a file, or a row of a CIFAR batch, to pixels.

An image is named by a reference relative to its data set's root: 'test/scratch/000.png', or 'test_batch:17' for row 17
of a CIFAR batch. Shapes: S side of the square input, px.
"""

import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from adtr.errors import UserError

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
ROW = re.compile(r"(?P<batch>.+):(?P<number>\d+)")  # a file's name may hold a colon, but ends in its suffix
EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
SIXTEEN_BIT = re.compile(r";16[BLNS]")  # in Pillow's name of how a file holds its pixels; it would keep the upper byte
SEVERAL = "//"  # between the references of several masks of an image, and between their digests: no path holds it
LARGEST = 1 << 30  # px of an image: 3 GB as RGB
Image.MAX_IMAGE_PIXELS = None  # `decode` has a limit of its own: line-scan cameras exceed Pillow's


def raw_bytes(root: Path, reference: str) -> bytes:
    """What the sha256 of an image is taken of: the file, or the 3,072 bytes of a CIFAR row.

    Raises:
        UserError: it is not a file (a pipe would block), or the batch has no such row.
    """
    row = ROW.fullmatch(reference)
    if row:
        data = cifar_batch(root / row["batch"])[b"data"]
        if int(row["number"]) >= len(data):
            raise UserError(f"{root / reference}: the batch has {len(data)} images: remove its manifest and run again")
        return data[int(row["number"])].tobytes()
    if not (root / reference).is_file():
        raise UserError(f"{root / reference}: no such file, or a broken link, a pipe or a folder")
    return (root / reference).read_bytes()


def decode(raw: bytes, reference: str) -> Image.Image:
    """The image that `raw_bytes` gave, decoded whole and turned upright as its EXIF orientation says.

    Of several pages or frames it is the first; their number is in `info["pages"]`.

    Raises:
        UserError: truncated, not an image, too large, or not of eight bits a channel.
    """
    if ROW.fullmatch(reference):
        planes = np.frombuffer(raw, np.uint8).reshape(3, 32, 32)
        return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    return decode_file(raw, reference)


def decode_file(raw: bytes, name: str) -> Image.Image:
    """The image in the bytes of a file, decoded whole; errors as `decode`, which name it."""
    try:
        image = Image.open(io.BytesIO(raw))
        layout = " ".join(str(tile.args) for tile in image.tile)
        fits = image.width * image.height <= LARGEST
        # A phone's JPEG of several pictures (MPO) begins with the photograph
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if fits:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # a broken image raises almost anything
        raise UserError(
            f"{name}: not readable as an image ({str(error).partition(' <')[0]}): replace or remove it"
        ) from None
    if not fits:
        raise UserError(f"{name}: {image.width}x{image.height} px are more than {LARGEST:,}: cut or shrink it")
    image.info["pages"] = pages
    return eight_bit(image, name, layout)


def eight_bit(image: Image.Image, name: str, layout: str = "") -> Image.Image:
    """The image; a UserError if it is not grey or RGB of eight bits a channel, by its mode or its file's layout."""
    deep = SIXTEEN_BIT.search(layout)
    if deep or image.mode[0] in "IF":
        mode = image.mode + (deep[0] if deep and ";" not in image.mode else "")
        raise UserError(f"{name}: mode {mode} is not of eight bits a channel: convert it")
    if image.mode not in EIGHT_BIT:
        raise UserError(f"{name}: mode {image.mode} is neither grey nor RGB: convert it to RGB")
    return image


def read_rgb(root: Path, reference: str, size: int | None = None, digest: str = "") -> np.ndarray:
    """An image as RGB (H, W, 3) uint8, resized to (size, size, 3) by Pillow's antialiased bilinear filter if asked.

    Raises:
        UserError: its sha256 is not `digest`, or it cannot be decoded.
    """
    return as_rgb(decode(_verified(root, reference, digest), reference), size)


def as_rgb(image: Image.Image, size: int | None = None) -> np.ndarray:
    """An image as RGB (H, W, 3) uint8, resized as `read_rgb` does."""
    image = image.convert("RGB")
    if size and image.size != (size, size):  # aspect ratio not kept, nothing cropped
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def marked(mask: Image.Image) -> np.ndarray:
    """(H, W) bool, true where red, green or blue is not zero and the pixel is not transparent."""
    marks = np.asarray(np.asarray(mask.convert("RGB")).any(axis=2))
    if mask.has_transparency_data:
        marks &= np.asarray(mask.convert("RGBA").getchannel("A")) > 0
    return marks


def read_mask(root: Path, reference: str, size: int | None = None, digest: str = "") -> np.ndarray:
    """A mask (H, W) bool, as `marked` reads it, or the union of SEVERAL; resized to (size, size) by nearest if asked.

    Raises:
        UserError: it is missing, its sha256 is not `digest`, or it cannot be decoded.
    """
    names = reference.split(SEVERAL)
    digests = digest.split(SEVERAL) if digest else [""] * len(names)
    masks = [_read_marks(root, name, each) for name, each in zip(names, digests, strict=True)]
    mask = Image.fromarray(np.logical_or.reduce(masks).astype(np.uint8))
    return np.asarray(mask.resize((size, size), Image.Resampling.NEAREST) if size else mask).astype(bool)


def _read_marks(root: Path, reference: str, digest: str) -> np.ndarray:
    if not (root / reference).is_file():
        raise UserError(f"{root / reference}: no such mask: is the data set's root right?")
    return marked(decode(_verified(root, reference, digest), reference))


def verified_masks(root: Path, images: pd.DataFrame, size: int) -> np.ndarray:
    """(N, S, S) bool: `read_mask` of each row of a manifest; where it names none, nothing is anomalous."""
    masks = np.zeros((len(images), size, size), bool)
    for i, (reference, digest) in enumerate(zip(images["mask"], images["mask_sha256"], strict=True)):
        if reference:
            masks[i] = read_mask(root, reference, size, digest)
    return masks


def _verified(root: Path, reference: str, digest: str) -> bytes:
    raw = raw_bytes(root, reference)
    if digest and hashlib.sha256(raw).hexdigest() != digest:
        raise UserError(f"{root / reference}: changed since it was indexed: remove its manifest and run again")
    return raw


def anomalous_tokens(mask: np.ndarray, grid: int) -> np.ndarray:
    """(S, S) bool to (G·G,) bool: a token is anomalous where any of its pixels is."""
    side = len(mask) // grid
    return mask.reshape(grid, side, grid, side).any(axis=(1, 3)).ravel()


class _CifarUnpickler(pickle.Unpickler):
    """Admits what a CIFAR batch holds, arrays and plain values, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        reconstruct = np.zeros(0).__reduce__()[0]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): lambda text, _encoding: text.encode("latin1"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"refuses {module}.{name}")
        return allowed[module, name]


@lru_cache(maxsize=8)
def cifar_batch(path: Path) -> Mapping[bytes, Any]:
    """A batch of the publishers' python archives: {b'data': (n, 3072) uint8, b'labels': [...], b'filenames': [...]}.

    Raises:
        UserError: the file is missing, holds anything but arrays and plain values, or arrays of another shape.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file: `adtr fetch` gets CIFAR's python archives")
    try:
        with path.open("rb") as file:
            content = _CifarUnpickler(file, encoding="bytes").load()
        meta = not {b"data", b"labels", b"fine_labels"} & {*content}
        whole = isinstance(content, dict) and (_holds_names if meta else _holds_images)(content)
    except Exception as error:  # a broken pickle raises almost anything
        raise UserError(f"{path}: not a CIFAR batch ({error})") from None
    if not whole:
        raise UserError(f"{path}: not a CIFAR batch (it holds no (n, 3072) uint8 images with n labels)")
    return content


def _holds_names(meta: Mapping[bytes, Any]) -> bool:
    names: Any = meta.get(b"label_names", meta.get(b"fine_label_names"))
    return isinstance(names, list) and all(isinstance(name, bytes) and name.decode() for name in names)


def _holds_images(batch: Mapping[bytes, Any]) -> bool:
    data: Any = batch.get(b"data")
    labels: Any = batch.get(b"labels", batch.get(b"fine_labels"))
    shaped = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3072,)
    return shaped and isinstance(labels, list) and len(labels) == len(data)
