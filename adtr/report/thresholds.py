"""Where the page's threshold starts; what runs achieve at theirs, beside what was asked for, as a table of text."""

from contextlib import suppress

import numpy as np
import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Run
from adtr.errors import UserError
from adtr.evaluate import conformal
from adtr.records import Record
from adtr.tables.render import DASH, Sheet

RATES = ("false_alarms", "misses")  # how the metrics' names begin
TITLE = "False alarms and misses at the threshold"
COLUMNS = ["experiment", "category", "seed", "asked, %", "images", "threshold", "false alarms, %", "misses, %"]
GUARANTEE = (
    "The threshold is set by so many normal images that were not trained on; test images play no part. At most the "
    "share asked for of normal images is above it, on average over such draws and if all are exchangeable."
)
BRACKETS = "In brackets: 95 % intervals (Clopper & Pearson) of these test images."


def start(
    labels: np.ndarray, scores: np.ndarray, calibration: np.ndarray, false_alarms: float
) -> tuple[float | None, str]:
    """A threshold, above which an image is called anomalous, and what it rests on.

    It is the calibrated one, of images that were held out, else that of the largest F1; none of one class only.

    Args:
        labels, scores: (N,) of the test images.
        calibration: (n,) scores of the images that were held out, or none.
        false_alarms: the rate that is asked for.
    """
    with suppress(UserError):  # too few of them for that rate
        threshold, images = conformal.threshold(calibration, false_alarms), len(calibration)
        return threshold, f"calibrated for {100 * false_alarms:g} % false alarms, from {images} normal images"
    found = best_f1(labels, scores)
    if found is None:
        return None, "no threshold, as there is one class only"
    return found, "best F1, chosen on these test images and so too favourable"


def best_f1(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The lowest threshold with the largest F1 if what is above it is called anomalous; None of one class only.

    It is the next lower of the scores; below the lowest of them, where everything is called anomalous.
    """
    if labels.all() or not labels.any():
        return None
    values = np.unique(scores)
    predicted, correct = (len(s) - np.searchsorted(np.sort(s), values) for s in (scores, scores[labels]))
    best = int((2 * correct / (predicted + labels.sum())).argmax())
    return float(values[best - 1]) if best else float(np.nextafter(values[0], -np.inf, dtype=np.float32))


def is_rate(metric: pd.Series) -> pd.Series:
    """Which metrics are rates at a threshold."""
    return metric.str.startswith(RATES)


def sheet(metrics: pd.DataFrame, paths: Paths) -> Sheet | None:
    """The threshold of each run that has one, and its rates in per cent, or why there are none; None without such runs.

    Without test images there are no columns of rates.

    Args:
        metrics: the tidy rows of a data set.
    """
    plan, rows, too_few = paths.plan, [], dict[str, None]()
    for run, rates in metrics[is_rate(metrics.metric)].groupby([*Run._fields], sort=False):
        dataset, experiment, category, seed = map(str, run)
        asked = plan.params[dataset, experiment].threshold.false_alarms
        evaluation = Record(paths.run(Run(dataset, experiment, category, int(seed))) / "evaluation.json")
        scores = evaluation.table("calibration.csv").pred_score.to_numpy()
        try:
            texts = [f"{conformal.threshold(scores, asked):.4g}", *(_rate(rates.set_index("metric"), n) for n in RATES)]
        except UserError as error:  # too few images for that rate
            texts = [DASH] * (1 + len(RATES))
            too_few[f"Without a threshold: {error}."] = None
        rows.append([plan.titles[experiment], category, seed, f"{100 * asked:g}", str(len(scores)), *texts])
    text, known = pd.DataFrame(rows, columns=COLUMNS), metrics[metrics.metric.isin(RATES)].value.notna().any()
    text = text if known else text.drop(columns=COLUMNS[-2:])
    notes = [" ".join([GUARANTEE, BRACKETS] if known else [GUARANTEE]), *too_few]
    return Sheet(TITLE if known else "Thresholds", text, notes) if rows else None


def _rate(rates: pd.DataFrame, name: str) -> str:
    """A rate with its interval, or why there is none; `rates` are by name."""
    value, low, high = rates.value[[name, f"{name}_low", f"{name}_high"]]
    return rates.note[name].removeprefix("undefined: ") or f"{value:.1f} [{low:.1f}, {high:.1f}]"
