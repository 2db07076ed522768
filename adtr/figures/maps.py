"""Anomaly maps beside their images, of every kind of defect of a category (Figs. 4 and A1-A25)."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from adtr.data.images import read_rgb
from adtr.evaluate.measure import upsampled
from adtr.figures.category import Category, spread
from adtr.figures.look import ANOMALOUS, CELL, GAP, MASK, NORMAL, SCORES, colour_bar, image_grid, scale_of

COLUMNS = 10  # of the paper's Figs. A1-A25


def maps(category: Category) -> Figure:
    """Samples, their ground truth where there are masks, and the first experiment's maps."""
    run, tested = category.runs[0], category.tested()
    sample, scale = sample_of(tested), scale_of(run)
    rows: dict[str, Any] = {"sample": ({}, [read_rgb(category.root, image, run.size) for image in sample.image])}
    if (tested["mask"] != "").any():
        rows["ground truth"] = (MASK, list(category.masks(run.size)[sample.index]))
    rows[run.title] = ({"cmap": SCORES, "norm": scale}, list(upsampled(run.maps[sample.index], run.size)))
    names = zip(sample.defect.replace("good", "normal").str.replace("_", " "), sample.label, strict=True)
    figure = image_grid(rows, [(name, ANOMALOUS if label else NORMAL) for name, label in names])
    colour_bar(figure, scale, 0.3 + CELL * len(sample), 0.3 + CELL * (len(rows) - 1), CELL - GAP)
    return figure


def sample_of(tested: pd.DataFrame, columns: int = COLUMNS) -> pd.DataFrame:
    """The images of a figure, none of them picked by eye: by the rank of their scores, at even steps.

    With masks, one normal image and then all kinds of defect, as many of each as the columns admit, more of the first
    in the alphabet; without masks half normal, half anomalous.

    Args:
        tested: the test images with their `pred_score`, `label`, `defect` and `mask`.
    """
    ranked = tested.sort_values("pred_score", kind="stable")
    normal, anomalous = ranked[ranked.label == 0], ranked[ranked.label == 1]
    if not (tested["mask"] != "").any():
        return pd.concat([spread(normal, columns // 2), spread(anomalous, columns - columns // 2)])
    kinds = dict(list(anomalous.groupby("defect")))
    free = min(max(columns - 1, len(kinds)), len(anomalous))
    counts = dict.fromkeys(kinds, 0)
    while free:
        for kind in [kind for kind in kinds if counts[kind] < len(kinds[kind])][:free]:
            counts[kind] += 1
            free -= 1
    return pd.concat([spread(normal, 1), *(spread(kinds[kind], counts[kind]) for kind in kinds)])
