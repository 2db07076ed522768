"""The paper's tables as it prints them, ours beside them.

A table is a frame with a row for every cell: row, column, mean, sd, n (runs), printed (as the paper has it), note and
provenance. What was not run or is undefined has no mean. Notes on a whole table are in its attrs.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from adtr.tables.summary import MEAN

CELL = ["row", "column", "mean", "sd", "n", "printed", "note", "provenance"]
TO_ADTR = ["paper − ADTR", "ours − ADTR"]  # columns of the ablation: what a change alone does


def of_paper(spec: Mapping[str, Any], paper: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Tables 1 to 3: the paper's rows as printed, its own methods with ours and the difference, then our baselines.

    Args:
        spec: the table in params/tables.yaml.
        paper: method, reference, category, value, note.
        summary: of the data sets that stand for the table's benchmark, with their metrics.
    """
    columns = list(dict.fromkeys(paper.category))
    cells = []
    for method, printed in paper.groupby("method", sort=False):
        experiment = spec["ours"].get(method)
        name = f"{method} (paper)" if experiment else f"{method} [{printed.reference.iloc[0]}]"
        cells.append(_printed(printed.assign(row=name, column=printed.category)))
        if experiment:
            ours = _ours(summary, experiment, spec["metric"], columns)
            cells += _compared(printed.set_index("category"), ours, f"{method}")
    measured = summary[summary.metric == spec["metric"]] if spec.get("further") else summary[:0]
    further = {name: e for name, e in spec.get("further", {}).items() if e in set(measured.experiment)}
    for name, experiment in further.items():
        ours = _ours(summary, experiment, spec["metric"], columns)
        cells.append(_completed(_named(ours, f"{name} (ours)")))
    table = pd.concat(cells, ignore_index=True)
    if further:
        table.attrs["notes"] = [
            f"{listed(further)}: measured here, with our code, on our features (Autoencoder: on pixels). A printed "
            "row of the same name is of another program, and of other features."
        ]
    return table


def of_ablation(
    spec: Mapping[str, Any],
    paper: pd.DataFrame,
    summary: pd.DataFrame,
    categories: int,
    features: Mapping[str, Mapping[str, Any]],
) -> pd.DataFrame:
    """Table 4: a variant a row; columns paper, ours, their difference, and what each variant loses against ADTR.

    The paper prints means over all its categories, so there is a difference only where ours is one, too.

    Args:
        categories: how many the paper averages over.
        features: parameters of our experiments' features; where adtr's backbone is not the paper's, the row that names
            the paper's stays empty and adtr has one of its own.
    """
    ours = summary[summary.metric == spec["metric"]]
    means = ours[ours.category == MEAN].set_index("experiment")
    here = list(dict.fromkeys(ours.category[ours.category != MEAN]))
    backbone = features.get("adtr", {}).get("backbone", spec["backbone"])
    entries = pd.concat([paper, _extra(spec, features, set(means.index))]).sort_values("part", kind="stable")
    reference = float(paper[paper.variant == "adtr"].value.iloc[0]), _mean(means, "adtr")
    cells = []
    for entry in entries.itertuples():
        row, printed = f"({entry.part}) {entry.label}", float(entry.value)
        known, note = means[means.index == entry.variant], ""
        if entry.variant == "adtr" and entry.label == spec["named"] and backbone != spec["backbone"]:
            known, note = known[:0], f"the study's adtr has another backbone, {backbone}"
        known = known.assign(note=note) if len(known) else pd.DataFrame({"mean": [math.nan], "note": [note]})
        mean = known["mean"].iloc[0]
        gap = mean - printed if len(here) == categories else math.nan
        values = {"difference": gap, TO_ADTR[0]: printed - reference[0], TO_ADTR[1]: mean - reference[1]}
        if entry.variant == "adtr":
            values |= dict.fromkeys(TO_ADTR, math.nan)
        cells += [
            _printed(pd.DataFrame([{"row": row, "column": "paper", "value": entry.value, "note": entry.note}])),
            _completed(known.assign(row=row, column="ours")),
            _completed(pd.DataFrame({"row": row, "column": list(values), "mean": list(values.values())})),
        ]
    table = pd.concat(cells, ignore_index=True)
    parts = [f"({part}) {title}" for part, title in spec["parts"].items() if part in set(entries.part)]
    table.attrs["notes"] = ["; ".join(parts) + ".", *_coverage(here, categories)]
    return table


def _extra(spec: Mapping[str, Any], features: Mapping[str, Mapping[str, Any]], run: set[Any]) -> pd.DataFrame:
    """Rows that the paper does not have, of experiments that were run."""
    rows = []
    for entry in spec.get("further", []):
        used = features.get(entry["variant"], {})
        if entry["variant"] not in run or not used:
            continue
        if entry["variant"] == "adtr" and used["backbone"] == spec["backbone"]:
            continue
        names = {**used, "backbone": spec["names"].get(used["backbone"], used["backbone"])}
        rows.append({**entry, "label": entry["label"].format(**names), "value": math.nan, "note": ""})
    return pd.DataFrame(rows, columns=["part", "label", "variant", "value", "note"])


def _coverage(here: list[str], categories: int) -> list[str]:
    if not here or len(here) == categories:
        return []
    return [
        f"Ours is the mean over {len(here)} of the paper's {categories} categories ({listed(here)}): a difference to "
        "the paper's mean over all would say nothing, what a change does to ADTR may be compared."
    ]


def _mean(means: pd.DataFrame, experiment: str) -> float:
    return float(means.loc[experiment, "mean"]) if experiment in means.index else math.nan


def _printed(rows: pd.DataFrame) -> pd.DataFrame:
    values = rows["value"]
    return _completed(
        rows.assign(
            mean=values.astype(float), printed=values.astype(object).where(values.notna(), ""), provenance="paper"
        )
    )


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table in their order, with nothing where nothing is known."""
    empty: dict[str, Any] = {"mean": math.nan, "sd": math.nan, "n": 0, "printed": "", "note": "", "provenance": ""}
    missing = {name: value for name, value in empty.items() if name not in rows}
    return rows.assign(**missing)[CELL].fillna({"printed": "", "note": ""})


def _ours(summary: pd.DataFrame, experiment: str, metric: str, columns: list[str]) -> pd.DataFrame:
    """Our cells by category; the mean only where every category of the paper was run."""
    found = summary[(summary.experiment == experiment) & (summary.metric == metric)].set_index("category")
    found = found[~found.index.duplicated()].reindex(columns)
    if found.drop(MEAN, errors="ignore")["mean"].isna().any():
        found.loc[MEAN, ["mean", "sd"]] = math.nan
    return found


def _named(ours: pd.DataFrame, row: str) -> pd.DataFrame:
    return ours.assign(row=row, column=ours.index).fillna({"n": 0, "provenance": ""})


def _compared(printed: pd.DataFrame, ours: pd.DataFrame, method: str) -> list[pd.DataFrame]:
    gap = pd.DataFrame(
        {"row": f"{method} (difference)", "column": ours.index, "mean": ours["mean"] - printed.value.astype(float)}
    )
    return [_completed(_named(ours, f"{method} (ours)")), _completed(gap)]


def listed(names: Iterable[Any]) -> str:
    """'a, b and c'."""
    *most, last = [str(name) for name in names] or [""]
    return f"{', '.join(most)} and {last}" if most else last
