"""What is found by defect and by simple scores, as a test makes it up around the metrics of runs."""

from collections.abc import Sequence

import pandas as pd

from adtr.evaluate.shortcuts import SCORES

KINDS = ["scratch_head", "thread_side"]


def of(metrics: pd.DataFrame, kinds: Sequence[str] = KINDS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frames of `defects.by_defect` and `tables.shortcuts.read`: 60, 70, ... per cent, and AUROCs of 40."""
    runs = metrics[["dataset", "experiment", "category"]].drop_duplicates()
    masked = runs.dataset.isin(metrics[metrics.metric == "pixel_auroc"].dataset)
    runs = runs.assign(images=5, regions=6 * masked, image_auroc=60.0, pixel_auroc=90.0, region_recall=50.0)
    each = [runs.assign(defect=kind, image_auroc=60.0 + 10 * place) for place, kind in enumerate(kinds)]
    found = pd.concat(each, ignore_index=True)
    found.loc[found.regions == 0, ["pixel_auroc", "region_recall"]] = float("nan")
    categories = metrics[["dataset", "category"]].drop_duplicates()
    simple = categories.merge(pd.DataFrame({"score": SCORES}), "cross")
    simple = simple.assign(auroc=40.0, low=30.0, high=50.0, p_value=0.2, shift=-0.5)
    return found, simple.assign(train=9, normal=8, anomalous=7)
