"""What DVC compares between two states of a study: metrics by name, and the curves of its plots, as small files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adtr.config.study import Plan, run_folder
from adtr.evaluate.metrics import UndefinedMetric, roc_curve
from adtr.files import write_text
from adtr.tables.summary import collect, study_metrics, summarize

FILES = ["metrics.json", "plots/categories.csv", "plots/training.csv", "plots/roc.csv"]
GRID = np.linspace(0, 1, 101)  # false positive rates


def write_plots(plan: Plan, results: Path) -> None:
    """Writes the four files from a study's finished runs.

    Args:
        results: the study's folder of results, which they are written to.

    Raises:
        UserError: runs are missing.
    """
    shown = summarize(collect(plan, results))
    shown = shown[[key in set(study_metrics(plan)) for key in zip(shown.dataset, shown.metric, strict=True)]]
    write_text(results / FILES[0], json.dumps(nested(shown), indent=1) + "\n")
    titled = shown.assign(experiment=shown.experiment.map(plan.titles))
    tables = [
        titled[["dataset", "experiment", "category", "metric", "mean"]],
        training(plan, results),
        roc(plan, results),
    ]
    for name, table in zip(FILES[1:], tables, strict=True):
        write_text(results / name, table.to_csv(index=False, float_format="%.5g"))


def nested(summary: pd.DataFrame) -> dict[str, Any]:
    """Mean over seeds, in per cent: data set, experiment, metric, category; None where it is undefined."""
    found: dict[str, Any] = {}
    for row in summary.itertuples():
        experiment = found.setdefault(row.dataset, {}).setdefault(row.experiment, {})
        experiment.setdefault(row.metric, {})[row.category] = None if np.isnan(row.mean) else round(row.mean, 3)
    return found


def training(plan: Plan, results: Path) -> pd.DataFrame:
    """The training loss after each epoch, averaged over categories and seeds: dataset, experiment, epoch, loss."""
    rows = [
        pd.read_csv(folder / "history.csv").assign(dataset=dataset, experiment=experiment)
        for dataset, experiment, folder in _runs(plan, results)
    ]
    columns = ["dataset", "experiment", "epoch"]
    return pd.concat(rows).groupby(columns, sort=False).loss.mean().reset_index()


def roc(plan: Plan, results: Path) -> pd.DataFrame:
    """ROC curves of the image score, averaged vertically over categories and seeds (Fawcett 2006, Sec. 8.2).

    Columns: dataset, experiment, fpr, tpr; a category without both classes is left out.
    """
    rows = []
    for dataset, experiment, folder in _runs(plan, results):
        scores = pd.read_csv(folder / "scores.csv").query("split == 'test'")
        try:
            fpr, tpr = roc_curve(scores.label.to_numpy() == 1, scores.pred_score.to_numpy(float))
        except UndefinedMetric:
            continue
        curve = {"fpr": GRID, "tpr": np.interp(GRID, fpr, tpr)}
        rows.append(pd.DataFrame(curve).assign(dataset=dataset, experiment=experiment))
    columns = ["dataset", "experiment", "fpr"]
    if not rows:
        return pd.DataFrame(columns=[*columns, "tpr"])
    return pd.concat(rows).groupby(columns, sort=False).tpr.mean().reset_index()


def _runs(plan: Plan, results: Path) -> Iterator[tuple[str, str, Path]]:
    """Data set, title of the experiment and folder of each run."""
    for dataset, experiment, category, seed in plan.runs():
        yield dataset, plan.titles[experiment], run_folder(results, dataset, experiment, category, seed)
