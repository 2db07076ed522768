"""The small table of false alarms and misses in the report."""

import pandas as pd

from adtr.config.study import Plan
from adtr.report.thresholds import sheet

RUN = {"dataset": "smoke_mvtec", "experiment": "padim", "category": "screw", "seed": "0"}


def rows(note: str = "", **values: float) -> list[dict[str, object]]:
    return [RUN | {"metric": metric, "value": value, "note": note} for metric, value in values.items()]


def test_rates_stand_beside_what_was_asked_for(smoke: Plan) -> None:
    alarms = rows(false_alarms=0.0, false_alarms_low=0.0, false_alarms_high=8.61)
    misses = rows("undefined: no such images", misses=float("nan"), misses_low=0.0, misses_high=0.0)
    found = sheet(pd.DataFrame([*rows(image_auroc=90.0), *alarms, *misses]), smoke)
    assert found is not None
    expected = [["PaDiM", "screw", "0", "1", "0.0 [0.0, 8.6]", "undefined: no such images"]]
    assert found.text.to_numpy().tolist() == expected


def test_there_is_no_table_without_thresholds(smoke: Plan) -> None:
    assert sheet(pd.DataFrame(rows(image_auroc=90.0)), smoke) is None
