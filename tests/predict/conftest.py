"""Small runs with a calibration split, made as the stages make them: index, features, train, evaluate."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import planted
import pytest
from PIL import Image

from adtr.config.methods import Params
from adtr.config.schema import Dataset
from adtr.data.manifest import index
from adtr.data.synthetic import write_mvtec
from adtr.evaluate.stage import evaluate
from adtr.features.extract import extract
from adtr.train.context import Bank
from adtr.train.stage import train

FEATURES = {"backbone": "efficientnet_lite0", "weights": "random", "layers": [1, 3, 5], "image_size": 64}
FEATURES |= {"grid_size": 8, "precision": "float32"}
SMALL = {"train": {"epochs": 2, "warmup_steps": 0}, "spade": {"neighbours": 3}, "padim": {"channels": 20}}
Make = Callable[..., Path]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MVTec's layout: 30 normal training images of 96 px, and their copies at other sizes among the test images."""
    root = tmp_path_factory.mktemp("images")
    write_mvtec(root, ["carpet"], images=30, size=96, seed=0)
    for path in sorted((root / "carpet/test/good").glob("*"))[:2]:
        Image.open(path).resize((130, 70)).save(path)
    return root


def parameters(method: str, calibration: float = 0.5, **changes: Any) -> Params:
    other = {"backbone": "pixels"} if method == "autoencoder" else changes.get("features", {})
    threshold = {"threshold": {"calibration": calibration, "false_alarms": 0.1}}
    return planted.params(method, **(SMALL | threshold | changes | {"features": FEATURES | other}))


@pytest.fixture(scope="session")
def made(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a run, once: `made(method, calibration, section={…})` gives its folder."""
    folder, runs = tmp_path_factory.mktemp("runs"), dict[str, Path]()
    manifest = index(Dataset(title="Images", layout="mvtec", root=str(images), categories=["carpet"]), "carpet")

    def make(method: str, calibration: float = 0.5, seed: int = 0, **changes: Any) -> Path:
        key = f"{method}-{calibration}-{seed}-{changes}"
        if key in runs:
            return runs[key]
        params = parameters(method, calibration, **changes)
        store, bank, start = folder / params.features.backbone / "carpet.npy", None, None
        if not store.is_file():
            extract(manifest, images, params.features, None, store)
        if params.start:
            start = make(params.start, calibration, seed)
        run = folder / str(len(runs))  # once that of its start has its own
        if method == "adtr_plus":
            bank = banked(folder / "bank", manifest, images, params)
        stores = {"carpet": store}
        train(manifest, stores, params, seed, run / "run", run / "state", start=start, bank=bank)
        evaluate(run / "run", manifest, stores, images, params, {"study": "smoke", "dataset": "smoke_mvtec"})
        runs[key] = run / "run"
        return runs[key]

    return make


def banked(folder: Path, manifest: Any, root: Path, params: Params) -> Bank:
    """The confetti of the training images, and its features."""
    from adtr.data.confetti import write_bank

    bank = write_bank(manifest, root, params.features.image_size, params.confetti, folder)
    extract(bank, folder, params.features, None, folder / "bank.npy")
    return Bank(bank, folder, folder / "bank.npy")


@pytest.fixture
def alone(made: Make, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PaDiM's run and the test images, copied to a folder in which nothing else is; the current one."""
    shutil.copytree(made("padim"), tmp_path / "run")
    shutil.copytree(images / "carpet/test", tmp_path / "today")
    monkeypatch.chdir(tmp_path)
    return tmp_path
