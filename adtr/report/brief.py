"""The report in brief, in Markdown, with the few figures that lie beside it."""

from collections.abc import Iterable

import pandas as pd

from adtr.report.runs import Row, span
from adtr.tables.render import escape
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
    lines += [f"**{escape(text)}**" for text in content["warnings"]] + [escape(text) for text in content["about"]]
    if content["departures"]:
        lines += ["## Not the paper's recipe", *_text(content["departures"])]
    for paper in content["papers"]:
        lines += [f"## The paper's {escape(paper['title'])}", _cells(paper), *map(escape, paper["notes"])]
    if content["ranks"]:
        lines += ["## Do the ablations rank as in the paper?", _list(content["ranks"])]
    for place, section in enumerate(content["datasets"]):
        lines.append(f"## {escape(section['title'])}")
        for main in section["main"]:
            lines += [f"### {escape(main['title'])}", _cells(main), *map(escape, main["sentences"])]
        if section["thresholds"]:
            lines += [f"### {escape(section['thresholds']['title'])}", *_text(section["thresholds"])]
        for figure in figures:
            if figure["section"] == place:
                subject, caption = escape(figure["subject"]), escape(figure["caption"])
                alt = escape(figure["alt"].translate(str.maketrans("[]", "()")))
                lines += [f"![{alt}]({figure['file']})", f"{subject}: {caption}"]
    if content["compared"]:
        title, table_of_pairs = escape(content["comparison"]["title"]), _text(content["comparison"])
        lines += [f"## {title}", _list(content["certain"]), *table_of_pairs]
    if content["data"]:
        lines += ["## The data", _list(content["data"])]
    lines += [f"## {content['parameters']['title']}", *_text(content["parameters"])]
    credits = (f"{c['title']}: {c['by']}. Licence: {c['licence']}. {c['page']}".strip() for c in content["credits"])
    runs = pd.DataFrame(content["runs"])[RUN].astype(str)
    runs[DIGESTS] = runs[DIGESTS].map(lambda digest: digest[:12])
    lines += ["## Image credits", _list(credits), "## Runs", table(runs)]
    return "\n\n".join(lines) + "\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _cells(content: Row) -> str:
    """A table with the numbers of each row's runs."""
    rows = []
    for row in content["rows"]:
        text = [" ± ".join(filter(None, [cell["text"], cell["sd"]])) for cell in row["cells"]]
        rows.append([row["name"], *text, span(run for cell in row["cells"] for run in cell["runs"])])
    return table(pd.DataFrame(rows, columns=["per cent", *content["columns"], "run no."]))


def _text(content: Row) -> list[str]:
    return [table(pd.DataFrame(content["rows"], columns=content["columns"])), *map(escape, content["notes"])]
