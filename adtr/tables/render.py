"""Tables for people: cells become text, text becomes Markdown. Numbers are rounded here and nowhere else."""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from adtr.tables.summary import MEAN

DASH = "–"
TO_ADTR = ["paper − ADTR", "ours − ADTR"]  # columns of the ablation: the effect of each change
INTERVAL = "95 % interval"
BOLD = "Bold: the best of a column, and those that a paired 95 % interval does not tell apart from it."
DIFFERENCES = ["difference", *TO_ADTR]
# Aligned at the right of its column
NUMBER = re.compile(r"[+\-−]?[\d.,]+( ± [\d.]+)?( [(\[].*[)\]])?|\[.*\]|\d+(/\d+)+|–|")


@dataclass(frozen=True, eq=False)
class Sheet:
    """A table as text: every column of `text` is one of the table, the first one names the rows.

    Cells at the places (row, column) of `bold` are.
    """

    title: str
    text: pd.DataFrame
    notes: Sequence[str] = ()
    bold: Collection[tuple[int, int]] = ()

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether all its texts are numbers, with or without their spread or interval."""
        return [all(NUMBER.fullmatch(cell) for cell in self.text[column]) for column in self.text]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A table as text, a row each: one decimal, '± sd' from two runs on, a signed difference, a dash for nothing.

    Where its mean has `low` and `high`, they are the last column.
    """
    text = table.assign(text=[_text(cell) for cell in table.itertuples()])
    rows, columns = list(dict.fromkeys(table.row)), list(dict.fromkeys(table.column))
    found = text.pivot(index="row", columns="column", values="text").reindex(index=rows, columns=columns).fillna(DASH)
    if "low" in table and table.low.notna().any():
        means = table[table.column == MEAN].set_index("row").reindex(rows)
        means.loc[means["mean"].isna(), "low"] = math.nan
        found[INTERVAL] = [interval(row.low, row.high) for row in means.itertuples()]
    return found


def interval(low: float, high: float, sign: str = "") -> str:
    """'[81.2, 90.4]'; with sign '+' that of a difference."""
    write = signed if sign else "{:.1f}".format
    return DASH if math.isnan(low) else f"[{write(low)}, {write(high)}]"


def _text(cell: Any) -> str:
    if cell.printed:
        return cell.printed
    if math.isnan(cell.mean):
        return DASH
    if cell.column in DIFFERENCES or cell.row.endswith(" (difference)"):
        return signed(cell.mean)
    return f"{cell.mean:.1f}" + (f" ± {cell.sd:.1f}" if cell.n > 1 and not math.isnan(cell.sd) else "")


def signed(value: float) -> str:
    """A difference with its sign, to one decimal; one that rounds to nothing has none."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def listed(names: Iterable[Any]) -> str:
    """'a, b and c'; 'a, x; b; and c' where a name has a comma."""
    *most, last = texts = [str(name) for name in names] or [""]
    if any("," in text for text in texts) and most:
        return f"{'; '.join(most)}; and {last}"
    return f"{', '.join(most)} and {last}" if most else last


def notes(table: pd.DataFrame) -> list[str]:
    """The notes on a table, then those on its single cells."""
    cells = table[table.note != ""].itertuples()
    return [*table.attrs.get("notes", []), *(f"{cell.row}, {cell.column}: {cell.note}" for cell in cells)]


def sheet(table: pd.DataFrame, title: str) -> Sheet:
    """A table of cells as text, those that are `best` in bold."""
    text = wide(table)
    best = table[table.best.eq(True)] if "best" in table else table[:0]
    bold = {(text.index.get_loc(of.row), 1 + text.columns.get_loc(of.column)) for of in best.itertuples()}
    text = text.rename_axis(None, axis=1).rename_axis("per cent").reset_index()
    return Sheet(title, text, [*notes(table), *[BOLD] * bool(bold)], bold)


def escape(text: object) -> str:
    """Text for Markdown, as it would be read: no link, no markup, no end of a table's cell, no heading or list."""
    line = re.sub(r"([\\`*|$~])", r"\\\1", " ".join(str(text).split()))
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)
    line = re.sub(r"^(?=[#>]|[-+](\s|$)|-{2}|=+$)", r"\\", line)
    line = re.sub(r"^(\d+)(?=[.)](\s|$))", r"\1\\", line)
    return re.sub(r"&(?=#|\w+;)", "&amp;", line).replace("<", "&lt;")


def markdown(sheet: Sheet) -> str:
    """The table in Markdown, numbers at the right."""
    escaped = sheet.text.map(escape).set_axis([escape(name) for name in sheet.text], axis=1)
    for place in sheet.bold:
        escaped.iloc[place] = f"**{escaped.iloc[place]}**"
    sides = ["right" if number else "left" for number in sheet.numeric] if len(escaped) else None
    return escaped.to_markdown(index=False, disable_numparse=True, colalign=sides)
