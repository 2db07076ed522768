"""What DVC compares between two states of a study: metrics by name, and the curves of its plots, as small files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adtr.config.study import PLOTS, Plan, run_folder
from adtr.evaluate.metrics import roc_curve
from adtr.files import write_text
from adtr.records import Record, vouch
from adtr.tables.summary import collect, study_metrics, summarize

GRID = np.linspace(0, 1, 101)  # false positive rates


def write_plots(plan: Plan, results: Path) -> None:
    """Writes the four files from a study's finished runs.

    Args:
        results: the study's folder of results, which they are written to.

    Raises:
        UserError: runs are missing.
    """
    summary = summarize(collect(plan, results))
    main = set(study_metrics(plan))
    summary = summary[[key in main for key in zip(summary.dataset, summary.metric, strict=True)]]
    write_text(results / PLOTS[0], json.dumps(nested(summary), indent=1) + "\n")
    titled = summary.assign(experiment=summary.experiment.map(plan.titles))
    categories = titled[["dataset", "experiment", "category", "metric", "mean"]]
    for name, table in zip(PLOTS[1:], [categories, training(plan, results), roc(plan, results)], strict=True):
        write_text(results / name, table.to_csv(index=False, float_format="%.5g"))
    vouch(results / "plots/record.json", [results / name for name in PLOTS])


def nested(summary: pd.DataFrame) -> dict[str, Any]:
    """Mean over seeds, in per cent: data set, experiment, metric, category; None where it is undefined."""
    tree: dict[str, Any] = {}
    for row in summary.itertuples():
        metrics = tree.setdefault(row.dataset, {}).setdefault(row.experiment, {})
        metrics.setdefault(row.metric, {})[row.category] = None if np.isnan(row.mean) else round(row.mean, 3)
    return tree


def training(plan: Plan, results: Path) -> pd.DataFrame:
    """The training loss after each epoch, averaged over categories and seeds: dataset, experiment, epoch, loss."""
    runs = _runs(plan, results)
    histories = (Record(folder / "run.json").table("history.csv").assign(**names) for names, folder in runs)
    return pd.concat(histories).groupby(["dataset", "experiment", "epoch"], sort=False).loss.mean().reset_index()


def roc(plan: Plan, results: Path) -> pd.DataFrame:
    """ROC curves of the image score, averaged vertically over categories and seeds (Fawcett 2006, Sec. 8.2).

    Columns: dataset, experiment, fpr, tpr; a category without both classes is left out.
    """
    curves = [pd.DataFrame(columns=["dataset", "experiment", "fpr", "tpr"])]
    for names, folder in _runs(plan, results):
        scores = Record(folder / "evaluation.json").table("scores.csv").query("split == 'test'")
        if scores.label.nunique() == 2:
            fpr, tpr = roc_curve(scores.label.to_numpy() == 1, scores.pred_score.to_numpy(float))
            curves.append(pd.DataFrame({"fpr": GRID, "tpr": np.interp(GRID, fpr, tpr)}).assign(**names))
    curves = curves[1:] or curves  # none of them has both classes
    return pd.concat(curves).groupby(["dataset", "experiment", "fpr"], sort=False).tpr.mean().reset_index()


def _runs(plan: Plan, results: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """The data set and the title of the experiment, and the folder, of each run."""
    for dataset, experiment, category, seed in plan.runs():
        names = {"dataset": dataset, "experiment": plan.titles[experiment]}
        yield names, run_folder(results, dataset, experiment, category, seed)
