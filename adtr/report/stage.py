"""Writes the report of a study in three forms. The same results give the same bytes, whatever the time and place."""

from collections.abc import Callable
from pathlib import Path

from adtr.config.paths import Paths
from adtr.errors import UserError
from adtr.files import write_bytes, write_text
from adtr.records import vouch
from adtr.report.brief import markdown
from adtr.report.content import gather
from adtr.report.figures import selection, small
from adtr.report.page import document, page
from adtr.report.runs import Row
from adtr.tables.stage import table_names
from adtr.tables.summary import tables_record


def write(paths: Paths, params: Path) -> None:
    """Writes report.html, report.md, report.tex and figures/ of a study, each whatever the others do.

    Last the record.json of all.

    Args:
        params: the folder params/.

    Raises:
        UserError: a file of the results is missing or belongs to other parameters or another run; nothing is written.
            Or a form failed: the message names all that did, and the others are written.
    """
    output, content = paths.report, gather(paths, params)
    record = output / "record.json"
    record.unlink(missing_ok=True)
    figures = selection(content["datasets"])

    def latex() -> str:
        record = tables_record(paths.results, params)
        tables = {name: record.read(f"{name}.tex").decode() for name in table_names(paths.plan)}
        return document(content, figures, tables)

    forms: dict[str, Callable[[], None]] = {
        "figures": lambda: _write_figures(figures, output),
        "report.html": lambda: write_text(output / "report.html", page(content)),
        "report.md": lambda: write_text(output / "report.md", markdown(content, figures)),
        "report.tex": lambda: write_text(output / "report.tex", latex()),
    }
    errors, first = [], None
    for name, form in forms.items():
        try:
            form()
        except Exception as error:
            first = first or error
            message = str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"
            errors.append(f"{name}: {message}")
    if errors:
        raise UserError("\n  ".join(["not written:", *errors, "the others are written"])) from first
    vouch(record, [*sorted(output.glob("report.*")), *sorted((output / "figures").iterdir())])


def _write_figures(figures: list[Row], output: Path) -> None:
    (output / "figures").mkdir(parents=True, exist_ok=True)
    written = {output / figure["file"]: small(figure["kind"], figure["path"]) for figure in figures}
    for figure in figures:  # LaTeX takes a PDF before a picture of the same name
        if figure["drawn"]:
            written[(output / figure["file"]).with_suffix(".pdf")] = figure["drawn"]["pdf"].read_bytes()
    for path, pixels in written.items():
        write_bytes(path, pixels)
    for path in set((output / "figures").glob("*")) - set(written):
        path.unlink()
