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
    """Writes batches (B, G·G, C) float16, and what made them, asked for after the last; the .npy appears last."""
    remove_partial(store)
    with written_atomically(store) as temporary:
        images, shape = 0, (0, 0)
        with temporary.open("wb") as file:  # plain writes: a full disk raises an error, under a memory map it kills
            file.write(bytes(HEADER))
            for batch in batches:
                file.write(batch.tobytes())
                images, shape = images + len(batch), batch.shape[1:]
            file.seek(0)
            header = {"descr": "<f2", "fortran_order": False, "shape": (images, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            assert file.tell() == HEADER
        write_text(store.with_suffix(".json"), json.dumps({"shape": (images, *shape), **info()}, indent=1) + "\n")


def read_store(store: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The memory-mapped features (N, G·G, C) float16 and what made them; a UserError if these are not whole."""
    try:
        info = json.loads(store.with_suffix(".json").read_text(encoding="utf-8"))
        array = np.load(store, mmap_mode="r")
        Features.model_validate(info["features"])
    except (OSError, ValueError) as error:
        reason = "; ".join(problems(error)) if isinstance(error, ValidationError) else error
        raise UserError(f"{store}: not readable as features ({reason}): remove it and run `adtr features`") from None
    if list(array.shape) != list(info["shape"]):
        raise UserError(f"{store}: its shape is {array.shape}, {store.stem}.json says {info['shape']}: remove it")
    return array, info


def select(manifest: pd.DataFrame, stores: dict[str, Path], splits: Iterable[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """The features (n, G·G, C) float16 and rows of some splits, in the manifest's order, from the store of each part.

    Raises:
        UserError: a store is missing or was not made of the manifest's images.
    """
    images = manifest[manifest.split.isin(list(splits))]
    features = np.empty(0, np.float16)
    for part, rows in images.groupby("part", sort=False):
        array, info = read_store(stores[str(part)])
        members = manifest[manifest.part == part]
        if info["data"] != data_digest(members):
            raise UserError(f"{stores[str(part)]}: made of other images than the manifest's: run `adtr features`")
        if not features.size:
            features = np.empty((len(images), *array.shape[1:]), np.float16)
        places = zip(*(every.index.get_indexer(rows.index) for every in (images, members)), strict=True)
        for target, source in places:  # image by image: never twice in memory
            features[target] = array[source]
    return features, images.reset_index(drop=True)
