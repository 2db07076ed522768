"""The feature store: two files, `<part>.npy` and `<part>.json`.

The first is float16 (N, G·G, C), rows in the manifest's order, memory-mapped by its readers; the second says what made
it, with the sha256 of each block of its bytes: of a large store a process checks some blocks, drawn anew each time, and
`adtr verify` checks all. N images, G side of the feature grid in tokens, C channels.
"""

import hashlib
import math
import random
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adtr import records
from adtr.errors import UserError
from adtr.files import written_atomically

HEADER = 128  # bytes; numpy pads the header of any array of three dimensions to this
BLOCK = 1 << 23  # bytes
CHECKED = 8  # blocks, at most


def write_store(store: Path, batches: Iterable[np.ndarray], info: dict[str, Any]) -> None:
    """Writes batches (B, G·G, C) float16, and what made them, with the seconds that it took; the .npy appears last."""
    began = time.monotonic()
    with written_atomically(store) as temporary:
        images, shape, content = 0, (0, 0), hashlib.sha256()
        with temporary.open("wb") as file:  # plain writes: a full disk raises an error, under a memory map it kills
            file.write(bytes(HEADER))
            for batch in batches:
                file.write(raw := batch.tobytes())
                content.update(raw)
                images, shape = images + len(batch), batch.shape[1:]
            file.seek(0)
            header = {"descr": "<f2", "fortran_order": False, "shape": (images, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            assert file.tell() == HEADER
        blocks = [_block(temporary, i) for i in range(-(-temporary.stat().st_size // BLOCK))]
        made = {"shape": (images, *shape), "content": content.hexdigest(), "blocks": blocks, **info}
        made["seconds"] = round(time.monotonic() - began, 2)
        records.write_only(store.with_suffix(".json"), made)


def read_store(store: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The memory-mapped features (N, G·G, C) float16 and what made them.

    Raises:
        UserError: the store is missing or damaged, as far as the blocks tell that are checked.
    """
    info = records.Record(store.with_suffix(".json")).values
    try:
        written, blocks = store.stat(), tuple(info.pop("blocks"))
        if written.st_size != HEADER + 2 * math.prod(info["shape"]):
            raise ValueError("its size is not the one that was written")
        _check(store, (written.st_mtime_ns, written.st_size), blocks)
        return np.load(store, mmap_mode="r").reshape(info["shape"]), info
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{store}: damaged or missing ({error}): {records.again(store)}") from None


def check_whole(store: Path) -> None:
    """Raises a UserError if any block of a store is not the one that was written."""
    blocks = records.Record(store.with_suffix(".json")).values.get("blocks", [])
    if not store.is_file() or [_block(store, i) for i in range(-(-store.stat().st_size // BLOCK))] != blocks:
        raise UserError(f"{store}: damaged or missing: {records.again(store)}")


@cache
def _check(store: Path, _version: tuple[int, int], blocks: tuple[str, ...]) -> None:
    """Compares CHECKED blocks, or all, once a process and a version of the file, which is its time and size."""
    drawn = random.SystemRandom().sample(range(len(blocks)), min(CHECKED, len(blocks)))
    if any(_block(store, i) != blocks[i] for i in drawn):
        raise ValueError("its bytes are not those that were written")


def _block(store: Path, number: int) -> str:
    with store.open("rb") as file:
        file.seek(number * BLOCK)
        return hashlib.sha256(file.read(BLOCK)).hexdigest()
