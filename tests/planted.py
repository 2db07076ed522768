"""A small planted problem: features of normal images, and of test images of which four hold one anomalous token.

Shapes: N images, T = 16 tokens of a 4x4 grid, C = 12 channels.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from adtr.config.methods import Params
from adtr.config.reader import read_yaml
from adtr.data.manifest import read_manifest, write_manifest
from adtr.features.select import data_digest
from adtr.features.store import write_store
from adtr.train import run as run_files
from adtr.train.context import Context, Fitted
from adtr.train.stage import train as train_stage

REPOSITORY = Path(__file__).parent.parent
SIDE, CHANNELS = 4, 12  # three colours of 2x2 px, as a token of the autoencoder is
ANOMALIES = [None, 0, None, 6, None, 8, None, 15]  # the anomalous token of each test image
FEATURES = {
    "backbone": "resnet18",
    "weights": "random",
    "layers": [1],
    "image_size": 32,
    "grid_size": SIDE,
    "precision": "float32",
}
TINY = {
    "features": FEATURES,
    "model": {"width": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "ffn_width": 16, "standardize": True},
    "train": {"epochs": 40, "batch_size": 4, "lr": 0.003, "save_minutes": 0, "precision": "float32"},
    "padim": {"channels": 4},
    "spade": {"neighbours": 3},
    "patchcore": {"coreset_ratio": 0.5, "neighbourhood": 1},
    "kde": {"max_tokens": 100},
    "autoencoder": {"width": 8, "latent": 8},
}


class Case(NamedTuple):
    """A category as the training stage gets it."""

    manifest: Path
    store: Path


def params(method: str = "adtr", **changes: Any) -> Params:
    """params/default.yaml in small; `changes` by section."""
    default = read_yaml(REPOSITORY / "params/default.yaml")
    for level in (TINY, changes):
        default |= {section: default[section] | values for section, values in level.items()}
    return Params.model_validate(default | {"method": method})


def features(train: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, C) and (8, T, C) float16: a pattern of its own at each position, a shared brightness, a little noise."""
    rng = np.random.default_rng(seed)
    pattern, brightness = 2 * rng.normal(size=(SIDE**2, CHANNELS)), rng.normal(size=CHANNELS)

    def images(count: int) -> np.ndarray:
        noise = 0.1 * rng.normal(size=(count, SIDE**2, CHANNELS))
        return pattern + 0.3 * rng.normal(size=(count, 1, 1)) * brightness + noise

    normal, test = images(train), images(len(ANOMALIES))
    for image, token in enumerate(ANOMALIES):
        if token is not None:
            test[image, token] += 3 * np.sign(rng.normal(size=CHANNELS))
    return normal.astype(np.float16), test.astype(np.float16)


def fit(method: ModuleType, features: np.ndarray, seed: int = 0, **changes: Any) -> Fitted:
    """A method fitted to features (N, T, C)."""
    return method.fit(features, params(**changes), Context(seed))


def maps(method: ModuleType, fitted: Fitted, features: np.ndarray, **changes: Any) -> np.ndarray:
    """The anomaly maps (N, 4, 4) of features (N, T, C)."""
    return method.anomaly_map(fitted.state, features, params(**changes))


def write(folder: Path, train: np.ndarray, test: np.ndarray) -> Case:
    """A manifest and a feature store, as `adtr index` and `adtr features` write them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [None] * len(train) + ANOMALIES[: len(test)]
    manifest = pd.DataFrame(
        {
            "image": [f"{i:03}.png" for i in range(len(tokens))],
            "mask": ["" if token is None else f"{i:03}_mask.png" for i, token in enumerate(tokens)],
            "label": [int(token is not None) for token in tokens],
            "split": ["train"] * len(train) + ["test"] * len(test),
            "defect": ["good" if token is None else "planted" for token in tokens],
            "sha256": [f"{i:064}" for i in range(len(tokens))],
            "mask_sha256": "",
            "part": "planted",
        }
    )
    info = {"features": FEATURES, "data": data_digest(manifest), "weights": "random", "code": "by hand"}
    write_manifest(folder / "manifest.csv", manifest)
    write_store(folder / "planted.npy", [np.concatenate([train, test])], info)
    return Case(folder / "manifest.csv", folder / "planted.npy")


def run(case: Case, folder: Path, method: str = "adtr", seed: int = 0, **changes: Any) -> Path:
    """Trains in this process; gives the run's folder."""
    manifest, stores = read_manifest(case.manifest), {"planted": case.store}
    train_stage(manifest, stores, params(method, **changes), seed, folder / "run", folder / "state")
    return folder / "run"


@contextlib.contextmanager
def interrupted_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raises KeyboardInterrupt once an epoch's state was saved, before the next one is."""
    save = run_files.save_state

    def stop(folder: Path, content: dict[str, Any]) -> None:
        save(folder, content)
        if len(content["history"]) == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "save_state", stop)
        with contextlib.suppress(KeyboardInterrupt):
            yield
            pytest.fail(f"there was no epoch {epoch}")
