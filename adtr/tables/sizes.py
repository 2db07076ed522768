"""How large the trained networks are: parameters and features of every experiment."""

import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Plan, Run
from adtr.evaluate.bootstrap import REFERENCE
from adtr.records import Record
from adtr.tables.render import DASH, Sheet
from adtr.tables.summary import run_files


def networks(paths: Paths) -> pd.DataFrame:
    """Of each run: dataset, experiment, category, seed, parameters, tokens, channels.

    Raises:
        UserError: a run.json is missing.
    """
    rows = []
    for run, path in zip(paths.plan.runs(), run_files(paths, "run.json", "record"), strict=True):
        record = Record(path).values
        rows.append((*run, record["parameters"], *record["features"]["shape"][1:]))
    return pd.DataFrame(rows, columns=[*Run._fields, "parameters", "tokens", "channels"])


def parameters(plan: Plan, sizes: pd.DataFrame) -> pd.DataFrame:
    """The parameters of each trained network, and their ratio to ADTR's: title, experiment, dataset, tokens, ...

    Args:
        sizes: of all runs, of `networks`.
    """
    table = sizes[sizes.parameters > 0].drop(columns=["category", "seed"]).drop_duplicates()
    reference = table[table.experiment == REFERENCE].set_index("dataset").parameters
    ratio = table.parameters / table.dataset.map(reference).astype(float)
    columns = ["title", "experiment", "dataset", "tokens", "channels", "parameters", "ratio"]
    return table.assign(ratio=ratio, title=table.experiment.map(plan.titles))[columns].reset_index(drop=True)


def sheet(plan: Plan, table: pd.DataFrame) -> Sheet:
    """An experiment a row; for each data set tokens x channels of its features, and parameters with their ratio."""
    rows: dict[str, dict[str, str]] = {}
    for entry in table.itertuples():
        row = rows.setdefault(entry.experiment, {"experiment": plan.titles[entry.experiment]})
        name = min(entry.dataset, plan.datasets[entry.dataset].title, key=len)  # a title may be a sentence
        prefix = f"{name}: " if len(plan.datasets) > 1 else ""
        ratio = DASH if pd.isna(entry.ratio) else f"{entry.ratio:.2f}"
        row[f"{prefix}features"] = f"{entry.tokens} × {entry.channels}"
        row[f"{prefix}parameters"] = f"{entry.parameters:,} ({ratio})"
    columns = dict.fromkeys(["experiment", *(key for row in rows.values() for key in row)])
    text = pd.DataFrame(rows.values(), columns=list(columns)).fillna(DASH)
    note = "Features: tokens × channels of an image. In brackets the ratio to ADTR's. Only trained networks are listed."
    return Sheet("Trained parameters", text, [note if rows else "Nothing was trained."])
