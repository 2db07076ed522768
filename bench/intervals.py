"""How often the 95 % intervals hold the truth: simulated image scores, by `python bench/intervals.py [SIMULATIONS]`.

Scores are binormal: normal images N(0, 1), anomalous ones N(d, 1), so that the true AUROC is Phi(d / sqrt 2). A gap is
that of two experiments whose scores of an image have the correlation given. The draws are those of the program.
"""

import sys
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from adtr.evaluate import bootstrap

SIZES = [(10, 10), (20, 20), (20, 63), (41, 119), (1000, 1000)]  # normal and anomalous; of bottle, screw, CIFAR-10
SINGLE = [0.75, 0.9, 0.98]  # true AUROCs
GAPS = [(0.75, 0.75, 0.5), (0.8, 0.75, 0.8), (0.95, 0.9, 0.8), (0.95, 0.98, 0.5), (0.98, 0.98, 0.5), (0.98, 0.98, 0.9)]
GAPS += [(0.995, 0.995, 0.5)]  # of few images one is often separated wholly


def samples(
    images: tuple[int, int], aurocs: tuple[float, ...], correlation: float, count: int, seed: int = 1
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Scores of normal and of anomalous images, `count` times, of an experiment for each true AUROC."""
    rng = np.random.default_rng(seed)
    own, shared = np.sqrt(1 - correlation), np.sqrt(correlation)
    for _ in range(count):
        common = [shared * rng.normal(size=n) for n in images]
        noisy = ([own * rng.normal(size=len(part)) + part for part in common] for _ in aurocs)
        yield [(n, a + np.sqrt(2) * stats.norm.ppf(auroc)) for (n, a), auroc in zip(noisy, aurocs, strict=True)]


def resampled(images: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The program's weights (Q, D) and (P, D) of a category of so many normal and anomalous images."""
    label = np.repeat([0, 1], images)
    weights = bootstrap.weights(pd.DataFrame({"category": "c", "image": range(len(label)), "label": label})).to_numpy()
    return weights[label == 0], weights[label == 1]


def measured(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """The AUROC in per cent."""
    return 100 * float(np.searchsorted(np.sort(normal), anomalous).mean() / len(normal))


def coverage(
    images: tuple[int, int], aurocs: tuple[float, ...], correlation: float, count: int
) -> tuple[float, float, float]:
    """The shares of intervals that hold the true AUROC, or gap of two, that lie above it, and that leave out 0."""
    weights, held, above, resolved = resampled(images), 0, 0, 0
    truth = 100 * (aurocs[0] - sum(aurocs[1:]))
    for experiments in samples(images, aurocs, correlation, count):
        values = [measured(*scores) for scores in experiments]
        draws = [100 * bootstrap.auroc(*scores, *weights) for scores in experiments]
        freedom = min(images) - 1
        if len(aurocs) == 1:
            low, high = bootstrap.interval(values[0], draws[0], freedom)
        else:
            low, high = bootstrap.difference((values[0], values[1]), (draws[0], draws[1]), freedom)
        held, above, resolved = held + (low <= truth <= high), above + (low > truth), resolved + (low > 0 or high < 0)
    return held / count, above / count, resolved / count


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{count} simulations, {bootstrap.DRAWS} draws each")
    for images in SIZES:
        for aurocs, correlation in [*(((a,), 0.0) for a in SINGLE), *(((a, b), r) for a, b, r in GAPS)]:
            start = time.perf_counter()
            held, above, resolved = coverage(images, aurocs, correlation, count)
            name = f"AUROC {aurocs[0]}" if len(aurocs) == 1 else f"gap {aurocs[0]} - {aurocs[1]}, r = {correlation}"
            seconds = time.perf_counter() - start
            text = f"{images[0]} + {images[1]}, {name}: {held:.1%}, too high {above:.1%}"
            text += f", leave out 0 {resolved:.1%}" * (len(aurocs) > 1)
            print(f"{text}; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
