"""The paper's tables as it prints them, ours beside them.

A table is a frame with a row for every cell: row, column, mean, sd, n (runs), printed (the paper's digits), note and
provenance. A cell that was not run or is undefined has no mean. Notes on a whole table are in its attrs.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from adtr.tables.render import TO_ADTR, listed
from adtr.tables.summary import MEAN

CELL = ["row", "column", "mean", "sd", "n", "printed", "note", "provenance"]
EMPTY = {"mean": math.nan, "sd": math.nan, "n": 0, "printed": "", "note": "", "provenance": ""}


def of_paper(spec: Mapping[str, Any], summary: pd.DataFrame) -> pd.DataFrame:
    """Tables 1 to 3: the paper's rows as printed, its own methods with ours and the difference, then others'.

    Args:
        spec: the table, of `read_specs`; its `paper` has method, reference, category, value, note; its `others` method,
            category, value, source.
        summary: of the data set that stands for the table's benchmark, with its metrics.
    """
    paper, measured = spec["paper"], summary[summary.metric == spec["metric"]]
    columns = list(dict.fromkeys(paper.category))
    cells = []
    for method, printed in paper.groupby("method", sort=False):
        experiment = spec["ours"].get(method)
        row = f"{method} (paper)" if experiment else f"{method} [{printed.reference.iloc[0]}]"
        cells.append(_printed(printed.assign(row=row, column=printed.category)))
        if experiment:
            ours = _ours(measured, experiment, columns, f"{method} (ours)")
            gap = ours["mean"] - ours.column.map(printed.set_index("category").value.astype(float))
            difference = pd.DataFrame({"row": f"{method} (difference)", "column": ours.column, "mean": gap})
            cells += [ours, _completed(difference)]
    cells += [_third_party(method, rows, columns) for method, rows in spec["others"].groupby("method", sort=False)]
    further = {name: e for name, e in spec.get("further", {}).items() if e in set(measured.experiment)}
    cells += [_ours(measured, experiment, columns, f"{name} (ours)") for name, experiment in further.items()]
    table = pd.concat(cells, ignore_index=True)
    notes = _sources(spec)
    if further:
        notes.append(
            f"{listed(further)}: measured here, with our code, on our features (Autoencoder: on pixels). A printed "
            "row of the same name is of another program, and of other features."
        )
    table.attrs["notes"] = notes
    return table


def of_ablation(
    spec: Mapping[str, Any], summary: pd.DataFrame, features: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Table 4: a variant a row; columns paper, ours, their difference, and what each variant loses against ADTR.

    The paper prints means over its `categories`, so there is a difference only where ours has as many.

    Args:
        features: parameters of our experiments' features; where adtr's backbone is not the paper's, the row that names
            the paper's stays empty and adtr has one of its own.
    """
    paper, categories, ours = spec["paper"], spec["categories"], summary[summary.metric == spec["metric"]]
    means = ours[ours.category == MEAN].set_index("experiment")
    here = list(dict.fromkeys(ours.category[ours.category != MEAN]))
    backbone = features.get("adtr", {}).get("backbone", spec["backbone"])
    entries = pd.concat([paper, _further(spec, features, set(means.index))]).sort_values("part", kind="stable")
    adtr = float(paper[paper.variant == "adtr"].value.iloc[0]), means["mean"].get("adtr", math.nan)
    cells = []
    for entry in entries.itertuples():
        row, printed = f"({entry.part}) {entry.label}", float(entry.value)
        measured, note = means[means.index == entry.variant], ""
        if entry.variant == "adtr" and entry.label == spec["named"] and backbone != spec["backbone"]:
            measured, note = measured[:0], f"the study's adtr has another backbone, {backbone}"
        measured = measured.assign(note=note) if len(measured) else pd.DataFrame({"mean": [math.nan], "note": [note]})
        mean = measured["mean"].iloc[0]
        gap = mean - printed if len(here) == categories else math.nan
        changes = [math.nan] * 2 if entry.variant == "adtr" else [printed - adtr[0], mean - adtr[1]]
        cells += [
            _printed(pd.DataFrame([{"row": row, "column": "paper", "value": entry.value, "note": entry.note}])),
            _completed(measured.assign(row=row, column="ours")),
            _completed(pd.DataFrame({"row": row, "column": ["difference", *TO_ADTR], "mean": [gap, *changes]})),
        ]
    table = pd.concat(cells, ignore_index=True)
    parts = [f"({part}) {title}" for part, title in spec["parts"].items() if part in set(entries.part)]
    table.attrs["notes"] = ["; ".join(parts) + "."]
    if here and len(here) != categories:
        table.attrs["notes"].append(
            f"Ours is the mean over {len(here)} of the paper's {categories} categories ({listed(here)}): a difference "
            "to the paper's mean over all would say nothing, what a change does to ADTR may be compared."
        )
    return table


def _further(spec: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], run: set[Any]) -> pd.DataFrame:
    """Rows that the paper does not have, of experiments that were run."""
    rows = []
    for entry in spec.get("further", []):
        used = features.get(entry["variant"], {})
        papers = entry["variant"] == "adtr" and used.get("backbone") == spec["backbone"]
        if entry["variant"] in run and used and not papers:
            names = {**used, "backbone": spec["names"].get(used["backbone"], used["backbone"])}
            rows.append({**entry, "label": entry["label"].format(**names), "value": math.nan, "note": ""})
    return pd.DataFrame(rows, columns=["part", "label", "variant", "value", "note"])


def _sources(spec: Mapping[str, Any]) -> list[str]:
    """Who measured the third parties' rows, and what they did otherwise than the paper."""
    methods, how = spec["others"].groupby("source", sort=False).method.unique(), spec.get("third_party", {})
    lines = [f"{listed(names)}, third party: {how[source]} ({source})." for source, names in methods.items()]
    return [*lines, "A third party's mean is formed here, of its cells."] if lines else []


def _third_party(method: str, rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """A row of somebody else's numbers; the mean where every category has one."""
    values = rows.set_index("category").value.astype(float).reindex(columns)
    values[MEAN] = values.drop(MEAN).mean(skipna=False)
    cells = pd.DataFrame({"column": columns, "mean": values.to_numpy()})
    return _completed(cells.assign(row=f"{method} (third party)", provenance="third party"))


def _printed(rows: pd.DataFrame) -> pd.DataFrame:
    values = rows["value"]
    printed = values.astype(object).where(values.notna(), "")
    return _completed(rows.assign(mean=values.astype(float), printed=printed, provenance="paper"))


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table in their order, empty where there is no value."""
    missing = {name: value for name, value in EMPTY.items() if name not in rows}
    return rows.assign(**missing)[CELL].fillna({"n": 0, "printed": "", "note": "", "provenance": ""})


def _ours(measured: pd.DataFrame, experiment: str, columns: list[str], row: str) -> pd.DataFrame:
    """A row of ours; the mean only where every category of the paper was run."""
    cells = measured[measured.experiment == experiment].set_index("category").reindex(columns)
    if cells.drop(MEAN, errors="ignore")["mean"].isna().any():
        cells.loc[MEAN, ["mean", "sd"]] = math.nan
    return _completed(cells.assign(row=row, column=cells.index))
