"""Feature extraction: the library's model as it is, against this project's (folded, channels_last, a batch a thread).

All sides read the same images from memory, on all cores; they take turns, and ratios are of medians. The library's is
in float32, ours in float32 and in bfloat16.
    python bench/extraction.py --backbone efficientnet_b4 --images 64
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import plain
import torch
from measure import Work, machine, paper, product_rate, seconds
from torch.utils.flop_counter import FlopCounterMode

from adtr.config.schema import Features
from adtr.features.backbones import Backbone, build
from adtr.features.extract import batch_size, normalized, tokens_of


def ours(backbone: Backbone, images: np.ndarray, features: Features, pool: ThreadPoolExecutor) -> None:
    """As adtr.features.extract.extract does it, without the files."""
    torch.set_num_threads(1)
    each = batch_size(features.image_size)
    list(pool.map(lambda batch: tokens_of(batch, backbone, features, "cpu"), batches(images, each)))


def batches(images: np.ndarray, each: int) -> list[np.ndarray]:
    """So many images each, the last one perhaps fewer."""
    return [images[start : start + each] for start in range(0, len(images), each)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asked: dict[str, str | int] = {"backbone": options.backbone, "weights": "random", "image_size": options.size}
    ours_in = {name: paper(**asked, precision=name).features for name in ("float32", "bfloat16")}
    images = np.random.default_rng(0).integers(0, 256, (options.images, options.size, options.size, 3), np.uint8)
    network = plain.backbone(options.backbone, options.size)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def plainly() -> None:
            torch.set_num_threads(cores)
            for batch in batches(images, 8):
                plain.features_of(network, normalized(batch), ours_in["float32"])

        sides: dict[str, Work] = {"plain": plainly}
        for name, features in ours_in.items():
            sides[f"ours in {name}"] = partial(ours, build(features, None), images, features, pool)
        median = seconds(sides, options.rounds)
    speed = {name: options.images / taken for name, taken in median.items()}
    print(f"{machine()}, {options.backbone}, {options.size} px")
    for name, value in speed.items():
        print(f"{name:16} {value:6.1f} images/s, ratio {value / speed['plain']:.1f}")
    with FlopCounterMode(display=False) as counter:
        plain.features_of(network, normalized(images[:1]), ours_in["float32"])
    operations = counter.get_total_flops()
    print(f"{operations / 1e9:.1f} GFLOP an image; if they were one large product, {cores} times one core's rate:")
    for name in ours_in:
        print(f"{name:16} {cores * product_rate(getattr(torch, name)) / operations:6.1f} images/s")


if __name__ == "__main__":
    main()
