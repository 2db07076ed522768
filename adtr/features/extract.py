"""The frozen backbone, run once over a part of a data set.

Shapes: B batch, N images, S input side in px, G side of the feature grid in tokens, C channels.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from tqdm import tqdm

from adtr import provenance
from adtr.config.schema import Features
from adtr.data.images import normalized, read_rgb
from adtr.errors import UserError
from adtr.features.backbones import Backbone, build, pyramid
from adtr.features.select import data_digest
from adtr.features.store import write_store
from adtr.files import sha256

LARGEST = {"cpu": (1 << 17, 32), "cuda": (1 << 21, 256)}  # batch: pixels and images; a processor's cache is soon full


def extract(
    manifest: pd.DataFrame,
    root: Path,
    features: Features,
    weights: Path | None,
    store: Path,
    device: str = "cpu",
    threads: int = 1,
) -> None:
    """Writes the store of a manifest's rows of one part; as many batches at once as there are `threads`.

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

    def batch(start: int) -> np.ndarray:
        images = [read_rgb(root, name, features.image_size, digest) for name, digest in rows[start : start + size]]
        return tokens_of(np.stack(images), backbone, features, device)

    info = {
        "features": features.model_dump(mode="json"),
        "data": data_digest(manifest),
        "weights": "none" if pixels else sha256(weights) if weights else "random",
        "device": provenance.device_name(device),
        **provenance.record("features", backbone=features.backbone),
    }
    # A thread a batch, each on one core: the bytes do not depend on how many there are
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        batches = _in_order(pool, batch, starts, 2 * threads)
        write_store(store, tqdm(batches, total=len(starts), unit="batch", disable=None), info)


def batch_size(image_size: int, device: str = "cpu") -> int:
    """How many images of a size go through the backbone at once."""
    pixels, images = LARGEST[device.partition(":")[0]]
    return min(images, max(1, pixels // image_size**2))


def tokens_of(images: np.ndarray, backbone: Backbone | None, features: Features, device: str) -> np.ndarray:
    """(B, S, S, 3) uint8 to (B, G·G, C) float16; without a backbone a token is a patch of the normalised image.

    On a CPU an image's tokens are the same to the bit whatever else is in the batch. EfficientNet-B0 to -B4, of whose
    float32 the last bits depend on that, are given one image at a time.
    """
    if len(images) > 1 and device == "cpu" and features.backbone.startswith("efficientnet_b"):
        return np.concatenate([tokens_of(image[None], backbone, features, device) for image in images])
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


def _in_order(pool: Executor, work: Callable[[int], np.ndarray], items: range, ahead: int) -> Iterator[np.ndarray]:
    """work(item) of each item, in order, no more than `ahead` of them begun before they are asked for."""
    waiting: deque[Future[np.ndarray]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
