"""The small table of false alarms and misses in the report."""

from pathlib import Path

import pandas as pd
import pytest
from vouched import vouch

from adtr.config.study import Plan, run_folder
from adtr.report.thresholds import sheet

RUN = {"dataset": "smoke_mvtec", "experiment": "padim", "category": "screw", "seed": "0"}


def rows(note: str = "", **values: float) -> list[dict[str, object]]:
    return [RUN | {"metric": metric, "value": value, "note": note} for metric, value in values.items()]


@pytest.mark.parametrize(("images", "threshold"), [(199, "197"), (98, "–")])
def test_rates_stand_beside_what_was_asked_for(smoke: Plan, tmp_path: Path, images: int, threshold: str) -> None:
    folder = run_folder(tmp_path, RUN["dataset"], RUN["experiment"], RUN["category"], 0)
    folder.mkdir(parents=True)
    pd.DataFrame({"pred_score": [*map(float, range(images))]}).to_csv(folder / "calibration.csv")
    vouch(folder / "evaluation.json", {}, "calibration.csv")
    alarms = rows(false_alarms=0.0, false_alarms_low=0.0, false_alarms_high=8.61)
    misses = rows("undefined: no such images", misses=float("nan"), misses_low=0.0, misses_high=0.0)
    found = sheet(pd.DataFrame([*rows(image_auroc=90.0), *alarms, *misses]), smoke, tmp_path)
    assert found is not None
    expected = [["PaDiM", "screw", "0", "1", str(images), threshold, "0.0 [0.0, 8.6]", "no such images"]]
    assert found.text.to_numpy().tolist() == expected


def test_there_is_no_table_without_thresholds(smoke: Plan, tmp_path: Path) -> None:
    assert sheet(pd.DataFrame(rows(image_auroc=90.0)), smoke, tmp_path) is None
