"""Draws of resampled test images that a test makes up around the metrics of runs."""

import numpy as np
import pandas as pd

from adtr.evaluate.bootstrap import KEYS, Draws


def draws(metrics: pd.DataFrame, sd: float = 0.1, images: int = 101) -> Draws:
    """Independent ones of a standard deviation around each value, of so many images of each class."""
    noise = np.random.default_rng(0).normal(size=(len(metrics), 1000))
    values = pd.DataFrame(metrics.value.to_numpy()[:, None] + sd * noise, pd.MultiIndex.from_frame(metrics[KEYS]))
    names = pd.MultiIndex.from_frame(metrics[["dataset", "metric", "category"]].drop_duplicates())
    return Draws(values.sort_index(), pd.DataFrame({"normal": images, "anomalous": images}, names).sort_index())
