"""The report for print: a LaTeX document that compiles in its own folder."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adtr.report.runs import Row, span
from adtr.tables.latex import escape, latex
from adtr.tables.stage import FURTHER, PAPER

TEXT = r">{\raggedright\arraybackslash}p{.2\linewidth}"  # a column of sentences


def document(content: Row, figures: list[Row], tables: Mapping[str, str]) -> str:
    """The report in LaTeX, from tex.tex.j2.

    Args:
        figures: those that lie beside the document, as `file`.
        tables: the study's tables in LaTeX, by name.
    """
    folder = FileSystemLoader(Path(__file__).parent)
    marks = {"block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<"}
    marks |= {"variable_end_string": ">>", "comment_start_string": "<#", "comment_end_string": "#>"}
    page = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **marks)  # type: ignore[arg-type]
    page.filters |= {"tex": escape}
    parts = {
        "figures": figures,
        "paper": [tables[name] for name in PAPER],
        "own": [text for name, text in tables.items() if name not in PAPER + FURTHER],
        "comparison_table": tables["comparison"],
        "parameters_table": tables["parameters"],
        "departures_table": content["departures"] and _departures(content["departures"]),
        "runs_table": _runs(content["runs"]),
    }
    return page.get_template("tex.tex.j2").render(content | parts)


def _departures(table: Row) -> str:
    text = pd.DataFrame(table["rows"], columns=table["columns"]).drop(columns="meaning")
    return latex(text, table["title"], "departures", columns="@{}lll" + 2 * TEXT + "@{}")


def _runs(runs: list[Row]) -> str:
    """The runs of each experiment on each data set, with what they share."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for run in runs:
        groups.setdefault((run["experiment"], run["dataset"]), []).append(run)
    rows = []
    for (experiment, dataset), group in groups.items():
        row = {"experiment": experiment, "data set": dataset, "runs": span(group), "epochs": str(group[0]["epochs"])}
        row["seconds"] = f"{sum(run['seconds'] for run in group):.0f}"
        for name in ("device", "code", "commit", "weights"):
            digits = 8 if name in ("code", "weights") else None
            row[name] = ", ".join(dict.fromkeys(str(run[name])[:digits] for run in group))
        rows.append(row)
    note = "Digests are shortened; report.html has them whole, run by run. Seconds are those of all fits of a row."
    return latex(pd.DataFrame(rows), "Runs", "runs", [note])
