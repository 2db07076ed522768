"""The table of comparisons, and the notes that go with few pairs."""

import pandas as pd

from adtr.config.study import Plan
from adtr.evaluate.bootstrap import compare
from adtr.tables import comparison
from adtr.tables.summary import study_metrics


def test_the_sheet_has_a_row_for_each_comparison_and_says_what_was_resampled(plan: Plan) -> None:
    values = {"adtr": 90.0, "cnn": 88.25}
    rows = [
        {"dataset": d, "experiment": e, "category": c, "seed": s, "metric": "image_auroc", "value": values[e] + s}
        for d, e, c, s in plan.runs()
        if e in values
    ]
    sheet = comparison.sheet(plan, compare(pd.DataFrame(rows), study_metrics(plan)))
    assert sheet.text.to_numpy().tolist() == [
        ["CNN", "generated images in MVTec-AD's layout", "image AUROC", "-1.8", "[-1.8, -1.8]", "4", "0/0/4"]
    ]
    assert "categories with replacement, and seeds with replacement within each" in sheet.notes[0]
    assert sheet.notes[1].endswith("2 categories are few: the interval is shorter than it should be.")


def test_a_single_pair_is_told(plan: Plan) -> None:
    run = {"dataset": "smoke_mvtec", "category": "cat", "seed": 0, "metric": "image_auroc"}
    rows = pd.DataFrame([run | {"experiment": e, "value": value} for e, value in (("adtr", 90.0), ("cnn", 91.0))])
    sheet = comparison.sheet(plan, compare(rows, study_metrics(plan)))
    assert sheet.text["95 % interval"].tolist() == ["–"]
    assert sheet.notes[1].endswith("one category and one seed give no interval.")
