"""Tables for people: cells become text, text becomes Markdown. Numbers are rounded here and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.files import write_text
from adtr.tables.latex import latex
from adtr.tables.paper import TO_ADTR

DASH = "–"


@dataclass(frozen=True)
class Sheet:
    """A table as text: every column of `text` is one of the table, the first one names the rows."""

    title: str
    text: pd.DataFrame
    notes: Sequence[str] = ()
    widths: Mapping[str, float] = field(default_factory=dict)  # of columns that hold sentences, shares of the line
    breaks: Sequence[int] = ()  # rows before which there is a little space in print


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A table as text, a row each: one decimal, '± sd' from two runs on, a signed difference, a dash for nothing."""
    text = table.assign(text=[_text(cell) for cell in table.itertuples()])
    rows, columns = list(dict.fromkeys(table.row)), list(dict.fromkeys(table.column))
    return text.pivot(index="row", columns="column", values="text").reindex(index=rows, columns=columns).fillna(DASH)


def _text(cell: Any) -> str:
    if cell.printed:
        return cell.printed
    if math.isnan(cell.mean):
        return DASH
    if cell.column in ("difference", *TO_ADTR) or cell.row.endswith(" (difference)"):
        return signed(cell.mean)
    return f"{cell.mean:.1f}" + (f" ± {cell.sd:.1f}" if cell.n > 1 and not math.isnan(cell.sd) else "")


def signed(value: float) -> str:
    """A difference with its sign, to one decimal; one that rounds to nothing has none."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def notes(table: pd.DataFrame) -> list[str]:
    """What is to be said of a table, then of its single cells."""
    return [*table.attrs.get("notes", []), *(_note(cell) for cell in table[table.note != ""].itertuples())]


def _note(cell: Any) -> str:
    return f"{cell.row}, {cell.column}: {cell.note}"


def sheet(table: pd.DataFrame, title: str) -> Sheet:
    """A table of cells as text, its rows in blocks: a method's paper, ours and difference; a part of the ablation."""
    text = wide(table).rename_axis(None, axis=1).rename_axis("per cent").reset_index()
    blocks = _blocks(list(text["per cent"]))
    breaks = [i for i in range(1, len(blocks)) if blocks[i] != blocks[i - 1]]
    return Sheet(title, text, notes(table), breaks=breaks)


def _blocks(rows: list[str]) -> list[str]:
    """What each row belongs to: '(a)' of '(a) CNN', 'ADTR' of 'ADTR (ours)' where the paper has one, else nothing."""
    printed = {row.removesuffix(" (paper)") for row in rows if row.endswith(" (paper)")}
    blocks = []
    for row in rows:
        name, _, kind = row.rpartition(" (")
        compared = name in printed and kind in ("paper)", "ours)", "difference)")
        part = row[:3] if row.startswith("(") and row[2:3] == ")" else ""
        blocks.append(name if compared else part or kind.startswith("ours)") * "ours")
    return blocks


def markdown(sheet: Sheet) -> str:
    """A table in Markdown, its notes below it."""
    text = sheet.text.map(_cell).rename(columns=_cell)
    body = text.to_markdown(index=False, disable_numparse=True)
    return "\n".join([f"### {sheet.title}", "", body, "", *(f"- {note}" for note in sheet.notes), ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def write(sheets: Sequence[Sheet], data: pd.DataFrame, folder: Path, name: str) -> None:
    """Writes a table, or several that belong together, as name.csv (unrounded), name.md and name.tex."""
    write_text(folder / f"{name}.csv", data.to_csv(index=False))
    write_text(folder / f"{name}.md", "\n".join(markdown(sheet) for sheet in sheets))
    labels = [name, *(f"{name}-{i}" for i in range(2, len(sheets) + 1))]
    parts = [
        latex(s.text, s.title, label, s.notes, s.widths, s.breaks) for s, label in zip(sheets, labels, strict=True)
    ]
    write_text(folder / f"{name}.tex", "\n".join(parts))
