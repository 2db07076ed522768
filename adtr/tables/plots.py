"""What DVC compares between two states of a study: metrics by name, and the curves of its plots, as small files."""

import json
from typing import Any

import numpy as np
import pandas as pd
import yaml

from adtr.config.levels import flatten, unflatten
from adtr.config.paths import Paths
from adtr.config.study import PLOTS, Plan
from adtr.evaluate.metrics import roc_curve
from adtr.files import write_text
from adtr.records import Record, as_csv, vouch
from adtr.tables.colours import colours
from adtr.tables.summary import METRICS, collect, study_metrics, summarize

GRID = np.linspace(0, 1, 101)  # false positive rates


def write_plots(paths: Paths) -> None:
    """Writes the files of PLOTS from a study's finished runs.

    Raises:
        UserError: runs are missing.
    """
    plan, results = paths.plan, paths.results
    summary = summarize(collect(paths))
    main = set(study_metrics(plan))
    summary = summary[[key in main for key in zip(summary.dataset, summary.metric, strict=True)]]
    write_text(results / PLOTS[0], json.dumps(nested(summary), indent=1) + "\n")
    write_text(results / PLOTS[1], yaml.safe_dump(parameters(plan), sort_keys=False))
    categories = summary.assign(metric=summary.metric.map(METRICS))
    categories = categories[["dataset", "experiment", "category", "metric", "mean"]]
    colour_of = colours(plan)
    for name, table in zip(PLOTS[2:], [categories, training(paths), roc(paths)], strict=True):
        table = table.assign(colour=table.experiment.map(colour_of), experiment=table.experiment.map(plan.titles))
        write_text(results / name, as_csv(table, float_format="%.5g"))
    vouch(results / "plots/record.json", [results / name for name in PLOTS])


def nested(summary: pd.DataFrame) -> dict[str, Any]:
    """Mean over seeds, in per cent: data set, experiment, metric, category; None where it is undefined."""
    tree: dict[str, Any] = {}
    for row in summary.itertuples():
        metrics = tree.setdefault(row.dataset, {}).setdefault(row.experiment, {})
        metrics.setdefault(row.metric, {})[row.category] = None if np.isnan(row.mean) else round(row.mean, 3)
    return tree


def parameters(plan: Plan) -> dict[str, Any]:
    """The parameters that a study's runs read, by section and name; those that differ by what they differ by.

    That is the experiment or, where its data sets differ, too, `dataset/experiment`.
    """
    values: dict[str, dict[tuple[str, str], Any]] = {}
    for names, params in plan.params.items():
        for key, (value, _) in flatten(params.decisive(), "").items():
            values.setdefault(key, {})[names] = value
    agreed = {}
    for key, by_names in values.items():
        by_experiment = {experiment: value for (_, experiment), value in by_names.items()}
        alike = all(by_experiment[experiment] == value for (_, experiment), value in by_names.items())
        found: Any = by_experiment if alike else {"/".join(names): value for names, value in by_names.items()}
        first = next(iter(found.values()))
        agreed[key] = (first if all(value == first for value in found.values()) else found), ""
    return unflatten(agreed, [])


def training(paths: Paths) -> pd.DataFrame:
    """The training loss after each epoch, averaged over categories and seeds: dataset, experiment, epoch, loss.

    The epochs of a training that starts from another's end count from there.
    """
    histories = []
    for run in paths.plan.runs():
        history = Record(paths.run(run) / "run.json").table("history.csv")
        epochs = history.epoch + paths.plan.epochs_before(run.dataset, run.experiment)
        histories.append(history.assign(dataset=run.dataset, experiment=run.experiment, epoch=epochs))
    return pd.concat(histories).groupby(["dataset", "experiment", "epoch"], sort=False).loss.mean().reset_index()


def roc(paths: Paths) -> pd.DataFrame:
    """ROC curves of the image score, averaged vertically over categories and seeds (Fawcett 2006, Sec. 8.2).

    Columns: dataset, experiment, fpr, tpr in per cent; a category without both classes is left out.
    """
    curves = [pd.DataFrame(columns=["dataset", "experiment", "fpr", "tpr"])]
    for run in paths.plan.runs():
        scores = Record(paths.run(run) / "evaluation.json").table("scores.csv").query("split == 'test'")
        if scores.label.nunique() == 2:
            fpr, tpr = roc_curve(scores.label.to_numpy() == 1, scores.pred_score.to_numpy(float))
            columns = {"dataset": run.dataset, "experiment": run.experiment, "fpr": 100 * GRID}
            curves.append(pd.DataFrame(columns | {"tpr": 100 * np.interp(GRID, fpr, tpr)}))
    curves = curves[1:] or curves  # none of them has both classes
    return pd.concat(curves).groupby(["dataset", "experiment", "fpr"], sort=False).tpr.mean().reset_index()
