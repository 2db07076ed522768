"""What resampled test images make of a study's metrics: draws from the files of its runs, intervals for its tables."""

import io

import numpy as np
import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Plan, Run
from adtr.evaluate import bootstrap
from adtr.evaluate.bootstrap import KEYS, Draws
from adtr.evaluate.pixels import Counts
from adtr.records import Record
from adtr.tables.summary import MEAN, RUN, study_metrics

SAMPLED = "95 % intervals are those of drawing other test images, with the trained models held fixed."
BEHIND = ["behind", "behind_low", "behind_high"]  # the gap to the best of a column, and its interval


def read_draws(paths: Paths) -> Draws:
    """The metrics of every run of a study for every draw of its test images.

    Raises:
        UserError: a file is missing or damaged.
    """
    plan, found, images = paths.plan, {}, dict[tuple[str, str, str], dict[str, int]]()
    for dataset in plan.datasets:
        runs = [run for run in plan.runs() if run.dataset == dataset]
        first = {run.category: run for run in reversed(runs)}
        pools = [_scores(_record(paths, run)).assign(category=name) for name, run in first.items()]
        weights = bootstrap.weights(pd.concat(pools, ignore_index=True))
        for run in runs:
            scores, counts = read_evaluated(paths, run)
            limit = plan.params[dataset, run.experiment].score.aupro_limit
            test = scores[scores.split == "test"].label
            for metric, draws in of_run(scores, counts, weights.loc[scores.image].to_numpy(), limit).items():
                found[dataset, metric, run.experiment, run.category, run.seed] = 100 * draws
                anomalous = (test == 1).sum() if metric.startswith("image") else len(np.unique(counts.image))
                fewest = images.get((dataset, metric, run.category), {"anomalous": anomalous})["anomalous"]
                counted = {"normal": (test == 0).sum(), "anomalous": min(fewest, anomalous)}  # masks vanish by size
                images[dataset, metric, run.category] = counted
    values = pd.DataFrame(np.stack([*found.values()]), pd.MultiIndex.from_tuples(found, names=KEYS))
    counted = pd.DataFrame(
        [*images.values()], pd.MultiIndex.from_tuples(images, names=["dataset", "metric", "category"])
    )
    return Draws(values.sort_index(), counted.sort_index())


def read_evaluated(paths: Paths, run: Run) -> tuple[pd.DataFrame, Counts]:
    """The scores of a run's images: image, split, defect, label, pred_score; and the counts of their pixels."""
    record = _record(paths, run)
    with np.load(io.BytesIO(record.read("pixels.npz"))) as file:
        return _scores(record), Counts(**file)


def _record(paths: Paths, run: Run) -> Record:
    return Record(paths.run(run) / "evaluation.json")


def _scores(record: Record) -> pd.DataFrame:
    table = record.table("scores.csv", dtype=str, keep_default_na=False)
    numbers = {"label": table.label.astype(int), "pred_score": [float(text or "nan") for text in table.pred_score]}
    return table[["image", "split", "defect"]].assign(**numbers)


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
    categories_of = metrics.groupby("dataset").category.nunique()
    for key, drawn in draws.values.groupby(level=KEYS[:3], sort=False):
        values = measured.loc[key].groupby(level="category").mean(skipna=False)
        each = {name: of.to_numpy().mean(axis=0) for name, of in drawn.groupby(level="category")}
        whole = [(MEAN, [*each])] if len(each) == categories_of[key[0]] else []
        for name, categories in [*((name, [name]) for name in each), *whole]:
            mean = np.mean([each[category] for category in categories], axis=0)
            degrees = bootstrap.freedom(draws, key[0], key[1], categories)
            value = float(values[categories].to_numpy().mean())
            rows.append((*key, name, *bootstrap.interval(value, mean, degrees)))
    return pd.DataFrame(rows, columns=[*KEYS[:4], "low", "high"])


def level_with_best(metrics: pd.DataFrame, draws: Draws) -> pd.DataFrame:
    """RUN; `best`: whether an experiment is the best of its column, or not distinguishable from it; the gap to it.

    It is not if the paired 95 % interval of their difference holds 0, or if both print alike. A column is a category,
    or MEAN; where all its values print alike none is the best. The gap is the best's value less the experiment's, in
    points, with that interval: `behind`, `behind_low` and `behind_high`.

    Args:
        metrics: the tidy rows of all runs, as of `summary.collect`.
    """
    by_seeds = metrics.groupby(RUN, sort=False).value.mean().unstack("experiment")
    drawn, rows = draws.values.groupby(level=KEYS[:4]).mean(), []
    for (dataset, metric), columns in by_seeds.groupby(level=["dataset", "metric"], sort=False):
        if (dataset, metric) not in drawn.index.droplevel(["experiment", "category"]):
            continue
        names = [*columns.index.get_level_values("category")]
        for column, categories in [*((name, [name]) for name in names), (MEAN, names)]:
            means = columns[columns.index.get_level_values("category").isin(categories)].mean(skipna=False).dropna()
            printed = means.round(1)
            if printed.nunique() < 2:
                continue
            leader = means.idxmax()
            of = {
                e: drawn.loc[[(dataset, metric, e, c) for c in categories]].to_numpy().mean(axis=0) for e in means.index
            }
            degrees = bootstrap.freedom(draws, dataset, metric, categories)
            for experiment in means.index:
                pair = (means[leader], means[experiment]), (of[leader], of[experiment])
                low, high = bootstrap.difference(*pair, degrees) if experiment != leader else (0.0, 0.0)
                level = printed[experiment] == printed[leader] or low <= 0 <= high
                gap = means[leader] - means[experiment]
                rows.append((dataset, experiment, column, metric, level, gap, low, high))
    return pd.DataFrame(rows, columns=[*RUN, "best", *BEHIND])


def with_intervals(summary: pd.DataFrame, plan: Plan, tables: Record) -> pd.DataFrame:
    """Columns low, high, best and BEHIND beside a `summary` of metrics, from the tables of the study's data sets.

    Args:
        tables: as of `summary.tables_record`.
    """
    numbers = ["low", "high", *BEHIND]
    found = [pd.DataFrame(columns=[*RUN, "best", *numbers])]
    for dataset, metric in study_metrics(plan):
        cells = tables.table(f"{dataset}_{metric}.csv", dtype=str, keep_default_na=False)
        names = {plan.titles[experiment]: experiment for experiment in plan.study.datasets[dataset]}
        ends: dict[str, list[float | bool]] = {name: [float(text or "nan") for text in cells[name]] for name in numbers}
        ends["best"] = [text == "True" for text in cells.best]
        key = {"dataset": dataset, "experiment": cells.row.map(names), "category": cells.column, "metric": metric}
        found.append(pd.DataFrame(key | ends))
    merged = summary.merge(pd.concat([of for of in found if len(of)] or found), "left", RUN)
    return merged.assign(best=merged.best.eq(True))
