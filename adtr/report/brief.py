"""The report in brief, in Markdown, with the few figures that lie beside it."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from adtr.report.runs import Row, span

COLUMNS = ["number", "dataset", "experiment", "category", "seed", "epochs", "images", "seconds"]
DIGESTS = ["commit", "code", "weights", "device", "data", "model"]


def markdown(content: Row, pictures: list[tuple[Row, Path]]) -> str:
    """The brief report.

    Args:
        pictures: figures, and where they lie, relative to the report.
    """
    lines = [f"# {content['title']}", f"Study `{content['study']}` of ADTR Bench."]
    lines += [f"**{text}**" for text in content["warnings"]] + content["about"]
    if content["departures"]:
        lines += [
            "## Not the paper's recipe",
            _table(["parameter", "recipe", "here", "experiments", "data sets"], content["departures"]),
        ]
    for table in content["papers"]:
        if table["ran"]:
            lines += [f"## The paper's {table['title']}", _cells(table), *table["notes"]]
    if content["ranks"]:
        lines += ["## Do the ablations rank as in the paper?", _list(content["ranks"])]
    for place, section in enumerate(content["datasets"]):
        lines.append(f"## {section['title']}")
        for table in section["main"]:
            lines += [f"### {table['title']}", _cells(table), *table["sentences"]]
        for figure, path in pictures:
            if figure["section"] == place:
                lines.append(f"![{figure['alt']}]({quote(path.as_posix())})\n\n{figure['alt']}.")
    if content["compared"]:
        lines += [f"## {content['comparison']['title']}", _list(content["certain"]), _sheet(content["comparison"])]
    lines += [f"## {content['parameters']['title']}", _sheet(content["parameters"])]
    lines += ["## Pictures: whose", _list(_credit(credit) for credit in content["credits"])]
    columns = [*COLUMNS, *DIGESTS]
    runs = [{name: _short(name, run) for name in columns} for run in content["runs"]]
    return "\n\n".join([*lines, "## Runs", _table(columns, runs)]).replace("<", "&lt;") + "\n"


def _short(fact: str, run: Row) -> str:
    return str(run[fact])[:12] if fact in ("code", "data", "weights", "model") else str(run[fact])


def _credit(credit: Row) -> str:
    return f"{credit['title']}: {credit['by']}. Licence: {credit['licence']}. {credit['page']}".strip()


def _list(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _cells(table: Row) -> str:
    """A table with the numbers of each row's runs."""
    rows = []
    for row in table["rows"]:
        text = [" ± ".join(filter(None, [cell["text"], cell["sd"]])) for cell in row["cells"]]
        made_by = span(run for cell in row["cells"] for run in cell["runs"])
        rows.append({"per cent": row["name"], **dict(zip(table["columns"], text, strict=True)), "run no.": made_by})
    return _table(["per cent", *table["columns"], "run no."], rows)


def _sheet(table: Row) -> str:
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return "\n\n".join([_table(table["columns"], rows), *table["notes"]])


def _table(columns: list[str], rows: list[Row]) -> str:
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines)
