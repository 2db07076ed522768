"""Feature extraction: the library's model as it is, against this project's (folded, channels_last, a batch a thread).

Both sides read the same images from memory, in float32, on all cores; they take turns, and the ratio is of medians.
    python bench/extraction.py --backbone efficientnet_b4 --images 64
"""

import argparse
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from adtr.backbones import Backbone, _network, build, pyramid
from adtr.config import Features
from adtr.features import _one_core, _tokens, batch_size


def plain(network: Any, images: np.ndarray, features: Features) -> None:
    """The library's own blocks in evaluation mode, PyTorch's threads, the same batches."""
    with torch.inference_mode():
        for batch in np.split(images, max(1, len(images) // batch_size(images.shape[1]))):
            x = torch.from_numpy(batch.transpose(0, 3, 1, 2)).float() / 255
            x, layers = network._swish(network._bn0(network._conv_stem(x))), []
            for block in network._blocks:
                following = block(x)
                if following.shape[-1] < x.shape[-1]:
                    layers.append(x)
                x = following
            pyramid([*layers, x], features.layers, features.grid_size)


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
    features = Features(
        backbone=options.backbone, weights="random", layers=(1, 2, 3, 4, 5), image_size=options.size, grid_size=16
    )
    images = np.random.default_rng(0).integers(0, 256, (options.images, options.size, options.size, 3), np.uint8)
    network = _network(options.backbone, options.size).eval()
    backbone = build(features, None).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cores = torch.get_num_threads()
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    with ThreadPoolExecutor(cores, initializer=_one_core) as pool:
        for _ in range(options.rounds + 1):
            for name in seconds:
                torch.set_num_threads(cores if name == "plain" else 1)
                began = time.perf_counter()
                plain(network, images, features) if name == "plain" else ours(backbone, images, features, pool)
                seconds[name].append(time.perf_counter() - began)
    speed = {name: options.images / statistics.median(values[1:]) for name, values in seconds.items()}
    print(f"{platform.processor() or platform.machine()}, {cores} cores, torch {torch.__version__}, {options.backbone}")
    ratio = speed["ours"] / speed["plain"]
    print(f"plain {speed['plain']:.1f} images/s, ours {speed['ours']:.1f} images/s, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
