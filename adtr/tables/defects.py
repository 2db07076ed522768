"""How well each experiment finds each kind of defect."""

import contextlib
import math

import numpy as np
import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.evaluate import bootstrap
from adtr.evaluate.metrics import UndefinedMetric, auroc
from adtr.evaluate.pixels import Counts
from adtr.tables.render import DASH, Sheet
from adtr.tables.uncertainty import read_evaluated

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "region_recall": "region recall"}
KIND = ["dataset", "category", "defect"]
FALSE_POSITIVES, FOUND = 0.01, 0.5  # shares of the pixels: of normal images, and of a region that counts as found
NOTES = {
    "image_auroc": "The images of one kind of defect against all normal test images.",
    "pixel_auroc": "The pixels of the images of one kind of defect and of all normal test images.",
    "region_recall": f"The share of a kind's regions of which at least {100 * FOUND:g} % is above the threshold that "
    f"{100 * FALSE_POSITIVES:g} % of the pixels of normal test images are above.",
}


def by_defect(paths: Paths) -> pd.DataFrame:
    """The means over seeds of each experiment on each kind of defect, in per cent: KIND, experiment, METRICS.

    Columns images and regions count those of the kind. NaN is what cannot be measured, as pixels without masks.

    Raises:
        UserError: a file is missing or damaged.
    """
    found = []
    for run in paths.plan.runs():
        rows = of_run(*read_evaluated(paths, run))
        found.append(rows.assign(dataset=run.dataset, category=run.category, experiment=run.experiment))
    rows = pd.concat(found)
    rows[[*METRICS]] *= 100
    how = dict.fromkeys(["images", "regions"], "max") | dict.fromkeys(METRICS, "mean")
    return rows.groupby([*KIND, "experiment"], sort=False, as_index=False).agg(how)


def of_run(scores: pd.DataFrame, counts: Counts) -> pd.DataFrame:
    """A row for each kind of defect among a run's test images: defect, images, regions, and METRICS as shares of 1.

    Args:
        scores: of N images: split, label, defect, pred_score.
        counts: of the same images in the same order.
    """
    test, normal = scores.split == "test", ((scores.split == "test") & (scores.label == 0)).to_numpy()
    rows = []
    overlap = _overlap(counts, normal) if counts.normal.size else np.zeros(0)
    for defect in dict.fromkeys(scores.defect[test & (scores.label == 1)]):
        kind = (test & (scores.label == 1) & (scores.defect == defect)).to_numpy()
        both, regions = normal | kind, kind[counts.image]
        row = {"defect": defect, "images": kind.sum(), "regions": regions.sum(), **dict.fromkeys(METRICS, math.nan)}
        with contextlib.suppress(UndefinedMetric):
            row["image_auroc"] = auroc(kind[both], scores.pred_score.to_numpy()[both])
        if regions.any():
            weights = both[:, None].astype(float)
            row["pixel_auroc"] = bootstrap.pixel_auroc(counts, weights).item()
            row["region_recall"] = (overlap[regions] >= FOUND).mean() if normal.any() else math.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=["defect", "images", "regions", *METRICS])


def _overlap(counts: Counts, normal: np.ndarray) -> np.ndarray:
    """(R,) The share of each region above the threshold that FALSE_POSITIVES of the normal images' pixels are above.

    It is linear between two thresholds, as in AUPRO.
    """
    above, *hits = (np.append(0, row[::-1].cumsum()) for row in (counts.normal[normal].sum(axis=0), *counts.region))
    return np.array([np.interp(FALSE_POSITIVES * above[-1], above, hit) / hit[-1] for hit in hits])


def sheets(plan: Plan, table: pd.DataFrame) -> dict[tuple[str, str], Sheet]:
    """A table of text for each data set and metric that was measured: a kind of defect a row, an experiment a column.

    Args:
        table: as of `by_defect`.
    """
    found = {}
    for dataset, rows in table.groupby("dataset", sort=False):
        for metric in (metric for metric in METRICS if rows[metric].notna().any()):
            counted = "regions" if metric == "region_recall" else "images"
            experiments = list(dict.fromkeys(rows.experiment))
            wide = rows.pivot(index=["category", "defect"], columns="experiment", values=metric)
            text = wide[experiments].rename(columns=plan.titles).map(lambda v: DASH if math.isnan(v) else f"{v:.1f}")
            # Of regions there may be several numbers: masks of different sizes
            counts = rows.groupby(["category", "defect"], sort=False)[counted].unique()
            text = text.reindex(counts.index).reset_index().astype(str).rename_axis(None, axis=1)
            text.insert(2, counted, [" or ".join(map(str, sorted(numbers))) for numbers in counts])
            title = f"{plan.datasets[str(dataset)].title}: {METRICS[metric]} by defect"
            found[str(dataset), metric] = Sheet(title, text, [f"{NOTES[metric]} Per cent, means over the seeds."])
    return found
