r"""Tables in LaTeX that fit the page, with booktabs.

A table is a float; one of many rows a longtable; one too wide for the page stands on a landscape page of its own. The
size of the type follows from an estimate of the table's width in an article of 10 pt with margins of 2 cm, on A4 or
US letter. The preamble needs

    \usepackage[margin=2cm]{geometry}
    \usepackage{array,booktabs,graphicx,longtable,pdflscape}

and each file stands where it is \input. A longtable has its widths after three runs of pdflatex. Underscores, signs and
dashes are set as LaTeX wants them.
"""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[margin=2cm]{geometry}
\usepackage{array,booktabs,graphicx,longtable,pdflscape}
"""
SPECIAL = str.maketrans(
    {character: rf"\{character}" for character in "_&%#${}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": r"$<$", ">": r"$>$", "|": r"$|$"}
)
SIGNS = str.maketrans(
    {"–": "--", "—": "---", "“": "``", "”": "''", "’": "'", "…": r"\dots{}"}
    | {"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≥": r"$\geq$", "≤": r"$\leq$"}
    | {"→": r"$\to$", "α": r"$\alpha$", "φ": r"$\phi$", "∞": r"$\infty$"}
)
PORTRAIT, LANDSCAPE = 480, 680  # pt, of a line; the narrower of A4 and US letter
FORMS = [  # in the order in which they are tried: landscape, size, its points, space between columns in pt
    (False, "small", 9, 5),
    (False, "footnotesize", 8, 4),
    (True, "footnotesize", 8, 4),
    (True, "scriptsize", 7, 2),
]
RELATIVE = {10: 1.0, 9: 1.03, 8: 1.06, 7: 1.14, 6: 1.22, 5: 1.36}  # small type is wider than its size says
SUBSCRIPT = {9: 6, 8: 6, 7: 5}
TALL = {False: 55, True: 42}  # rows of a float, with two for each note; on a landscape page
MANY = 12  # columns, from which on their heads are cut as the paper's are


def latex(
    text: pd.DataFrame,
    title: str,
    label: str,
    notes: Sequence[str] = (),
    widths: Mapping[str, float] | None = None,
    breaks: Sequence[int] = (),
) -> str:
    """A table in LaTeX, its notes below it.

    Args:
        text: strings; the first column names the rows.
        label: what stands behind tab: in its label.
        widths: of the columns that hold sentences, shares of the line.
        breaks: rows before which there is a little space.
    """
    widths = widths or {}
    heads = [head[:1].upper() + head[1:] for head in text.columns]
    if len(heads) > MANY:
        heads = [heads[0], *(short(head) for head in heads[1:])]
    sideways, size, points, space = _form(text, heads, widths)
    rows = [" & ".join(set_in_tex(cell) for cell in row) + r" \\" for row in text.itertuples(index=False)]
    rows = [r"\addlinespace" + "\n" + row if i in breaks else row for i, row in enumerate(rows)]
    head = " & ".join(set_in_tex(text) for text in heads) + r" \\"
    columns = "@{}" + "".join(_column(name, i, widths) for i, name in enumerate(text.columns)) + "@{}"
    caption = rf"\caption{{{set_in_tex(title)}}}\label{{tab:{label}}}"
    style = [rf"\setlength{{\tabcolsep}}{{{space}pt}}", rf"\{size}"]
    if len(rows) + 2 * len(notes) > TALL[sideways] or widths:
        body = _long(columns, caption, head, rows, len(heads))
        lines = [r"\begingroup\sloppy", *style, *body, *_notes(notes), r"\par\endgroup"]
    else:
        fits = _width(text, heads, points, space, widths) <= (LANDSCAPE if sideways else PORTRAIT)
        body = _whole(columns, head, rows, fits)
        lines = [r"\begin{table}[htbp]", r"\centering\sloppy", caption, *style, *body, *_notes(notes), r"\end{table}"]
    return "\n".join([r"\begin{landscape}", *lines, r"\end{landscape}"] if sideways else lines) + "\n"


def _whole(columns: str, head: str, rows: list[str], fits: bool) -> list[str]:
    table = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    table = [rf"\begin{{tabular}}{{{columns}}}", *table, r"\end{tabular}"]
    return table if fits else [r"\resizebox{\linewidth}{!}{%", *table, "}"]


def _long(columns: str, caption: str, head: str, rows: list[str], count: int) -> list[str]:
    more = rf"\multicolumn{{{count}}}{{@{{}}r@{{}}}}{{\footnotesize continued}} \\"
    return [
        r"\setlength{\LTcapwidth}{\linewidth}",
        *(rf"\begin{{longtable}}{{{columns}}}", caption + r" \\", r"\toprule", head, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", head, r"\midrule", r"\endhead", r"\midrule", more, r"\endfoot", r"\bottomrule", r"\endlastfoot"),
        *rows,
        r"\end{longtable}",
    ]


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    lines = [rf"\noindent {set_in_tex(note)}\par" for note in notes]
    return [r"\par\smallskip", r"\begingroup\footnotesize\raggedright", *lines, r"\endgroup"]


def _column(name: str, number: int, widths: Mapping[str, float]) -> str:
    if name in widths:
        return rf">{{\raggedright\arraybackslash}}p{{{widths[name]:.3f}\linewidth}}"
    return "c" if number else "l"


def short(name: str) -> str:
    """A column's head as the paper's tables cut it: 'Carp.' of 'carpet', but 'Screw'."""
    return name if len(name) <= 5 else f"{name[:4]}."


def set_in_tex(text: str) -> str:
    """Text as LaTeX wants it; a standard deviation is set as an index."""
    value, sign, sd = text.partition(" ± ")
    if sign and re.fullmatch(r"[\d.]+", sd):
        return rf"{set_in_tex(value)}$_{{\pm {sd}}}$"
    return re.sub(r"(?<![\w.)\]}])-(?=\d)", "$-$", text.translate(SPECIAL | SIGNS))


# How wide a table is


def _form(text: pd.DataFrame, heads: list[str], widths: Mapping[str, float]) -> tuple[bool, str, int, int]:
    """The first form in which the table fits, or the smallest."""
    for form in FORMS:
        sideways, _, points, space = form
        if _width(text, heads, points, space, widths) <= (LANDSCAPE if sideways else PORTRAIT):
            return form
    return FORMS[-1]


def _width(text: pd.DataFrame, heads: list[str], points: int, space: int, widths: Mapping[str, float]) -> float:
    """An estimate of a table's width, pt."""
    fixed = sum(widths.values()) * PORTRAIT
    columns = [name for name in text if name not in widths]
    shown = dict(zip(text.columns, heads, strict=True))
    flexible = sum(max(_extent(cell, points) for cell in [shown[name], *text[name]]) for name in columns)
    return fixed + flexible + 2 * space * (text.shape[1] - 1)


def _extent(text: str, points: int) -> float:
    value, sign, sd = text.partition(" ± ")
    if sign and re.fullmatch(r"[\d.]+", sd):
        return _extent(value, points) + _extent("±" + sd, SUBSCRIPT[points]) + 1
    return sum(_letter(character) for character in text) * points / 10 * RELATIVE[points]


def _letter(character: str) -> float:
    """The width of a letter of Computer Modern at 10 pt, pt."""
    if character in ".,;:'ijl|":
        return 2.8
    if character in "frst()[]- ":
        return 3.9
    if character in "mwMW+−±×≥":
        return 9.0
    return 7.3 if character.isupper() else 5.3
