"""The report as one HTML file: its pictures, its style and its script are inside, and it asks for nothing outside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adtr.report.pictures import VERDICTS, embedded
from adtr.report.runs import Row, span

WIDE = ("maps", "histogram", "curve", "confetti", "bars")  # figures that want a row of their own


def render(content: Row) -> str:
    """The page of a report, from page.html.j2."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"span": span, "lead": _lead}
    page.globals |= {"embedded": embedded, "wide": WIDE, "verdicts": VERDICTS, "verdicts_of": _verdicts}
    return page.get_template("page.html.j2").render(content)


def _lead(name: str) -> str:
    """A name with a capital in front; what is a capital somewhere already stays as it is, as in 'AUPRO'."""
    return name[:1].upper() + name[1:]


def _verdicts(section: Row) -> dict[str, int]:
    """How many pictures of a data set's galleries there are of each verdict, those without one last."""
    found = [image["verdict"] or "no verdict" for seen in section["categories"] for image in seen["gallery"]["images"]]
    return {verdict: found.count(verdict) for verdict in [*VERDICTS, "no verdict"] if verdict in found}
