"""The report in brief, in Markdown, with the few figures that lie beside it: the page's sections in their order."""

from collections.abc import Iterable, Iterator
from itertools import chain

import pandas as pd

from adtr.report.opening import head
from adtr.report.runs import Row, span
from adtr.tables.render import Sheet, escape
from adtr.tables.render import markdown as table

RUN = ["number", "dataset", "experiment", "category", "seed", "epochs", "images", "seconds", "commit", "code"]
RUN += ["weights", "device", "data", "model"]
DIGESTS = ["code", "weights", "data", "model"]


def markdown(content: Row, figures: list[Row]) -> str:
    """The brief report.

    Args:
        figures: those that lie beside it, as `file`.
    """
    lines = [f"# {escape(content['title'])}", f"Study `{content['study']}` of ADTR Bench."]
    lines += [f"**{escape(text)}**" for text in [*content["warnings"], *content["doubts"]]]
    parts = {"good": _good, "against": _against, "sure": _sure, "fails": _fails, "ran": _ran}
    for name, title in content["sections"].items():
        lines += [f"## {title}", *parts[name](content, figures)]
    return "\n\n".join(lines) + "\n"


def _good(content: Row, _: list[Row]) -> Iterator[str]:
    yield escape(" ".join([content["sentence"], *content["answers"]]))
    yield from map(escape, [f"{content['departing']}.", *content["images"]])
    if content["opening"]["columns"]:
        yield from [table(opening_sheet(content["opening"])), escape(content["opening"]["note"])]
        for folded in content["folded"]:
            yield from _sheet(folded)
        return
    for section in content["datasets"]:
        yield from _sheet(section["thresholds"])
    yield from ["### New images", *(f"`{command}`" for command in content["predict"])]


def opening_sheet(opening: Row) -> Sheet:
    """The table of methods and metrics as text, its intervals in the cells."""
    names = [[head(column), *["paper"] * column["paper"]] for column in opening["columns"]]
    rows, bold = list[list[str]](), set[tuple[int, int]]()
    for row in (row for group in opening["groups"] for row in group):
        line = [row["name"]]
        for cell, column in zip(row["cells"], opening["columns"], strict=True):
            if cell["best"]:
                bold.add((len(rows), len(line)))
            line += [f"{cell['text']} {cell['interval']}".strip(), *[cell["paper"]] * column["paper"]]
        rows.append(line)
    return Sheet(opening["title"], pd.DataFrame(rows, columns=["per cent", *chain(*names)]), bold=bold)


def _against(content: Row, figures: list[Row]) -> Iterator[str]:
    for paper in content["papers"]:
        yield f"### The paper's {escape(paper['title'])}"
        yield from [_cells(paper), *map(escape, paper["notes"])]
    if content["ranks"]:
        yield "### Do the ablations rank as in the paper?"
        yield _list(content["ranks"])
    for section in content["datasets"]:
        yield f"### {escape(section['title'])}"
        for main in section["main"]:
            yield from [f"#### {escape(main['title'])}", _cells(main), *map(escape, main["sentences"])]
        yield from [] if section["main"] else [_list(section["undefined"])]
        yield from _figures(figures, "against", section)


def _sure(content: Row, _: list[Row]) -> Iterator[str]:
    if not content["compared"]:
        yield "Nothing to compare: the study has one method, or no metric that two of them share."
        return
    yield from _sheet(content["comparison"])


def _fails(content: Row, figures: list[Row]) -> Iterator[str]:
    for section in content["datasets"]:
        yield from _sheet(section["thresholds"]) if content["opening"]["columns"] else []
        yield from _figures(figures, "fails", section)
        yield from [_list(section["missed"])] * bool(section["missed"])
        for kind in section["kinds"]:
            yield from _sheet(kind)
    yield from _sheet(content["shortcuts"])
    if content["data"]:
        yield from ["### The data", _list(content["data"])]


def _ran(content: Row, figures: list[Row]) -> Iterator[str]:
    yield from map(escape, content["about"])
    yield from (f"{text}: `{command}`" for text, command in content["commands"].items())
    yield from [*_sheet(content["departures"]), *_sheet(content["parameters"])]
    for section in content["datasets"]:
        yield from _figures(figures, "ran", section)
    runs = pd.DataFrame(content["runs"])[RUN].astype(str)
    runs[DIGESTS] = runs[DIGESTS].map(lambda digest: digest[:12])
    yield from _sheet(Sheet("Runs", runs))
    credits = (f"{c['title']}: {c['by']}. Licence: {c['licence']}. {c['page']}".strip() for c in content["credits"])
    yield from ["### Image credits", _list(credits)]


def _figures(figures: list[Row], question: str, section: Row) -> Iterator[str]:
    """The figures of a data set that belong to a section of the report; those of none show where a method fails."""
    for figure in figures:
        if figure["dataset"] == section["name"] and (figure["question"] or "fails") == question:
            subject, caption = escape(figure["subject"]), escape(figure["caption"])
            alt = escape(figure["alt"].translate(str.maketrans("[]", "()")))
            yield from [f"![{alt}]({figure['file']})", f"{subject}: {caption}"]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _cells(content: Row) -> str:
    """A table with the numbers of each row's runs."""
    rows, bold = list[list[str]](), set[tuple[int, int]]()
    for row in content["rows"]:
        text = [" ± ".join(filter(None, [cell["text"], cell["sd"]])) for cell in row["cells"]]
        bold |= {(len(rows), place) for place, cell in enumerate(row["cells"], start=1) if cell["best"]}
        rows.append([row["name"], *text, span(run for cell in row["cells"] for run in cell["runs"])])
    text = pd.DataFrame(rows, columns=["per cent", *content["columns"], "run no."])
    return table(Sheet(content["title"], text, bold=bold))


def _sheet(sheet: Sheet | None) -> list[str]:
    return [f"### {escape(sheet.title)}", table(sheet), *map(escape, sheet.notes)] if sheet else []
