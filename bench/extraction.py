"""Feature extraction: the library's model as it is, against this project's (folded, channels_last, a batch a thread).

Both sides read the same images from memory, in float32, on all cores; they take turns, and the ratio is of medians.
    python bench/extraction.py --backbone efficientnet_b4 --images 64
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import plain
import torch
from measure import machine, paper, seconds

from adtr.backbones import Backbone, build
from adtr.config import Features
from adtr.features import _one_core, _tokens, batch_size
from adtr.images import normalized


def theirs(network: Backbone, images: np.ndarray, features: Features) -> None:
    """The library's own blocks in evaluation mode, PyTorch's threads, batches of 8."""
    for batch in np.split(images, len(images) // 8):
        plain.features_of(network, torch.from_numpy(normalized(batch)), features)


def ours(backbone: Backbone, images: np.ndarray, features: Features, pool: ThreadPoolExecutor) -> None:
    """As adtr.features.extract does it, without the files."""
    batches = np.split(images, max(1, len(images) // batch_size(images.shape[1])))
    list(pool.map(lambda batch: _tokens(batch, backbone, features, "cpu"), batches))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    features = paper(backbone=options.backbone, weights="random", image_size=options.size).features
    images = np.random.default_rng(0).integers(0, 256, (options.images, options.size, options.size, 3), np.uint8)
    network = plain.backbone(options.backbone, options.size)
    backbone = build(features, None).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores, initializer=_one_core) as pool:

        def plainly() -> None:
            torch.set_num_threads(cores)
            theirs(network, images, features)

        def here() -> None:
            torch.set_num_threads(1)
            ours(backbone, images, features, pool)

        median = seconds({"plain": plainly, "ours": here}, options.rounds)
    speed = {name: options.images / taken for name, taken in median.items()}
    print(f"{machine()}, {options.backbone}, {options.size} px, float32")
    ratio = speed["ours"] / speed["plain"]
    print(f"plain {speed['plain']:.1f} images/s, ours {speed['ours']:.1f} images/s, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
