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


@pytest.mark.parametrize("method", ["adtr", "padim"])
def test_the_planted_anomalies_are_found_where_they_are(method: str, case: planted.Case, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"score": {"image_score": "mean"}, "train": {"snapshots": 4}}
    run, manifest = planted.run(case, tmp_path, method, **changes), read_manifest(case.manifest)
    params = planted.params(method, **changes)
    evaluate(run, manifest, {"planted": case.store}, tmp_path, params, {"dataset": "planted"})
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
    assert 100 * bootstrap.pixel_auroc(counts, once)[0] == pytest.approx(values["pixel_auroc"], abs=0.1)
    assert 100 * bootstrap.aupro(counts, once, params.score.aupro_limit)[0] == pytest.approx(values["aupro"], abs=0.1)
    if method == "adtr":
        assert curve.pivot(index="epoch", columns="metric", values="value").loc[40].to_dict() == values.to_dict()
        assert sorted(set(curve.epoch)) == [10, 20, 30, 40]
    else:
        assert curve.empty


@pytest.mark.parametrize("method", ["adtr", "padim", "patchcore"])
def test_normal_images_alone_set_a_threshold_and_leave_metrics_undefined(method: str, tmp_path: Path) -> None:
    normal, test = planted.features()
    case = planted.write(tmp_path / "case", normal, test[:0])
    changes: dict[str, Any] = {"threshold": {"calibration": 0.4, "false_alarms": 0.2}}
    run, manifest = planted.run(case, tmp_path, method, **changes), read_manifest(case.manifest)
    params = planted.params(method, **changes)
    evaluate(run, manifest, {"planted": case.store}, tmp_path, params, {"dataset": "planted"})
    assert np.load(run / "maps.npy").shape == (0, 4, 4)
    assert (len(pd.read_csv(run / "scores.csv")), len(pd.read_csv(run / "calibration.csv"))) == (0, 4)
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics.value.isna().all()
    assert set(metrics.note) == {"undefined: there are no test images", "undefined: no such test images"}
    low, high = Record(run / "evaluation.json").values["scale"]
    assert 0 < low < high


def test_without_test_images_and_a_threshold_the_scale_is_that_of_training(tmp_path: Path) -> None:
    normal, test = planted.features()
    case, params = planted.write(tmp_path / "case", normal, test[:0]), planted.params("padim")
    run, manifest = planted.run(case, tmp_path, "padim"), read_manifest(case.manifest)
    evaluate(run, manifest, {"planted": case.store}, tmp_path, params, {"dataset": "planted"})
    low, high = Record(run / "evaluation.json").values["scale"]
    assert 0 < low < high
    assert pd.read_csv(run / "metrics.csv").value.isna().all()


def test_images_for_calibration_set_the_threshold_and_all_others_are_trained_on(
    case: planted.Case, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"threshold": {"calibration": 0.2, "false_alarms": 0.5}}
    manifest = read_manifest(case.manifest)
    manifest.loc[manifest.index[:3], "split"] = "calibration"
    write_manifest(case.manifest, manifest)
    run, params = planted.run(case, tmp_path, "padim", **changes), planted.params("padim", **changes)
    evaluate(run, manifest, {"planted": case.store}, tmp_path, params, {"dataset": "planted"})
    assert pd.read_csv(run / "calibration.csv").image.tolist() == manifest.image.tolist()[:3]
    assert Record(run / "run.json").values["images"] == 7
    params = planted.params("padim")  # no threshold is asked for
    evaluate(planted.run(case, tmp_path, "padim"), manifest, {"planted": case.store}, tmp_path, params, {})
    assert pd.read_csv(run / "calibration.csv").empty


def test_differences_are_not_drawn_from_features_made_otherwise(case: planted.Case, tmp_path: Path) -> None:
    run, manifest = planted.run(case, tmp_path), read_manifest(case.manifest)
    vouch_again(case.store.with_suffix(".json"), weights="others")
    with pytest.raises(UserError, match="its weights differ from those that"):
        write_differences(run, manifest, {"planted": case.store}, tmp_path, planted.params(), tmp_path / "d.npz")


def test_the_same_evaluation_gives_the_same_bytes_and_without_masks_there_are_no_counts(
    case: planted.Case, tmp_path: Path
) -> None:
    run, manifest, written = planted.run(case, tmp_path, "padim"), read_manifest(case.manifest), []
    for masks in (manifest["mask"], manifest["mask"], ""):
        images = manifest.assign(mask=masks)
        evaluate(run, images, {"planted": case.store}, tmp_path, planted.params("padim"), {"dataset": "planted"})
        written.append({name: (run / name).read_bytes() for name in EVALUATED})
    assert written[0] == written[1]
    with np.load(run / "pixels.npz") as file:
        assert [Counts(**file).normal.shape, Counts(**file).region.size] == [(8, 0), 0]
