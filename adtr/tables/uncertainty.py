"""What resampled test images make of a study's metrics: draws from the files of its runs, intervals for its tables."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from adtr.config.study import Plan, run_folder
from adtr.evaluate import bootstrap
from adtr.evaluate.bootstrap import KEYS, Draws
from adtr.evaluate.pixels import Counts
from adtr.records import Record
from adtr.tables.summary import MEAN, RUN, study_metrics

SAMPLED = "95 % intervals are of the choice of test images, with the trained models held fixed."


def read_draws(plan: Plan, results: Path) -> Draws:
    """The metrics of every run of a study for every draw of its test images.

    Raises:
        UserError: a file is missing or damaged.
    """
    found, images = {}, {}
    for dataset in plan.datasets:
        runs = [run for run in plan.runs() if run.dataset == dataset]
        first = {run.category: run for run in reversed(runs)}
        pools = [read_scores(_record(results, run)).assign(category=name) for name, run in first.items()]
        weights = bootstrap.weights(pd.concat(pools, ignore_index=True))
        for run in runs:
            scores = read_scores(_record(results, run))
            with np.load(io.BytesIO(_record(results, run).read("pixels.npz"))) as file:
                counts = Counts(**file)
            limit = plan.params[dataset, run.experiment].score.aupro_limit
            for metric, draws in of_run(scores, counts, weights.loc[scores.image].to_numpy(), limit).items():
                found[dataset, metric, run.experiment, run.category, run.seed] = 100 * draws
            test = scores[scores.split == "test"].label
            images[dataset, run.category] = {"normal": (test == 0).sum(), "anomalous": (test == 1).sum()}
    values = pd.DataFrame(np.stack([*found.values()]), pd.MultiIndex.from_tuples(found, names=KEYS))
    counted = pd.DataFrame([*images.values()], pd.MultiIndex.from_tuples(images, names=["dataset", "category"]))
    return Draws(values.sort_index(), counted)


def _record(results: Path, run: tuple[str, str, str, int]) -> Record:
    return Record(run_folder(results, *run) / "evaluation.json")


def read_scores(record: Record) -> pd.DataFrame:
    """The scores of a run: image, label, split, pred_score."""
    table = record.table("scores.csv", dtype=str, keep_default_na=False)
    numbers = {"label": table.label.astype(int), "pred_score": [float(text or "nan") for text in table.pred_score]}
    return table[["image", "split"]].assign(**numbers)


def of_run(scores: pd.DataFrame, counts: Counts, weights: np.ndarray, limit: float) -> dict[str, np.ndarray]:
    """The draws (D,) of each metric of a run, as a share of 1, for weights (N, D) of its images.

    Args:
        scores, counts: of the same N images, in the same order.
        limit: the largest false-positive rate of AUPRO.
    """
    label, score, test = scores.label == 1, scores.pred_score.to_numpy(), scores.split == "test"
    found = {}
    with np.errstate(invalid="ignore", divide="ignore"):  # of a class without images
        for metric, chosen in {"image_auroc": test, "image_auroc_all": test | True}.items():
            normal, anomalous = (np.flatnonzero(chosen & of) for of in (~label, label))
            if metric == "image_auroc" or not test.all():
                parts = (array[of] for array in (score, weights) for of in (normal, anomalous))
                found[metric] = bootstrap.auroc(*parts)
    if counts.normal.size:
        found |= {"pixel_auroc": bootstrap.pixel_auroc(counts, weights)}
        found |= {"aupro": bootstrap.aupro(counts, weights, limit)}
    return found


def intervals(metrics: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """The 95 % intervals of what has draws: RUN, low, high; of each category, and of their mean as MEAN.

    Args:
        metrics: the tidy rows of all runs, as of `summary.collect`.
    """
    rows, measured = [], metrics.set_index(KEYS).value.sort_index()
    for key, drawn in draws.values.groupby(level=KEYS[:3], sort=False):
        values = measured.loc[key].groupby(level="category").mean(skipna=False)
        each = {name: of.to_numpy().mean(axis=0) for name, of in drawn.groupby(level="category")}
        whole = [(MEAN, [*each])] if len(each) == len(draws.images.loc[key[0]]) else []
        for name, categories in [*((name, [name]) for name in each), *whole]:
            mean = np.mean([each[category] for category in categories], axis=0)
            degrees = bootstrap.freedom(draws, key[0], categories)
            value = float(values[categories].to_numpy().mean())
            rows.append((*key, name, *bootstrap.interval(value, mean, degrees)))
    return pd.DataFrame(rows, columns=[*KEYS[:4], "low", "high"])


def with_intervals(summary: pd.DataFrame, plan: Plan, tables: Record) -> pd.DataFrame:
    """Columns low and high beside a `summary` of metrics, from the tables of the study's data sets.

    Args:
        tables: as of `summary.tables_record`.
    """
    found = [pd.DataFrame(columns=[*RUN, "low", "high"])]
    for dataset, metric in study_metrics(plan):
        cells = tables.table(f"{dataset}_{metric}.csv", dtype=str, keep_default_na=False)
        names = {plan.titles[experiment]: experiment for experiment in plan.study.datasets[dataset]}
        ends = {name: [float(text or "nan") for text in cells[name]] for name in ("low", "high")}
        key = {"dataset": dataset, "experiment": cells.row.map(names), "category": cells.column, "metric": metric}
        found.append(pd.DataFrame(key | ends))
    return summary.merge(pd.concat([of for of in found if len(of)] or found), "left", RUN)
