"""The report as one HTML file: its pictures, its style and its script are inside, and it asks for nothing outside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adtr.report.figures import VERDICTS, embedded
from adtr.report.runs import Row, span

WIDE = ("maps", "histogram", "curve", "confetti", "bars")  # figures that want a row of their own


def render(content: Row) -> str:
    """The page of a report, from page.html.j2."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"span": span}
    page.globals |= {"embedded": embedded, "wide": WIDE, "verdicts_of": _verdicts}
    return page.get_template("page.html.j2").render(content)


def _verdicts(section: Row) -> dict[str, int]:
    """How many pictures of a data set's galleries there are of each verdict, those without one last."""
    galleries = (entry["gallery"]["images"] for entry in section["categories"])
    names = [image["verdict"] or "no verdict" for images in galleries for image in images]
    return {verdict: names.count(verdict) for verdict in [*VERDICTS, "no verdict"] if verdict in names}
