"""The metrics of a study's runs, gathered and summarised over seeds and categories. Values are per cent."""

from pathlib import Path

import pandas as pd

from adtr.config.paths import Paths
from adtr.config.schema import FOLDERS
from adtr.config.study import Plan, Run
from adtr.errors import UserError
from adtr.records import Record
from adtr.tables import specs
from adtr.train.outdated import outdated

MEAN = "mean"
TABLES = "tables/record.json"  # of a study
METRICS = {
    "image_auroc": "image AUROC",
    "image_auroc_all": "image AUROC, all anomalous test images",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "image_ap": "image average precision",
    "image_auroc_max": "image AUROC, score by maximum",
    "image_auroc_mean": "image AUROC, score by mean",
    "pixel_ap": "pixel average precision",
}
OURS = ("adtr", "adtr_plus", "residual")  # methods; the others are baselines
PIXELS = ["pixel_auroc", "aupro", "pixel_ap"]
MASKLESS = "undefined: no image of the category has a mask"
# Beside image_auroc
OF_LAYOUT = {layout: ["pixel_auroc", "aupro"] for layout in FOLDERS} | {"cifar10": ["image_auroc_all"]}
RUN = ["dataset", "experiment", "category", "metric"]


def study_metrics(plan: Plan) -> list[tuple[str, str]]:
    """(data set, metric) of the tables that show a study's own data sets."""
    return [
        (name, metric)
        for name, dataset in plan.datasets.items()
        for metric in ["image_auroc", *OF_LAYOUT.get(dataset.layout, [])]
    ]


def row_order(plan: Plan, dataset: str) -> list[str]:
    """The experiments of a data set as every table lists them: ours with its ablations, then the baselines."""
    return sorted(plan.study.datasets[dataset], key=lambda e: plan.params[dataset, e].method not in OURS)


def read_metrics(record: Record, name: str) -> pd.DataFrame:
    """Tidy metrics; only the value is a number, as a category may be called '001' or 'nan'."""
    table = record.table(name, dtype=str, keep_default_na=False)
    return table.assign(value=[float(text or "nan") for text in table.value])


def tables_record(results: Path, params: Path) -> Record:
    """What vouches for a study's metrics.csv and tables.

    Raises:
        UserError: they were not made, or beside other numbers of the paper than those of `params`.
    """
    record, now = Record(results / TABLES), specs.digests(params)
    then = record.values.get("printed", {})  # an earlier version recorded none
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            raise UserError(f"{params / name}: not as it was for {record.path}: restore it, or make the tables again")
    return record


def collect(paths: Paths) -> pd.DataFrame:
    """The tidy metrics of all runs of a study.

    Raises:
        UserError: runs are missing, or were made with other parameters.
    """
    files = run_files(paths, "evaluation.json", "metrics")
    refuse_outdated(paths)
    rows = pd.concat(
        [_metrics_of(run, path) for run, path in zip(paths.plan.runs(), files, strict=True)], ignore_index=True
    )
    return _with_undefined(rows.assign(seed=rows.seed.astype(int)))


def _with_undefined(metrics: pd.DataFrame) -> pd.DataFrame:
    """Each run has metrics of pixels, undefined ones if its category has no masks, where another category has some."""
    runs = metrics.drop_duplicates([*Run._fields]).drop(columns=["metric", "value", "note"])
    measured = metrics[metrics.metric.isin(PIXELS)]
    every = runs.merge(measured[["dataset", "metric"]].drop_duplicates())
    rest = every.merge(measured, "left", indicator=True)
    rest = rest[rest._merge == "left_only"].drop(columns="_merge").assign(note=MASKLESS)
    return pd.concat([metrics, rest[metrics.columns]], ignore_index=True) if len(rest) else metrics


def _metrics_of(run: Run, path: Path) -> pd.DataFrame:
    """The tidy metrics of a run; what lies there may have been copied from another run."""
    rows = read_metrics(Record(path), "metrics.csv")
    if (rows[[*Run._fields]].astype(str) != [*map(str, run)]).any(axis=None):
        raise UserError(f"{path.with_name('metrics.csv')}: not of {run}: remove {path.parent}, then it is made again")
    return rows


def refuse_outdated(paths: Paths) -> None:
    """Raises a UserError if runs were made with other parameters than the plan's."""
    if run := next(outdated(paths), None):
        raise UserError(
            f"runs of other parameters, such as {run}: pass the parameters that they were made with (--set), or let "
            f"`adtr prune --study {paths.plan.name}` remove them"
        )


def run_files(paths: Paths, name: str, what: str) -> list[Path]:
    """The file `name` of every run, in the order of the study.

    Raises:
        UserError: some are missing.
    """
    files = [paths.run(run) / name for run in paths.plan.runs()]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(files)} runs have no {what} yet, such as {missing[0]}")
    return files


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every data set, experiment, category and metric.

    The category 'mean' is the unweighted mean over categories of each seed, then summarised over seeds; it is undefined
    where a category is, or where the data set's other metrics have one more.

    Args:
        metrics: the tidy rows of all runs.
    """
    by_seed = metrics.groupby(["dataset", "experiment", "metric", "seed"], sort=False, as_index=False)
    means = by_seed.agg(
        value=("value", lambda values: values.mean(skipna=False)),
        size=("value", "size"),
        provenance=("provenance", " ".join),
    )
    categories = means.dataset.map(metrics.groupby("dataset").category.nunique())
    means["value"] = means.value.where(means.pop("size") == categories)
    rows = pd.concat([metrics, means.assign(category=MEAN)], ignore_index=True)
    return rows.groupby(RUN, sort=False, as_index=False).agg(
        mean=("value", lambda values: values.mean(skipna=False)),
        sd=("value", "std"),
        n=("value", "size"),
        provenance=("provenance", " ".join),
    )
