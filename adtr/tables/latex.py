r"""Tables in LaTeX with booktabs: floats that shrink to the line, longtables where there are many rows."""

import re
import unicodedata

from adtr.tables.render import Sheet

TALL, WIDE = 40, 8  # rows of a float, columns of a portrait page; more make a longtable, a landscape page
GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
GREEK += "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
SPECIAL = str.maketrans(
    {character: rf"\{character}" for character in "_&%#${}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$"}
    | {"–": "--", "—": "---", "“": "``", "”": "''", "‘": "`", "’": "'", "…": r"\dots{}", "→": r"$\rightarrow$"}
    | {letter: rf"$\{name}$" for letter, name in zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", GREEK.split(), strict=True)}
)
# All but ASCII and the accented Latin letters that each of pdfTeX's font encodings has
BEYOND = re.compile("[^ -~\xa0-\u017f]|[\xad«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ]")
LETTER = r'\providecommand\adtrletter[2]{\ifdefined\Umathchar\char"#1\relax\else#2\fi}'


def escape(text: object) -> str:
    r"""Text for LaTeX, in ASCII and accented Latin letters: signs as mathematics, a standard deviation as a subscript.

    Another letter is `\adtrletter{HEX}{TEXT}`: lualatex and xelatex set it if a font has it, pdflatex sets the text.
    Marks without width are left out.
    """
    line = unicodedata.normalize("NFC", " ".join(str(text).split()))
    escaped = BEYOND.sub(_letter, line.translate(SPECIAL))
    escaped = re.sub(r"(?<=\d) \$\\pm\$ ([\d.]+)$", r"$_{\\pm \1}$", escaped)
    escaped = re.sub(r"(?<![\w.)\]}])-(?=\d)", "$-$", escaped)
    return re.sub(r"^([\[*])", r"{\1}", escaped)  # at the head of a row it would belong to the line break before


def _letter(found: re.Match[str]) -> str:
    """A letter that pdfTeX lacks, with a text in its place: its plain form if that is ASCII, or its code point."""
    letter = found[0]
    if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Cn"):
        return ""
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    plain = plain if plain.isalnum() else f"U+{ord(letter):04X}"
    return rf"\adtrletter{{{ord(letter):04X}}}{{{plain}}}"


def latex(sheet: Sheet, label: str, columns: str = "") -> str:
    r"""A table in LaTeX, its notes below it; the comment at its head names the packages for the preamble.

    Numbers stand at the right. A little space precedes a method's '(paper)' and a new part '(b)'.

    Args:
        label: the label is `tab:` and this.
        columns: LaTeX's column format, in place of numbers at the right.
    """
    text = sheet.text
    long, landscape = len(text) > TALL, text.shape[1] > WIDE - 2 * (len(text) > TALL)
    packages = ["booktabs", "longtable" if long else "graphicx", *["pdflscape"] * landscape]
    escaped = text.map(escape).set_axis([escape(name) for name in text], axis=1)
    for place in sheet.bold:
        escaped.iloc[place] = rf"\textbf{{{escaped.iloc[place]}}}"
    rows, parts = text.iloc[:, 0], text.iloc[:, 0].str.extract(r"^(\(\w\)) ", expand=False)
    opens = rows.str.endswith(" (paper)") | parts.ne(parts.shift(fill_value=next(iter(parts), None))) & parts.notna()
    escaped.iloc[:, 0] = escaped.iloc[:, 0].mask(opens, r"\addlinespace " + escaped.iloc[:, 0])
    sides = "".join("r" if number else "l" for number in sheet.numeric)
    layout = {"hrules": True, "column_format": columns or f"@{{}}{sides}@{{}}"}
    styler, name = escaped.style.hide(axis="index"), {"label": f"tab:{label}", "caption": escape(sheet.title)}
    below = [rf"\noindent {escape(note)}\par" for note in sheet.notes]
    below = [r"\par\smallskip\begingroup\footnotesize\raggedright", *below, r"\endgroup"] if sheet.notes else []
    if long:
        body = styler.to_latex(environment="longtable", **name, **layout).strip()
        lines = [r"\begingroup\footnotesize\setlength{\LTcapwidth}{\linewidth}", body, *below, r"\par\endgroup"]
    else:
        fitted = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
        caption = rf"\caption{{{name['caption']}}}\label{{{name['label']}}}"
        body = styler.to_latex(**layout).strip()
        lines = [r"\begin{table}[htbp]\centering\small", caption, fitted, body + "}", *below, r"\end{table}"]
    lines = [r"\begin{landscape}", *lines, r"\end{landscape}"] if landscape else lines
    lines = [LETTER, *lines] if any(r"\adtrletter" in line for line in lines) else lines
    return "\n".join([rf"% Needs \usepackage{{{','.join(packages)}}}", *lines]) + "\n"
