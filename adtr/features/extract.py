"""The frozen backbone, run once over a part of a data set.

Shapes: B batch, N images, S input side in px, G side of the feature grid in tokens, C channels.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from adtr import provenance
from adtr.config.schema import Features
from adtr.data.images import IMAGENET_MEAN, IMAGENET_STD, read_rgb
from adtr.errors import UserError
from adtr.features.backbones import Backbone, build, pyramid
from adtr.features.select import data_digest
from adtr.features.store import write_store
from adtr.files import sha256

LARGEST = {"cpu": (1 << 17, 32), "cuda": (1 << 21, 256)}  # batch: pixels and images; a processor's cache is soon full
MEAN, STD = torch.from_numpy(IMAGENET_MEAN), torch.from_numpy(IMAGENET_STD)
Item = TypeVar("Item")
Made = TypeVar("Made")


def extract(
    manifest: pd.DataFrame,
    root: Path,
    features: Features,
    weights: Path | None,
    store: Path,
    device: str = "cpu",
    threads: int = 1,
) -> None:
    """Writes the store of a manifest's rows of one part.

    On a CPU each of the `threads` takes batches from the file to the features; on a GPU they decode images ahead of it,
    two batches of them and some, and another thread waits for it.

    Args:
        weights: the backbone's checked weight file; None for random weights.

    Raises:
        UserError: no image, or one that changed since it was indexed; a feature overflows float16; the disk is full.
    """
    if manifest.empty:
        raise UserError(f"{store}: the manifest holds no images of this part")
    pixels = features.backbone == "pixels"
    backbone = None if pixels else build(features, weights).to(device)
    rows, size = list(zip(manifest.image, manifest.sha256, strict=True)), batch_size(features.image_size, device)
    starts = range(0, len(rows), size)

    def image(row: tuple[str, str]) -> np.ndarray:
        return read_rgb(root, row[0], features.image_size, row[1])

    def tokens(images: np.ndarray) -> np.ndarray:
        return tokens_of(images, backbone, features, device)

    def batch(start: int) -> np.ndarray:
        return tokens(np.stack([image(row) for row in rows[start : start + size]]))

    info = {
        "features": features.model_dump(mode="json"),
        "data": data_digest(manifest),
        "weights": "none" if pixels else sha256(weights) if weights else "random",
        "device": provenance.device_name(device),
        **provenance.record("features", backbone=features.backbone),
    }
    torch.set_num_threads(1)
    with (
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ThreadPoolExecutor(1) as gpu,
    ):
        if device == "cpu":  # a thread a batch, each on one core: the bytes do not depend on how many there are
            batches = _in_order(pool, batch, starts, 2 * threads)
        else:
            images = _in_order(pool, image, rows, 2 * size + threads)
            batches = _in_order(gpu, tokens, _batches(images, size), 1)
        write_store(store, tqdm(batches, total=len(starts), unit="batch", disable=None), info)


def batch_size(image_size: int, device: str = "cpu") -> int:
    """How many images of a size go through the backbone at once."""
    pixels, images = LARGEST[device.partition(":")[0]]
    return min(images, max(1, pixels // image_size**2))


def tokens_of(images: np.ndarray, backbone: Backbone | None, features: Features, device: str) -> np.ndarray:
    """(B, S, S, 3) uint8 to (B, G·G, C) float16; without a backbone a token is a patch of the normalised image.

    On one thread of a CPU an image's tokens are the same to the bit whatever else is in the batch.
    """
    with torch.inference_mode():
        batch = normalized(images, device)
        if backbone is None:
            grid = F.pixel_unshuffle(batch, features.image_size // features.grid_size)
        else:
            grid = pyramid(backbone(batch), features.layers, features.grid_size)
        half = grid.flatten(2).transpose(1, 2).to(torch.float16).cpu()
    if not torch.isfinite(half).all():
        raise UserError(f"{features.backbone}: a feature is beyond float16: are these the right weights?")
    return half.contiguous().numpy()


def normalized(images: np.ndarray, device: str = "cpu") -> Tensor:
    """(B, S, S, 3) uint8 to (B, 3, S, S) float32 with ImageNet's mean and standard deviation, channels last."""
    scaled = torch.from_numpy(images).to(device).float().div_(255)
    return scaled.sub_(MEAN.to(device)).div_(STD.to(device)).permute(0, 3, 1, 2)


def _batches(images: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    while batch := list(islice(images, size)):
        yield np.stack(batch)


def _in_order(pool: Executor, work: Callable[[Item], Made], items: Iterable[Item], ahead: int) -> Iterator[Made]:
    """work(item) of each item, in order, no more than `ahead` of them begun before they are asked for."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
