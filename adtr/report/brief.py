"""The report in brief, in Markdown, with the few figures that lie beside it."""

from collections.abc import Iterable

import pandas as pd

from adtr.report.runs import Row, span
from adtr.tables.render import markdown as table

RUN = ["number", "dataset", "experiment", "category", "seed", "epochs", "images", "seconds", "commit", "code"]
RUN += ["weights", "device", "data", "model"]
DIGESTS = ["code", "weights", "data", "model"]


def markdown(content: Row, figures: list[Row]) -> str:
    """The brief report.

    Args:
        figures: those that lie beside it, as `file`.
    """
    lines = [f"# {content['title']}", f"Study `{content['study']}` of ADTR Bench."]
    lines += [f"**{text}**" for text in content["warnings"]] + content["about"]
    if content["departures"]:
        lines += ["## Not the paper's recipe", *_text(content["departures"])]
    for paper in content["papers"]:
        if paper["ran"]:
            lines += [f"## The paper's {paper['title']}", _cells(paper), *paper["notes"]]
    if content["ranks"]:
        lines += ["## Do the ablations rank as in the paper?", _list(content["ranks"])]
    for place, section in enumerate(content["datasets"]):
        lines.append(f"## {section['title']}")
        for main in section["main"]:
            lines += [f"### {main['title']}", _cells(main), *main["sentences"]]
        if section["thresholds"]:
            lines += [f"### {section['thresholds']['title']}", *_text(section["thresholds"])]
        for figure in figures:
            if figure["section"] == place:
                lines += [f"![{figure['alt']}]({figure['file']})", f"{figure['subject']}: {figure['caption']}"]
    if content["compared"]:
        lines += [f"## {content['comparison']['title']}", _list(content["certain"]), *_text(content["comparison"])]
    lines += [f"## {content['parameters']['title']}", *_text(content["parameters"])]
    credits = (f"{c['title']}: {c['by']}. Licence: {c['licence']}. {c['page']}".strip() for c in content["credits"])
    runs = pd.DataFrame(content["runs"])[RUN].astype(str)
    runs[DIGESTS] = runs[DIGESTS].map(lambda digest: digest[:12])
    lines += ["## Image credits", _list(credits), "## Runs", table(runs)]
    return "\n\n".join(lines).replace("<", "&lt;") + "\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _cells(content: Row) -> str:
    """A table with the numbers of each row's runs."""
    rows = []
    for row in content["rows"]:
        text = [" ± ".join(filter(None, [cell["text"], cell["sd"]])) for cell in row["cells"]]
        rows.append([row["name"], *text, span(run for cell in row["cells"] for run in cell["runs"])])
    return table(pd.DataFrame(rows, columns=["per cent", *content["columns"], "run no."]))


def _text(content: Row) -> list[str]:
    return [table(pd.DataFrame(content["rows"], columns=content["columns"])), *content["notes"]]
