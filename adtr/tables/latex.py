r"""Tables in LaTeX with booktabs: floats that shrink to the line, longtables where there are many rows."""

import re
from collections.abc import Sequence

import pandas as pd

TALL, WIDE = 40, 8  # rows of a float, columns of a portrait page; more make a longtable, a landscape page
SPECIAL = str.maketrans(
    {character: rf"\{character}" for character in "_&%#${}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$"}
    | {"–": "--", "—": "---", "“": "``", "”": "''", "’": "'", "…": r"\dots{}"}
)
UNSUPPORTED = re.compile(r"[^\x00-\x7f\xa0-\xff‘]")  # letters that pdfTeX's fonts lack


def escape(text: object) -> str:
    """Text for LaTeX: signs as mathematics, a standard deviation as a subscript, '?' for letters that fonts lack."""
    escaped = UNSUPPORTED.sub("?", str(text).translate(SPECIAL))
    escaped = re.sub(r"(?<=\d) \$\\pm\$ ([\d.]+)$", r"$_{\\pm \1}$", escaped)
    return re.sub(r"(?<![\w.)\]}])-(?=\d)", "$-$", escaped)


def latex(text: pd.DataFrame, title: str, label: str, notes: Sequence[str] = (), columns: str = "") -> str:
    r"""A table in LaTeX, its notes below it; the comment at its head names the packages for the preamble.

    Args:
        text: strings; the first column names the rows. A little space precedes a
            method's '(paper)' and a new part '(b)'.
        label: the label is `tab:` and this.
        columns: LaTeX's column format; by default the first column is at the left, the others are centred.
    """
    long, landscape = len(text) > TALL, text.shape[1] > WIDE - 2 * (len(text) > TALL)
    packages = ["booktabs", "longtable" if long else "graphicx", *["pdflscape"] * landscape]
    escaped = text.map(escape).set_axis([escape(name) for name in text], axis=1)
    rows, parts = text.iloc[:, 0], text.iloc[:, 0].str.extract(r"^(\(\w\)) ", expand=False)
    opens = rows.str.endswith(" (paper)") | parts.ne(parts.shift(fill_value=next(iter(parts), None))) & parts.notna()
    escaped.iloc[:, 0] = escaped.iloc[:, 0].mask(opens, r"\addlinespace " + escaped.iloc[:, 0])
    layout = {"hrules": True, "column_format": columns or "@{}l" + "c" * (text.shape[1] - 1) + "@{}"}
    styler, name = escaped.style.hide(axis="index"), {"label": f"tab:{label}", "caption": escape(title)}
    below = [rf"\noindent {escape(note)}\par" for note in notes]
    below = [r"\par\smallskip\begingroup\footnotesize\raggedright", *below, r"\endgroup"] if notes else []
    if long:
        body = styler.to_latex(environment="longtable", **name, **layout).strip()
        lines = [r"\begingroup\footnotesize\setlength{\LTcapwidth}{\linewidth}", body, *below, r"\par\endgroup"]
    else:
        fitted = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
        caption = rf"\caption{{{name['caption']}}}\label{{{name['label']}}}"
        body = styler.to_latex(**layout).strip()
        lines = [r"\begin{table}[htbp]\centering\small", caption, fitted, body + "}", *below, r"\end{table}"]
    lines = [r"\begin{landscape}", *lines, r"\end{landscape}"] if landscape else lines
    return "\n".join([rf"% Needs \usepackage{{{','.join(packages)}}}", *lines]) + "\n"
