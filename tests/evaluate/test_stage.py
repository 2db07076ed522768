"""The evaluation stage, from a trained run to its files: the planted anomalies are found, with their own masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
from PIL import Image

from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.evaluate.differences import write_differences
from adtr.evaluate.stage import evaluate
from adtr.files import sha256


@pytest.fixture
def case(tmp_path: Path) -> planted.Case:
    """With a mask of each planted token, 32 px."""
    case = planted.write(tmp_path / "case", *planted.features())
    manifest = pd.read_csv(case.manifest, keep_default_na=False, dtype={"sha256": str})
    for name, token in zip(manifest["mask"].tail(8), planted.ANOMALIES, strict=True):
        if token is not None:
            mask = np.zeros(planted.SIDE**2, np.uint8)
            mask[token] = 255
            grid = Image.fromarray(mask.reshape(planted.SIDE, planted.SIDE))
            grid.resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / name)
            manifest.loc[manifest["mask"] == name, "mask_sha256"] = sha256(tmp_path / name)
    manifest.to_csv(case.manifest, index=False)
    return case


@pytest.mark.parametrize("method", ["adtr", "padim"])
def test_the_planted_anomalies_are_found_where_they_are(method: str, case: planted.Case, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"score": {"image_score": "mean"}, "train": {"snapshots": 4}}
    run, manifest = planted.run(case, tmp_path, method, **changes), read_manifest(case.manifest)
    params = planted.params(method, **changes)
    evaluate(run, manifest, {"planted": case.store}, tmp_path, params, [("dataset", "planted")], tmp_path / "out")
    maps, scores = np.load(tmp_path / "out/maps.npy"), pd.read_csv(tmp_path / "out/scores.csv")
    assert (maps.shape, maps.dtype) == ((8, 4, 4), np.float32)
    assert scores.image.tolist() == manifest.image.tolist()[-8:]
    assert scores.pred_score.tolist() == scores.score_mean.tolist()
    metrics = pd.read_csv(tmp_path / "out/metrics.csv")
    assert metrics.columns.tolist() == ["dataset", "metric", "value", "note", "provenance"]
    assert metrics.provenance[0].startswith(f"{run}@")
    values, curve = metrics.set_index("metric").value, pd.read_csv(tmp_path / "out/curve.csv")
    assert values["image_auroc_max"] == 100
    assert values["pixel_auroc"] > 90
    if method == "adtr":
        assert curve.pivot(index="epoch", columns="metric", values="value").loc[40].to_dict() == values.to_dict()
        assert sorted(set(curve.epoch)) == [10, 20, 30, 40]
    else:
        assert curve.empty


def test_differences_are_not_drawn_from_features_made_otherwise(case: planted.Case, tmp_path: Path) -> None:
    run, manifest = planted.run(case, tmp_path), read_manifest(case.manifest)
    record = case.store.with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"weights": "others"}))
    with pytest.raises(UserError, match="its weights differ from those that"):
        write_differences(run, manifest, {"planted": case.store}, tmp_path, planted.params(), 10, 0, tmp_path / "d.npz")


def test_a_state_of_other_feature_bytes_is_not_resumed(case: planted.Case, tmp_path: Path) -> None:
    """Another Pillow, or a GPU, makes other features of the same parameters, images, weights and code."""
    planted.run(case, tmp_path, train={"epochs": 2})
    record = case.store.with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"content": "others"}))
    planted.run(case, tmp_path, train={"epochs": 2})
    assert len(list((tmp_path / "state").glob("*/state.pt"))) == 2
