"""What runs achieve at their thresholds, beside what was asked for, as a table of text."""

import pandas as pd

from adtr.config.study import Plan
from adtr.tables.render import Sheet

RATES = ("false_alarms", "misses")  # how the metrics' names begin
TITLE = "False alarms and misses at the threshold"
COLUMNS = ["experiment", "category", "seed", "asked, %", "false alarms, %", "misses, %"]
GUARANTEE = (
    "The threshold is set by normal images that were not trained on; test images play no part. At most the share asked "
    "for of normal images is above it, on average over such draws and if all are exchangeable. In brackets: 95 % "
    "intervals (Clopper & Pearson) of these test images."
)


def is_rate(metric: pd.Series) -> pd.Series:
    """Which metrics are rates at a threshold."""
    return metric.str.startswith(RATES)


def sheet(metrics: pd.DataFrame, plan: Plan) -> Sheet | None:
    """The rates of each run that has a threshold, in per cent, or why there are none; None without such runs."""
    rows = []
    for (experiment, category, seed), run in metrics[is_rate(metrics.metric)].groupby(
        ["experiment", "category", "seed"], sort=False
    ):
        row = run.set_index("metric")
        dataset = str(run.dataset.iloc[0])
        asked = plan.params[dataset, str(experiment)].threshold.false_alarms
        rates = [row.note[name] or "{:.1f} [{:.1f}, {:.1f}]".format(*row.value[_ends(name)]) for name in RATES]
        rows.append([plan.titles[str(experiment)], str(category), str(seed), f"{100 * asked:g}", *rates])
    text = pd.DataFrame(rows, columns=COLUMNS)
    return Sheet(TITLE, text, [GUARANTEE]) if rows else None


def _ends(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]
