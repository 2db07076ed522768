"""What runs achieve at their thresholds, beside what was asked for, as a table of text."""

from pathlib import Path

import pandas as pd

from adtr.config.study import Plan, run_folder
from adtr.errors import UserError
from adtr.evaluate.conformal import threshold
from adtr.records import Record
from adtr.tables.render import Sheet

RATES = ("false_alarms", "misses")  # how the metrics' names begin
COLUMNS = ["experiment", "category", "seed", "asked, %", "images", "threshold", "false alarms, %", "misses, %"]
GUARANTEE = (
    "The threshold is set by so many normal images that were not trained on; test images play no part. At most the "
    "share asked for of normal images is above it, on average over such draws and if all are exchangeable. In "
    "brackets: 95 % intervals (Clopper & Pearson) of these test images."
)


def is_rate(metric: pd.Series) -> pd.Series:
    """Which metrics are rates at a threshold."""
    return metric.str.startswith(RATES)


def sheet(metrics: pd.DataFrame, plan: Plan, results: Path) -> Sheet | None:
    """The threshold of each run that has one, and its rates in per cent, or why there are none; None without such runs.

    Args:
        metrics: the tidy rows of a data set.
        results: the study's folder of results.
    """
    rows = []
    for (experiment, category, seed), run in metrics[is_rate(metrics.metric)].groupby(
        ["experiment", "category", "seed"], sort=False
    ):
        row = run.set_index("metric")
        dataset = str(run.dataset.iloc[0])
        asked = plan.params[dataset, str(experiment)].threshold.false_alarms
        evaluation = Record(run_folder(results, dataset, str(experiment), str(category), seed) / "evaluation.json")
        scores = evaluation.table("calibration.csv").pred_score.to_numpy()
        try:
            value = f"{threshold(scores, asked):.4g}"
        except UserError:  # too few images: the rates say so
            value = "–"
        rates = [
            row.note[name].removeprefix("undefined: ") or "{:.1f} [{:.1f}, {:.1f}]".format(*row.value[_ends(name)])
            for name in RATES
        ]
        names = [plan.titles[str(experiment)], str(category), str(seed)]
        rows.append([*names, f"{100 * asked:g}", str(len(scores)), value, *rates])
    text = pd.DataFrame(rows, columns=COLUMNS)
    return Sheet("False alarms and misses at the threshold", text, [GUARANTEE]) if rows else None


def _ends(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]
