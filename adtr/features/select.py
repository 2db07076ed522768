"""Which rows of the feature stores belong to which images of a manifest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from adtr.errors import UserError
from adtr.features.store import read_store

TRAIN = ["train"]  # the splits that a method is fitted on
CALIBRATION = ["calibration"]  # normal images that set the threshold


def data_digest(manifest: pd.DataFrame) -> str:
    """The sha256 of the images' sha256 in their order."""
    return hashlib.sha256("".join(manifest.sha256).encode()).hexdigest()


def held_out(manifest: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """The manifest with `share` of its training images, drawn by `seed`, as split 'calibration': not trained on.

    Where it has images of that split already, none are drawn.

    Raises:
        UserError: no training image would be left.
    """
    if not share or manifest.split.isin(CALIBRATION).any():
        return manifest
    train = np.flatnonzero(manifest.split.isin(TRAIN))
    count = max(1, round(share * len(train)))
    if count >= len(train):
        raise UserError(f"threshold.calibration {share}: of {len(train)} training images none is left to train on")
    drawn = np.random.default_rng(seed).choice(train, count, replace=False)
    return manifest.assign(split=manifest.split.where(~manifest.index.isin(manifest.index[drawn]), CALIBRATION[0]))


def select(manifest: pd.DataFrame, stores: dict[str, Path], splits: Iterable[str]) -> tuple[np.ndarray, pd.DataFrame]:
    """The features (n, G·G, C) float16 and rows of some splits, in the manifest's order, from the store of each part.

    Raises:
        UserError: a store is missing or was not made of the manifest's images.
    """
    images = manifest[manifest.split.isin(list(splits))]
    features = np.empty((0, 0, 0), np.float16)
    if images.empty:
        features = np.empty((0, *read_store(stores[str(manifest.part.iloc[0])])[0].shape[1:]), np.float16)
    for part, rows in images.groupby("part", sort=False):
        array, info = read_store(stores[str(part)])
        members = manifest[manifest.part == part]
        if info["data"] != data_digest(members):
            raise UserError(f"{stores[str(part)]}: made of other images than the manifest's: run `adtr features`")
        if not features.size:
            features = np.empty((len(images), *array.shape[1:]), np.float16)
        places = zip(*(every.index.get_indexer(rows.index) for every in (images, members)), strict=True)
        for target, source in places:  # image by image: never twice in memory
            features[target] = array[source]
    return features, images.reset_index(drop=True)
