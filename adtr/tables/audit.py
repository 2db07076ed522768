"""The paper's own arithmetic: means against cells, the text against the tables, the text against itself."""

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

from adtr.tables.render import DASH, Sheet
from adtr.tables.summary import MEAN

HUNDRED, FAR = Decimal(100), 3  # standard deviations of a mean of rounded cells
ROUNDED = Decimal("0.15")  # of the difference of two means and its own, each rounded to a tenth
OURS = ("ADTR", "ADTR+")  # the paper's own rows
COLUMNS = ["check", "where", "what", "printed", "computed", "verdict", "note"]
Tables = Mapping[str, pd.DataFrame]


def audit(papers: Tables, claims: Mapping[str, Any]) -> pd.DataFrame:
    """Every check as a row: check, where, what, printed, computed, verdict, note.

    Args:
        papers: the paper's tables by name, as text: method (of Table 4 label), category, value, note.
        claims: params/paper/claims.yaml.
    """
    rows = [row for name, paper in papers.items() if "category" in paper for row in means(name, paper)]
    rows += [_cell(name, entry) for name, paper in papers.items() for entry in paper.itertuples() if _is_cell(entry)]
    rows += [claim(entry, papers) for entry in claims["claims"]]
    rows += [rank(entry, papers) for entry in claims["ranks"]]
    rows += [
        _row("contradiction", entry["about"], entry["here"], "", entry["there"], "", entry["reading"])
        for entry in claims["contradictions"]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(*values: str) -> dict[str, str]:
    return dict(zip(COLUMNS, values, strict=True))


def _is_cell(entry: Any) -> bool:
    return bool(entry.note) and getattr(entry, "category", "") != MEAN


def _cell(table: str, entry: Any) -> dict[str, str]:
    what = f"{entry.method}, {entry.category}" if hasattr(entry, "category") else f"({entry.part}) {entry.label}"
    return _row("cell", _named(table), what, entry.value, "", "as we read it", entry.note)


def means(table: str, paper: pd.DataFrame) -> list[dict[str, str]]:
    """The printed mean of each row against the mean of its printed cells."""
    rows = []
    for method, found in paper.groupby("method", sort=False):
        cells = [Decimal(value) for value in found[found.category != MEAN].value.dropna()]
        printed = Decimal(found[found.category == MEAN].value.iloc[0])
        mean = f"{average(cells):.2f}" if cells else DASH
        verdict, note = judged(cells, printed)
        rows.append(_row("mean", _named(table), str(method), str(printed), mean, verdict, note))
    return rows


def judged(cells: list[Decimal], printed: Decimal) -> tuple[str, str]:
    """Whether a printed mean can be that of its cells, each of which was rounded to the digits that it is printed with.

    A mean of n cells that were rounded to a unit u lies within u/2 of the exact one, and spreads around it with the
    standard deviation u/sqrt(12 n). No score is above 100.
    """
    if not cells:
        return "no cells", ""
    mean, unit = average(cells), min(_unit(cell) for cell in cells)
    own = _unit(printed)
    if mean.quantize(own, ROUND_HALF_UP) == printed:
        return "agrees", ""
    low = average([cell - unit / 2 for cell in cells])
    high = average([min(cell + unit / 2, HUNDRED) for cell in cells])
    gap = printed - mean
    reach = (mean - low if gap < 0 else high - mean) + own / 2
    needed = float((abs(gap) - own / 2) / unit) * math.sqrt(12 * len(cells))
    note = f"{gap:+.2f}; rounding explains up to {reach:.2f}"
    if abs(gap) > reach:
        return "does not agree", f"{note}. The cells add up to {sum(cells)}, the mean to {printed * len(cells)}"
    if needed > FAR:
        cut = printed == mean.quantize(own, "ROUND_DOWN")
        cause = "; cutting off instead of rounding gives it" if cut else ""
        return "hardly agrees", f"{note}, but {needed:.1f} standard deviations of what chance would give{cause}"
    return "agrees with unrounded cells", f"{note}; {needed:.1f} standard deviations"


def average(values: list[Decimal]) -> Decimal:
    return sum(values, Decimal(0)) / len(values)


def _unit(value: Decimal) -> Decimal:
    """The last printed digit's worth."""
    return Decimal(1).scaleb(int(value.as_tuple().exponent))


def claim(entry: Mapping[str, Any], papers: Tables) -> dict[str, str]:
    """A number of the text against what its tables give: a cell, the difference of two, a sum or a product."""
    printed = Decimal(entry["printed"])
    found, source = _value(entry, papers, from_cells=False)
    verdict = "follows" if found.quantize(_unit(printed), ROUND_HALF_UP) == printed else "does not follow"
    note = source
    if entry.get("cells"):
        exact, _ = _value(entry, papers, from_cells=True)
        note += f"; by the means of the printed cells {exact:.2f}"
        if abs(exact - printed) > ROUNDED:
            verdict += ", but not from the cells"
    return _row("claim", _section(entry), entry["quote"], str(printed), str(found), verdict, note)


def _value(entry: Mapping[str, Any], papers: Tables, from_cells: bool) -> tuple[Decimal, str]:
    """The number that an entry asks for, and how it comes about."""
    if "sum" in entry:
        return Decimal(sum(entry["sum"])), " + ".join(map(str, entry["sum"]))
    if "product" in entry:
        return Decimal(math.prod(entry["product"])), " x ".join(map(str, entry["product"]))
    cells = [_looked_up(papers[table], row, column, from_cells) for table, row, column in entry["minus"]]
    value, *less = [value for value, _ in cells]
    where = [f"{_named(table)}, {name}" for (table, *_), (_, name) in zip(entry["minus"], cells, strict=True)]
    return value - sum(less, Decimal(0)), " minus ".join(where)


def _looked_up(paper: pd.DataFrame, row: str, column: str, from_cells: bool) -> tuple[Decimal, str]:
    """A cell's value and its row's name; `best` is the highest of the rows that are not the paper's own."""
    if "category" not in paper:
        return Decimal(paper[paper.label == row].value.iloc[0]), row
    if row == "best":
        rows = [name for name in dict.fromkeys(paper.method) if name not in OURS]
        return max((_looked_up(paper, name, column, from_cells) for name in rows), key=lambda found: found[0])
    values = paper[paper.method == row].set_index("category").value
    cells = [Decimal(value) for value in values.drop(MEAN).dropna()]
    return (average(cells) if from_cells and cells else Decimal(values[column])), row


def rank(entry: Mapping[str, Any], papers: Tables) -> dict[str, str]:
    """In how many categories a row is ahead of another, level with it and behind it."""
    (table, first), (_, second) = entry["rows"]
    paper = papers[table][papers[table].category != MEAN].dropna(subset=["value"])
    others = paper[~paper.method.isin(OURS)] if second == "best" else paper[paper.method == second]
    best = others.assign(value=others.value.map(Decimal)).groupby("category").value.max()
    own = paper[paper.method == first].set_index("category").value.map(Decimal)
    gaps = own - best[own.index]
    behind = [str(category) for category in gaps[gaps < 0].index]
    tally = f"ahead in {(gaps > 0).sum()}, level in {(gaps == 0).sum()}, behind in {len(behind)}"
    verdict = "not in every category" if behind else "in every category"
    against = "the best baseline of each category" if second == "best" else second
    note = f"{_named(table)}: {first} against {against}" + (f"; behind in {', '.join(behind)}" if behind else "")
    return _row("rank", _section(entry), entry["quote"], "", tally, verdict, note)


def _section(entry: Mapping[str, Any]) -> str:
    section = str(entry["section"])
    return f"Sec. {section}" if section[0].isdigit() else section


def _named(table: str) -> str:
    return f"Table {table.removeprefix('table')}"


# The page

HEADS = {
    "mean": {"where": "table", "what": "row", "computed": "mean of the cells"},
    "cell": {"where": "table", "what": "cell", "printed": "taken for", "note": "why"},
    "claim": {"where": "section", "what": "text", "computed": "tables give", "note": "how"},
    "rank": {"where": "section", "what": "text", "computed": "categories", "note": "rows"},
    "contradiction": {"where": "about", "what": "here", "computed": "there", "note": "our reading"},
}
TITLES = {
    "mean": "The printed means against the printed cells",
    "cell": "Cells that cannot be as they are printed, or could not be read",
    "claim": "Numbers of the text against the tables",
    "rank": "Words of the text against the tables, by category",
    "contradiction": "Where the paper says two things",
}
SHARES = {
    "mean": {"note": 0.42},
    "cell": {"note": 0.45},
    "claim": {"what": 0.30, "verdict": 0.12, "note": 0.26},
    "rank": {"what": 0.26, "computed": 0.17, "verdict": 0.13, "note": 0.29},
    "contradiction": {"where": 0.15, "what": 0.25, "computed": 0.25, "note": 0.24},
}


def sheets(table: pd.DataFrame) -> list[Sheet]:
    """The audit as tables of text, one for each kind of check; columns that say nothing are left out."""
    found = []
    for check, rows in table.groupby("check", sort=False):
        kind = str(check)
        text = rows.drop(columns="check").loc[:, lambda frame: (frame != "").any()]
        if kind == "cell":
            text = text.drop(columns="verdict")
        widths = {HEADS[kind].get(name, name): share for name, share in SHARES[kind].items()}
        text = text.rename(columns=HEADS[kind])
        found.append(Sheet(f"The paper's own arithmetic: {TITLES[kind].lower()}", text, _notes(kind), widths))
    return found


def _notes(kind: str) -> list[str]:
    notes = {
        "mean": "'Agrees with unrounded cells': the authors may have averaged cells that were rounded afterwards.",
        "claim": "'But not from the cells': the claim rests on a printed mean that its row does not give.",
        "rank": "Cells are compared as printed; whole numbers may stand for half a point more or less. "
        "Bold marks are not audited: two copies of the paper differ in them.",
    }
    return [notes[kind]] if kind in notes else []
