"""The feature store: the frozen backbone run once over a part of a data set.

A store is two files: `<part>.npy`, float16 (N, G·G, C), rows in the manifest's order, memory-mapped by its readers,
and `<part>.json` beside it, which says what made it. N images, G side of the feature grid, C channels.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from adtr import provenance
from adtr.config.schema import Features, problems
from adtr.data.images import normalized, verified_rgb
from adtr.errors import UserError
from adtr.features.backbones import Backbone, build, pyramid
from adtr.files import remove_partial, sha256, write_text, written_atomically

LARGEST = {"cpu": (1 << 17, 32), "cuda": (1 << 21, 256)}  # batch: pixels and images; a processor's cache is soon full


def extract(
    manifest: pd.DataFrame,
    root: Path,
    features: Features,
    weights: Path | None,
    store: Path,
    device: str = "cpu",
    threads: int = 1,
    progress: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Writes the store of the manifest's images.

    Args:
        manifest: the rows of one part.
        root: the data set's folder.
        weights: the backbone's checked weight file; None for random weights.
        store: the .npy to write; the .json is written first, the .npy last.
        threads: batches in work at once.
        progress: wraps the iteration over batches.

    Raises:
        UserError: there is no image, one has changed since it was indexed, a feature overflows float16, or the disk
            is full.
    """
    if manifest.empty:
        raise UserError(f"{store}: the manifest holds no images of this part")
    began = time.monotonic()
    backbone = None
    if features.backbone != "pixels":
        backbone = build(features, weights).to(device)
    rows, size = list(zip(manifest.image, manifest.sha256, strict=True)), batch_size(features.image_size, device)

    def batch(start: int) -> np.ndarray:
        images = [verified_rgb(root, *row, features.image_size) for row in rows[start : start + size]]
        return _tokens(np.stack(images), backbone, features, device)

    # A thread a batch, each on one core: the bytes do not depend on how many there are
    torch.set_num_threads(1)
    remove_partial(store)
    with written_atomically(store) as temporary, ThreadPoolExecutor(threads, initializer=_one_core) as pool:
        shape = _write(temporary, progress(_in_order(pool, batch, range(0, len(rows), size), 2 * threads)))
        _prepend_header(temporary, shape)
        info = {
            "shape": shape,
            "features": features.model_dump(mode="json"),
            "data": data_digest(manifest),
            "weights": _weights(features, weights),
            "device": provenance.device_name(device),
            "seconds": round(time.monotonic() - began, 2),
            **provenance.record("features.extract"),
        }
        write_text(store.with_suffix(".json"), json.dumps(info, indent=1) + "\n")


def batch_size(image_size: int, device: str = "cpu") -> int:
    """How many images of a size go through the backbone at once."""
    pixels, images = LARGEST[device.partition(":")[0]]
    return min(images, max(1, pixels // image_size**2))


def _weights(features: Features, weights: Path | None) -> str:
    if features.backbone == "pixels":
        return "none"
    return sha256(weights) if weights else "random"


def data_digest(manifest: pd.DataFrame) -> str:
    """The sha256 of the images' sha256 in their order."""
    return hashlib.sha256("".join(manifest.sha256).encode()).hexdigest()


def _tokens(images: np.ndarray, backbone: Backbone | None, features: Features, device: str) -> np.ndarray:
    """(B, S, S, 3) uint8 to (B, G·G, C) float16; without a backbone a token is a patch of the normalised image."""
    with torch.inference_mode():
        batch = torch.from_numpy(normalized(images)).to(device, memory_format=torch.channels_last)
        if backbone is None:
            grid = F.pixel_unshuffle(batch, features.image_size // features.grid_size)
        else:
            grid = pyramid(backbone(batch), features.layers, features.grid_size)
        half = grid.flatten(2).transpose(1, 2).to(torch.float16).cpu()
    if not torch.isfinite(half).all():
        raise UserError(f"{features.backbone}: a feature is beyond float16: are these the right weights?")
    return half.contiguous().numpy()


def _one_core() -> None:
    torch.set_num_threads(1)


def _in_order(
    pool: Executor, work: Callable[[int], np.ndarray], items: Iterable[int], ahead: int
) -> Iterator[np.ndarray]:
    """work(item) of each item, in order, no more than `ahead` of them begun before they are asked for."""
    waiting: deque[Future[np.ndarray]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


HEADER = 128  # bytes; numpy pads the header of any array of three dimensions to this


def _write(path: Path, batches: Iterable[np.ndarray]) -> tuple[int, int, int]:
    """Appends each batch behind the room for the header; gives the shape of the whole.

    Plain writes, as a full disk then raises an error, where a memory map would kill the process.
    """
    images, shape = 0, (0, 0)
    with path.open("wb") as file:
        file.write(bytes(HEADER))
        for batch in batches:
            file.write(batch.tobytes())
            images, shape = images + len(batch), batch.shape[1:]
    return (images, *shape)


def _prepend_header(path: Path, shape: tuple[int, int, int]) -> None:
    with path.open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        assert file.tell() == HEADER


def read_store(store: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The memory-mapped features (N, G·G, C) float16 and what made them.

    Raises:
        UserError: a file is missing or damaged.
    """
    try:
        info = json.loads(store.with_suffix(".json").read_text(encoding="utf-8"))
        array = np.load(store, mmap_mode="r")
        Features.model_validate(info["features"])
    except ValidationError as error:
        told = "; ".join(problems(error))
        raise UserError(f"{store}: made by another version ({told}): remove it and run `adtr features`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{store}: not readable as features ({error}): remove it and run `adtr features`") from None
    if list(array.shape) != list(info["shape"]):
        raise UserError(f"{store}: its shape is {array.shape}, {store.stem}.json says {info['shape']}: remove it")
    return array, info


def select(manifest: pd.DataFrame, stores: dict[str, Path], splits: Iterable[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """The features (n, G·G, C) float16 and manifest rows of some splits, in the manifest's order.

    Args:
        stores: the store of each part.

    Raises:
        UserError: a store is missing or was not made of the manifest's images.
    """
    chosen = manifest[manifest.split.isin(list(splits))]
    pieces, places = [], []
    for part, rows in chosen.groupby("part", sort=False):
        if str(part) not in stores:
            raise UserError(f"no store of part {part} is given, only of {', '.join(stores)}: run `adtr features`")
        array, info = read_store(stores[str(part)])
        members = manifest[manifest.part == part]
        if info["data"] != data_digest(members):
            raise UserError(f"{stores[str(part)]}: made of other images than the manifest's: run `adtr features`")
        pieces.append((array, members.index.get_indexer(rows.index)))
        places.append(chosen.index.get_indexer(rows.index))
    features = np.empty((len(chosen), *pieces[0][0].shape[1:]), np.float16)
    for (array, rows), place in zip(pieces, places, strict=True):
        for source, target in zip(rows, place, strict=True):  # image by image: never twice in memory
            features[target] = array[source]
    return features, chosen.reset_index(drop=True)
