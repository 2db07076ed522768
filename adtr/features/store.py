"""The feature store: two files, `<part>.npy` and `<part>.json`.

The first is float16 (N, G·G, C), rows in the manifest's order, memory-mapped by its readers; the second says what made
it. N images, G side of the feature grid in tokens, C channels.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from adtr.config.schema import Features, problems
from adtr.errors import UserError
from adtr.files import remove_partial, write_text, written_atomically

HEADER = 128  # bytes; numpy pads the header of any array of three dimensions to this


def data_digest(manifest: pd.DataFrame) -> str:
    """The sha256 of the images' sha256 in their order."""
    return hashlib.sha256("".join(manifest.sha256).encode()).hexdigest()


def write_store(store: Path, batches: Iterable[np.ndarray], info: Callable[[], dict[str, Any]]) -> None:
    """Writes both files; the .npy appears last.

    Args:
        batches: (B, G·G, C) float16, in order.
        info: what made them; called after the last batch.

    Raises:
        UserError: the disk is full.
    """
    remove_partial(store)
    with written_atomically(store) as temporary:
        shape = _append(temporary, batches)
        _write_header(temporary, shape)
        write_text(store.with_suffix(".json"), json.dumps({"shape": shape, **info()}, indent=1) + "\n")


def _append(path: Path, batches: Iterable[np.ndarray]) -> tuple[int, int, int]:
    """Writes each batch after the room for the header; returns the shape of the whole.

    Plain writes, as a full disk then raises an error, where a memory map would kill the process.
    """
    images, shape = 0, (0, 0)
    with path.open("wb") as file:
        file.write(bytes(HEADER))
        for batch in batches:
            file.write(batch.tobytes())
            images, shape = images + len(batch), batch.shape[1:]
    return (images, *shape)


def _write_header(path: Path, shape: tuple[int, int, int]) -> None:
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
        text = "; ".join(problems(error))
        raise UserError(f"{store}: made by another version ({text}): remove it and run `adtr features`") from None
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
    images = manifest[manifest.split.isin(list(splits))]
    pieces, places = [], []
    for part, rows in images.groupby("part", sort=False):
        if str(part) not in stores:
            raise UserError(f"no store of part {part} is given, only of {', '.join(stores)}: run `adtr features`")
        array, info = read_store(stores[str(part)])
        members = manifest[manifest.part == part]
        if info["data"] != data_digest(members):
            raise UserError(f"{stores[str(part)]}: made of other images than the manifest's: run `adtr features`")
        pieces.append((array, members.index.get_indexer(rows.index)))
        places.append(images.index.get_indexer(rows.index))
    features = np.empty((len(images), *pieces[0][0].shape[1:]), np.float16)
    for (array, rows), place in zip(pieces, places, strict=True):
        for source, target in zip(rows, place, strict=True):  # image by image: never twice in memory
            features[target] = array[source]
    return features, images.reset_index(drop=True)
