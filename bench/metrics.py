"""Pixel AUROC of a category: scikit-learn's, against ours with AUPRO besides; each in a process of its own, one core.

11 million pixels, one in a hundred anomalous, in blobs; scores are drawn, those of anomalous pixels higher.
    python bench/metrics.py
"""

import argparse
import multiprocessing
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from measure import machine

from adtr.evaluate import metrics

IMAGES, SIDE = 168, 256
Side = Callable[[np.ndarray, np.ndarray], object]


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps, (N, S, S)."""
    rng = np.random.default_rng(0)
    masks = np.zeros((IMAGES, SIDE, SIDE), bool)
    for mask in masks:
        y, x = rng.integers(0, SIDE - 26, 2)
        mask[y : y + 26, x : x + 26] = True
    return masks, (rng.standard_normal(masks.shape) + 2 * masks).astype(np.float32)


def plain(masks: np.ndarray, maps: np.ndarray) -> None:
    from sklearn.metrics import roc_auc_score

    roc_auc_score(masks.ravel(), maps.ravel())


def both(masks: np.ndarray, maps: np.ndarray) -> None:
    metrics.auroc(masks, maps)
    metrics.aupro(masks, maps)


def measured(side: Side, result: "multiprocessing.Queue[tuple[float, float]]") -> None:
    """Seconds, the fastest of three; then, traced, the MB that numpy and Python allocate at most."""
    masks, maps = drawn()
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        side(masks, maps)
        taken.append(time.perf_counter() - began)
    tracemalloc.start()
    side(masks, maps)
    result.put((min(taken), tracemalloc.get_traced_memory()[1] / 2**20))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{machine()}; {IMAGES * SIDE**2 / 1e6:.1f} million pixels")
    spawn = multiprocessing.get_context("spawn")
    sides: dict[str, Side] = {"scikit-learn, AUROC": plain, "ours, AUROC": metrics.auroc, "ours, AUROC and AUPRO": both}
    for name, side in sides.items():
        result = spawn.Queue()
        process = spawn.Process(target=measured, args=(side, result))
        process.start()
        seconds, memory = result.get()
        process.join()
        print(f"{name:24} {seconds:6.2f} s {memory:6.0f} MB")


if __name__ == "__main__":
    main()
