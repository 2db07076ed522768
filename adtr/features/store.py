"""The feature store: two files, `<part>.npy` and `<part>.json`.

The first is float16 (N, G·G, C), rows in the manifest's order, memory-mapped by its readers; the second says what made
it. N images, G side of the feature grid in tokens, C channels.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from adtr.config.schema import Features, problems
from adtr.errors import UserError
from adtr.files import remove_partial, write_text, written_atomically

HEADER = 128  # bytes; numpy pads the header of any array of three dimensions to this


def write_store(store: Path, batches: Iterable[np.ndarray], info: dict[str, Any]) -> None:
    """Writes batches (B, G·G, C) float16, and what made them, with the seconds that it took; the .npy appears last."""
    began = time.monotonic()
    remove_partial(store)
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
        made = {"shape": (images, *shape), "content": content.hexdigest(), **info}
        made["seconds"] = round(time.monotonic() - began, 2)
        write_text(store.with_suffix(".json"), json.dumps(made, indent=1) + "\n")


def read_store(store: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The memory-mapped features (N, G·G, C) float16 and what made them; a UserError if these are not whole."""
    try:
        info = json.loads(store.with_suffix(".json").read_text(encoding="utf-8"))
        array = np.load(store, mmap_mode="r")
        Features.model_validate(info["features"])
        shape, _ = info["shape"], info["content"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "; ".join(problems(error)) if isinstance(error, ValidationError) else error
        raise UserError(f"{store}: not readable as features ({reason}): remove it and run `adtr features`") from None
    if list(array.shape) != list(shape):
        raise UserError(f"{store}: its shape is {array.shape}, {store.stem}.json says {shape}: remove it")
    return array, info
