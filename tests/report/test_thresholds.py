"""Where the page's threshold starts, and the small table of false alarms and misses in the report."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from vouched import vouch

from adtr.config.paths import Paths
from adtr.config.study import Plan, Run
from adtr.report.thresholds import best_f1, sheet, start

RUN = {"dataset": "smoke_mvtec", "experiment": "padim", "category": "screw", "seed": "0"}


def rows(note: str = "", **values: float) -> list[dict[str, object]]:
    return [RUN | {"metric": metric, "value": value, "note": note} for metric, value in values.items()]


@pytest.mark.parametrize(("images", "threshold"), [(199, "197"), (98, "–")])
def test_rates_stand_beside_what_was_asked_for(smoke: Plan, tmp_path: Path, images: int, threshold: str) -> None:
    folder = Paths(smoke, tmp_path).run(Run(RUN["dataset"], RUN["experiment"], RUN["category"], 0))
    folder.mkdir(parents=True)
    pd.DataFrame({"pred_score": [*map(float, range(images))]}).to_csv(folder / "calibration.csv")
    vouch(folder / "evaluation.json", {}, "calibration.csv")
    alarms = rows(false_alarms=0.0, false_alarms_low=0.0, false_alarms_high=8.61)
    misses = rows("undefined: no such images", misses=float("nan"), misses_low=0.0, misses_high=0.0)
    found = sheet(pd.DataFrame([*rows(image_auroc=90.0), *alarms, *misses]), Paths(smoke, tmp_path))
    assert found is not None
    rates = ["–", "–"] if threshold == "–" else ["0.0 [0.0, 8.6]", "no such images"]
    assert found.text.to_numpy().tolist() == [["PaDiM", "screw", "0", "1", str(images), threshold, *rates]]
    told = [note for note in found.notes if note.startswith("Without a threshold: 98 calibration images are too few")]
    assert len(told) == (threshold == "–")


def test_there_is_no_table_without_thresholds(smoke: Plan, tmp_path: Path) -> None:
    assert sheet(pd.DataFrame(rows(image_auroc=90.0)), Paths(smoke, tmp_path)) is None


def test_the_threshold_of_the_best_f1_by_hand() -> None:
    # From 0.4 on: 3 found, 2 of 3 right: F1 = 4 / 6. From 0.3: 4 found, 3 right: 6 / 7. From 0.1 and 0.2: 6 / 9, 6 / 8.
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    labels = np.array([False, False, True, False, True, True])
    assert best_f1(labels, scores) == pytest.approx(0.2)  # above it
    assert best_f1(np.full(6, True), scores) is None
    # From 1 and from 2 on F1 is 2 / 3: the lower one is taken, and it is below all
    below = best_f1(np.array([True, False, False, True]), np.array([1, 1, 1, 2], np.float32))
    assert below is not None
    assert 0.99 < below < 1


def test_a_calibrated_threshold_is_the_start_if_it_is_there() -> None:
    labels, scores = np.array([False, True]), np.array([1, 2], np.float32)
    assert start(labels, scores, np.arange(9), 0.1)[0] == 8
    assert start(labels, scores, np.arange(8), 0.1)[0] == 1  # 8 images are too few for 10 %: the best F1
    assert start(labels, scores, np.array([]), 0.1) == (1, "best F1, chosen on these test images and so too favourable")
    assert start(labels[:1], scores[:1], np.array([]), 0.1)[0] is None
