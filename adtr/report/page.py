"""The report as one HTML file: its pictures, its style and its script are inside, and it asks for nothing outside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adtr.report.figures import embedded
from adtr.report.runs import Row, span

WIDE = ("maps", "histogram", "curve", "confetti", "bars")  # figures that want a row of their own


def render(content: Row) -> str:
    """The page of a report, from page.html.j2."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"span": span}
    page.globals |= {"embedded": embedded, "wide": WIDE}
    return page.get_template("page.html.j2").render(content)
