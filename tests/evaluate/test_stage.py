"""The evaluation stage, from a trained run to its files: the planted anomalies are found, with their own masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
from vouched import vouch_again

from adtr.config.study import EVALUATED
from adtr.data.manifest import read_manifest, write_manifest
from adtr.errors import UserError
from adtr.evaluate import bootstrap
from adtr.evaluate.differences import write_differences
from adtr.evaluate.pixels import Counts
from adtr.evaluate.stage import evaluate
from adtr.records import Record


def evaluated(case: planted.Case, root: Path, method: str = "padim", **changes: Any) -> Path:
    """Trains and evaluates; gives the run's folder."""
    run, manifest = planted.run(case, root, method, **changes), read_manifest(case.manifest)
    params = planted.params(method, **changes)
    evaluate(run, manifest, {"planted": case.store}, root, params, {"dataset": "planted"})
    return run


@pytest.mark.parametrize("method", ["adtr", "padim"])
def test_the_planted_anomalies_are_found_where_they_are(method: str, case: planted.Case, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"score": {"image_score": "mean"}, "train": {"snapshots": 4}}
    run, manifest = evaluated(case, tmp_path, method, **changes), read_manifest(case.manifest)
    maps, scores = np.load(run / "maps.npy"), pd.read_csv(run / "scores.csv")
    assert (maps.shape, maps.dtype) == ((8, 4, 4), np.float32)
    assert scores.image.tolist() == manifest.image.tolist()[-8:]
    assert scores.pred_score.tolist() == scores.score_mean.tolist()
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics.columns.tolist() == ["dataset", "metric", "value", "note", "provenance"]
    assert metrics.provenance[0].startswith(f"{run}@")
    values, curve = metrics.set_index("metric").value, pd.read_csv(run / "curve.csv")
    assert values["image_auroc_max"] == 100
    assert values["pixel_auroc"] > 90
    with np.load(run / "pixels.npz") as file:
        counts, once = Counts(**file), np.ones((8, 1))
    limit = planted.params().score.aupro_limit
    assert 100 * bootstrap.pixel_auroc(counts, once)[0] == pytest.approx(values["pixel_auroc"], abs=0.1)
    assert 100 * bootstrap.aupro(counts, once, limit)[0] == pytest.approx(values["aupro"], abs=0.1)
    if method == "adtr":
        assert curve.pivot(index="epoch", columns="metric", values="value").loc[40].to_dict() == values.to_dict()
        assert sorted(set(curve.epoch)) == [10, 20, 30, 40]
    else:
        assert curve.empty


@pytest.mark.parametrize(("method", "share"), [("adtr", 0.4), ("padim", 0.4), ("patchcore", 0.4), ("padim", 0.0)])
def test_normal_images_alone_leave_metrics_undefined_and_set_a_scale(method: str, share: float, tmp_path: Path) -> None:
    """And a threshold, if some are held out."""
    normal, test = planted.features()
    changes: dict[str, Any] = {"threshold": {"calibration": share, "false_alarms": 0.2}}
    run = evaluated(planted.write(tmp_path / "case", normal, test[:0]), tmp_path, method, **changes)
    assert np.load(run / "maps.npy").shape == (0, 4, 4)
    found = len(pd.read_csv(run / "scores.csv")), len(pd.read_csv(run / "calibration.csv"))
    assert found == (0, round(10 * share))
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics.value.isna().all()
    told = {"undefined: there are no test images"} | ({"undefined: no such test images"} if share else set())
    assert set(metrics.note) == told
    low, high = Record(run / "evaluation.json").values["scale"]
    assert 0 < low < high


def test_images_for_calibration_set_the_threshold_and_all_others_are_trained_on(
    case: planted.Case, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"threshold": {"calibration": 0.2, "false_alarms": 0.5}}
    manifest = read_manifest(case.manifest)
    manifest.loc[manifest.index[:3], "split"] = "calibration"
    write_manifest(case.manifest, manifest)
    run = evaluated(case, tmp_path, **changes)
    assert pd.read_csv(run / "calibration.csv").image.tolist() == manifest.image.tolist()[:3]
    assert Record(run / "run.json").values["images"] == 7
    assert pd.read_csv(evaluated(case, tmp_path) / "calibration.csv").empty  # no threshold is asked for


def test_differences_are_not_drawn_from_features_made_otherwise(case: planted.Case, tmp_path: Path) -> None:
    run, manifest = planted.run(case, tmp_path), read_manifest(case.manifest)
    vouch_again(case.store.with_suffix(".json"), weights="others")
    with pytest.raises(UserError, match="its weights differ from those that"):
        write_differences(run, manifest, {"planted": case.store}, tmp_path, planted.params(), tmp_path / "d.npz")


def test_the_same_evaluation_gives_the_same_bytes_and_without_masks_there_are_no_counts(
    case: planted.Case, tmp_path: Path
) -> None:
    write_manifest(case.manifest, read_manifest(case.manifest).assign(mask=""))
    run = evaluated(case, tmp_path)
    written = {name: (run / name).read_bytes() for name in EVALUATED}
    evaluated(case, tmp_path)
    assert written == {name: (run / name).read_bytes() for name in EVALUATED}
    with np.load(run / "pixels.npz") as file:
        assert [Counts(**file).normal.shape, Counts(**file).region.size] == [(8, 0), 0]
