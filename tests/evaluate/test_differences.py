"""Feature differences of a run: drawn in equal numbers, and those that its anomaly map is made of."""

from pathlib import Path

import numpy as np
import planted
import pytest
from PIL import Image

from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.evaluate.differences import draw as drawn
from adtr.evaluate.differences import write_differences
from adtr.files import sha256
from adtr.methods.adtr import anomaly_map
from adtr.train.run import read_model


def test_as_many_normal_as_anomalous_tokens_are_drawn() -> None:
    anomalous = np.random.default_rng(0).random((10, 16)) < 0.3
    places = drawn(anomalous, 40)
    marked = anomalous[tuple(places.T)]
    assert (len(places), marked.sum()) == (40, 20)
    assert len({tuple(place) for place in places.tolist()}) == 40
    assert (places == drawn(anomalous, 40)).all()
    few = drawn(np.eye(3, 16, dtype=bool), 40)
    assert len(few) == 6  # three anomalous ones there are


def test_differences_are_those_of_the_anomaly_map(case: planted.Case, tmp_path: Path) -> None:
    run, params = planted.run(case, tmp_path, train={"epochs": 2}), planted.params(train={"epochs": 2})
    manifest, stores = read_manifest(case.manifest), {"planted": case.store}
    outputs = [tmp_path / f"{name}.npz" for name in "ab"]
    for output in outputs:
        write_differences(run, manifest, stores, tmp_path, params, output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    found = np.load(outputs[0])
    assert found["vectors"].shape == (8, planted.CHANNELS)
    assert found["vectors"].dtype == np.float32
    assert sorted(found["image"][found["anomalous"]]) == [1, 3, 5, 7]
    assert sorted(found["token"][found["anomalous"]]) == [token for token in planted.ANOMALIES if token is not None]
    features = np.load(case.store)[10:]
    maps = anomaly_map(read_model(run), features, params).reshape(len(features), -1)
    norms = np.linalg.norm(found["vectors"], axis=1)
    assert norms == pytest.approx(maps[found["image"], found["token"]], rel=1e-5)


@pytest.mark.parametrize("mask", ["", "gone.png"])
def test_nothing_is_drawn_of_an_anomalous_image_without_a_pixel_marked(
    case: planted.Case, tmp_path: Path, mask: str
) -> None:
    corner = np.zeros((64, 64), np.uint8)
    corner[0, 0] = 255  # at 32 px the nearest ones are others
    Image.fromarray(corner).save(tmp_path / "gone.png")
    run, params = planted.run(case, tmp_path, train={"epochs": 2}), planted.params(train={"epochs": 2})
    manifest = read_manifest(case.manifest)
    manifest.loc[manifest.index[-5], ["mask", "mask_sha256"]] = mask, sha256(tmp_path / "gone.png")  # of test image 3
    write_differences(run, manifest, {"planted": case.store}, tmp_path, params, tmp_path / "d.npz")
    found = np.load(tmp_path / "d.npz")
    assert sorted(found["image"][found["anomalous"]]) == [1, 5, 7]
    assert 3 not in found["image"]


def test_a_method_without_reconstruction_has_no_differences(case: planted.Case, tmp_path: Path) -> None:
    run = planted.run(case, tmp_path, "padim")
    manifest, stores, params = read_manifest(case.manifest), {"planted": case.store}, planted.params("padim")
    with pytest.raises(UserError, match="the method padim reconstructs no features"):
        write_differences(run, manifest, stores, tmp_path, params, tmp_path / "d.npz")
