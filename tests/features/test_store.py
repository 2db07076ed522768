"""The feature store: whole or refused, and its rows in the manifest's order."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adtr.config.schema import Dataset
from adtr.data.manifest import index
from adtr.errors import UserError
from adtr.features.select import data_digest, select
from adtr.features.store import check_whole, read_store, write_store

FEATURES = {"backbone": "efficientnet_lite0", "weights": "random", "layers": [1], "image_size": 64, "grid_size": 4}


def manifest_of(count: int, split: str = "train", part: str = "x") -> pd.DataFrame:
    rows = [(f"{i}.png", f"{part}{i:063}", split, part) for i in range(count)]
    return pd.DataFrame(rows, columns=["image", "sha256", "split", "part"])


def features_of(manifest: pd.DataFrame) -> np.ndarray:
    """(N, 16, 512) float16, those of an image its own whichever manifest names it."""
    seeds = [int(digest[-8:], 16) for digest in manifest.sha256]
    return np.stack([np.random.default_rng(seed).normal(size=(16, 512)) for seed in seeds]).astype(np.float16)


def write(store: Path, manifest: pd.DataFrame, batch: int = 3) -> np.ndarray:
    """Writes the store of all rows, a few at a time."""
    array = features_of(manifest)
    info: dict[str, Any] = {"features": FEATURES | {"precision": "float32"}, "data": data_digest(manifest)}
    write_store(store, (array[i : i + batch] for i in range(0, len(array), batch)), info)
    return array


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_store_is_an_npy_of_float16_and_what_made_it(tmp_path: Path, count: int) -> None:
    expected = write(tmp_path / "out/x.npy", manifest_of(count))
    array, info = read_store(tmp_path / "out/x.npy")
    assert isinstance(array, np.memmap)
    assert (array.shape, array.dtype) == ((count, 16, 512), np.float16)
    assert np.array_equal(array, expected)
    assert (info["shape"], info["data"]) == ([count, 16, 512], data_digest(manifest_of(count)))
    assert (tmp_path / "out/x.npy").stat().st_size == 128 + array.nbytes
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.json", "x.npy"]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no features": lambda store: store.unlink(),
    "no .json": lambda store: store.with_suffix(".json").unlink(),
    "half of the .json": lambda store: store.with_suffix(".json").write_text('{"shape": ['),
    "half of the features": lambda store: os.truncate(store, 20_000),
    "a byte more": lambda store: os.truncate(store, store.stat().st_size + 1),
    "no header": lambda store: store.write_bytes(bytes(128) + store.read_bytes()[128:]),
    "another version": lambda store: store.with_suffix(".json").write_text('{"shape": [2, 16, 512], "features": {}}'),
    "another shape": lambda store: np.save(store, np.zeros((1, 16, 512), np.float16)),
    "other values": lambda store: np.save(store, np.zeros((2, 16, 512), np.float16)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_store_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = tmp_path / "x.npy"
    write(store, manifest_of(2))
    damage(store)
    for read in (read_store, check_whole):
        with pytest.raises(UserError, match=r"/x\.(npy|json): .*makes it again"):
            read(store)


def test_a_flipped_bit_of_any_block_is_noticed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adtr.features.store.BLOCK", 1 << 12)
    monkeypatch.setattr("adtr.features.store.CHECKED", 2)
    store = tmp_path / "x.npy"
    write(store, manifest_of(3))
    damaged = bytearray(store.read_bytes())
    damaged[-5000] ^= 1
    store.write_bytes(damaged)
    with pytest.raises(UserError, match=r"x\.npy: damaged"):
        check_whole(store)
    noticed = 0
    for moment in range(500):  # a version of the file each, so that 2 other ones of 13 blocks are drawn
        os.utime(store, ns=(moment, moment))
        try:
            read_store(store)
        except UserError:
            noticed += 1
    assert 0 < noticed < 500


# Selecting


def test_the_features_of_a_split_follow_the_manifest(tmp_path: Path) -> None:
    manifest = manifest_of(9)
    manifest["split"] = ["train", "test", "test"] * 3
    array = write(tmp_path / "x.npy", manifest)
    for split in ("train", "test"):
        selected, rows = select(manifest, {"x": tmp_path / "x.npy"}, [split])
        assert rows.image.tolist() == manifest.image[manifest.split == split].tolist()
        assert rows.index.tolist() == list(range(len(rows)))
        assert np.array_equal(selected, array[(manifest.split == split).to_numpy()])


@pytest.mark.parametrize("category", ["cat", "dog"])
def test_cifar10s_test_features_serve_every_class(cifar10_root: Path, tmp_path: Path, category: str) -> None:
    """Row i of the store of part 'test' is test image i, whichever class is the normal one."""

    def indexed(category: str) -> pd.DataFrame:
        fields = {"title": "x", "layout": "cifar10", "root": str(cifar10_root), "categories": [category]}
        return index(Dataset.model_validate(fields), category)

    manifest, frog = indexed(category), indexed("frog")
    stores = {part: tmp_path / f"{part}.npy" for part in (f"train_{category}", "test")}
    write(stores["test"], frog[frog.part == "test"])
    write(stores[f"train_{category}"], manifest[manifest.part == f"train_{category}"])
    for splits, count in (
        (["train"], 10),
        (["test"], 10),
        (["rest"], 40),
        (["test", "rest"], 50),
        (["train", "test"], 20),
    ):
        selected, rows = select(manifest, stores, splits)
        assert len(selected) == len(rows) == count
        assert rows.image.tolist() == manifest.image[manifest.split.isin(splits)].tolist()
        assert np.array_equal(selected, features_of(rows))


def test_a_store_of_other_images_is_refused(tmp_path: Path) -> None:
    manifest = manifest_of(3)
    write(tmp_path / "x.npy", manifest)
    assert len(select(manifest, {"x": tmp_path / "x.npy"}, ["train"])[0]) == 3
    for other in (manifest.iloc[:2], manifest.iloc[::-1], manifest.assign(sha256=manifest.sha256[::-1].to_numpy())):
        with pytest.raises(UserError, match=r"/x\.npy: made of other images than the manifest's"):
            select(other, {"x": tmp_path / "x.npy"}, ["train"])
