"""The report as one HTML file, which asks for nothing outside, and as a LaTeX document, from their templates."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adtr.report.brief import opening_sheet
from adtr.report.drawings import drawing
from adtr.report.figures import embedded
from adtr.report.runs import Row, span
from adtr.tables.latex import escape, latex
from adtr.tables.render import Sheet
from adtr.tables.stage import FURTHER, PAPER

WIDE = ("maps", "curve", "confetti", "dots")  # figures that want a row of their own
TEXT = r">{{\raggedright\arraybackslash}}p{{{}\linewidth}}"  # a column of sentences, of a share of the line
MARKS = {"variable_start_string": "<<", "variable_end_string": ">>"}  # braces are LaTeX's
MARKS |= {"block_start_string": "<%", "block_end_string": "%>"}
MARKS |= {"comment_start_string": "<#", "comment_end_string": "#>"}


def page(content: Row) -> str:
    """The report in HTML, from page.html.j2."""
    templates = _templates(autoescape=True)
    templates.filters |= {"span": span, "minus": minus}
    return templates.get_template("page.html.j2").render(content, embedded=embedded, inline=inline, wide=WIDE)


def inline(figure: Row) -> Markup:
    """A drawing as a part of the page."""
    return Markup(drawing(figure["drawn"]["svg"], PurePath(figure["file"]).stem))


def minus(text: str) -> str:
    """Text with true minus signs before its numbers."""
    return re.sub(r"(?<![\w.,)-])-(?=\d)", "−", text)


def document(content: Row, figures: list[Row], tables: Mapping[str, str]) -> str:
    """The report in LaTeX, from page.tex.j2.

    Args:
        figures: those that lie beside the document, as `file`.
        tables: the study's tables in LaTeX, by name.
    """
    templates = _templates(**MARKS)
    templates.filters |= {"tex": escape}
    own = [text for name, text in tables.items() if name not in PAPER + FURTHER]
    parts = {"figures": figures, "paper": [tables[name] for name in PAPER], "own": own, "tables": tables}
    if sheet := content["departures"]:
        brief = replace(sheet, text=sheet.text.drop(columns="meaning"))
        parts["departures_table"] = latex(brief, "departures", f"@{{}}lll{2 * TEXT.format('.2')}@{{}}")
    parts["opening_table"] = latex(opening_sheet(content["opening"]), "opening")
    methods, *gaps = content["folded"]
    explained = latex(methods, "methods", f"@{{}}l{2 * TEXT.format('.36')}@{{}}")
    parts["folded_tables"] = [explained, *(latex(sheet, "behind") for sheet in gaps)]
    rates = [(place, of["thresholds"]) for place, of in enumerate(content["datasets"]) if of["thresholds"]]
    parts["rates"] = [latex(sheet, f"rates-{place}") for place, sheet in rates]
    parts["runs_table"] = _runs(pd.DataFrame(content["runs"]))
    return templates.get_template("page.tex.j2").render(content | parts)


def _templates(**options: Any) -> Environment:
    folder = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


def _runs(runs: pd.DataFrame) -> str:
    """The runs of each experiment on each data set, with what they share."""
    runs = runs.assign(code=runs.code.str[:8], weights=runs.weights.str[:8])
    rows = []
    for (experiment, dataset), group in runs.groupby(["experiment", "dataset"], sort=False):
        row = {"experiment": experiment, "data set": dataset, "runs": span(group.to_dict("records"))}
        row |= {"epochs": str(group.epochs.iloc[0]), "seconds": f"{group.seconds.sum():.0f}"}
        rows.append(row | {name: ", ".join(group[name].unique()) for name in ("device", "code", "commit", "weights")})
    note = "Digests are shortened; report.html has them whole, run by run. Seconds are those of all fits of a row."
    return latex(Sheet("Runs", pd.DataFrame(rows), [note]), "runs")
