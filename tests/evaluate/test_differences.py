"""Feature differences of a run: drawn in equal numbers, and those that its anomaly map is made of."""

import hashlib
from pathlib import Path

import numpy as np
import planted
import pytest
from PIL import Image

from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.evaluate.differences import draw as drawn
from adtr.evaluate.differences import write_differences
from adtr.methods.adtr import anomaly_map
from adtr.train.stage import read_model, train


def test_as_many_normal_as_anomalous_tokens_are_drawn() -> None:
    anomalous = np.random.default_rng(0).random((10, 16)) < 0.3
    places = drawn(anomalous, 40, seed=0)
    marked = anomalous[tuple(places.T)]
    assert (len(places), marked.sum()) == (40, 20)
    assert len({tuple(place) for place in places.tolist()}) == 40
    assert (places == drawn(anomalous, 40, seed=0)).all()
    assert not np.array_equal(places, drawn(anomalous, 40, seed=1))
    few = drawn(np.eye(3, 16, dtype=bool), 40, seed=0)
    assert len(few) == 6  # three anomalous ones there are


@pytest.fixture
def masked(tmp_path: Path) -> planted.Case:
    """The planted problem with masks: 32 px, tokens of 8 px, one of them anomalous."""
    case = planted.write(tmp_path / "case", *planted.features())
    manifest = read_manifest(case.manifest)
    digests = [""] * len(manifest)
    for i, token in enumerate([None] * 10 + planted.ANOMALIES):
        if token is not None:
            mask = np.zeros((32, 32), np.uint8)
            y, x = divmod(token, planted.SIDE)
            mask[8 * y + 3, 8 * x + 5] = 255  # one pixel suffices
            path = tmp_path / manifest["mask"][i]
            Image.fromarray(mask).save(path)
            digests[i] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.assign(mask_sha256=digests).to_csv(case.manifest, index=False)
    return case


def write_run(case: planted.Case, folder: Path, method: str = "adtr") -> Path:
    params, manifest = planted.params(method, train={"epochs": 2}), read_manifest(case.manifest)
    train(manifest, {"planted": case.store}, params, 0, folder / "run", folder / "state")
    return folder / "run"


def test_differences_are_those_of_the_anomaly_map(masked: planted.Case, tmp_path: Path) -> None:
    run, params = write_run(masked, tmp_path), planted.params("adtr", train={"epochs": 2})
    manifest, stores = read_manifest(masked.manifest), {"planted": masked.store}
    outputs = [tmp_path / f"{name}.npz" for name in "ab"]
    for output in outputs:
        write_differences(run, manifest, stores, tmp_path, params, 600, 0, output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    found = np.load(outputs[0])
    assert found["vectors"].shape == (8, planted.CHANNELS)
    assert found["vectors"].dtype == np.float32
    assert sorted(found["image"][found["anomalous"]]) == [1, 3, 5, 7]
    assert sorted(found["token"][found["anomalous"]]) == [0, 5, 10, 15]
    features = np.load(masked.store)[10:]
    maps = anomaly_map(read_model(run), features, params).reshape(len(features), -1)
    norms = np.linalg.norm(found["vectors"], axis=1)
    assert norms == pytest.approx(maps[found["image"], found["token"]], rel=1e-5)


def test_a_method_without_reconstruction_has_no_differences(masked: planted.Case, tmp_path: Path) -> None:
    run = write_run(masked, tmp_path, "padim")
    stores = {"planted": masked.store}
    with pytest.raises(UserError, match="the method padim reconstructs no features"):
        write_differences(
            run, read_manifest(masked.manifest), stores, tmp_path, planted.params("padim"), 8, 0, tmp_path / "d.npz"
        )
