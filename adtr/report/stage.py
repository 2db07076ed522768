"""Writes the report of a study in three forms. The same results give the same bytes, whatever the time and place."""

from pathlib import Path

from adtr.config.study import Plan
from adtr.files import write_bytes
from adtr.report.brief import markdown
from adtr.report.content import gather, read_table
from adtr.report.figures import selection, small
from adtr.report.page import render
from adtr.report.tex import document
from adtr.tables.stage import table_names


def write(plan: Plan, results: Path, params: Path, output: Path) -> None:
    """Writes report.html, report.md, report.tex and figures/ of a study to `output`, once all of them are made.

    Args:
        results: the study's folder of results, which the report does not need once it is written.
        params: the folder params/.

    Raises:
        UserError: a file of `results` is missing or belongs to other parameters or another run; nothing is written.
    """
    content = gather(plan, results, params)
    figures = selection(content["datasets"])
    tables = {name: read_table(results, name, "tex").read_text(encoding="utf-8") for name in table_names(plan)}
    files = {figure["file"]: small(figure["kind"], figure["path"]) for figure in figures}
    files["report.html"] = render(content).encode()
    files["report.md"] = markdown(content, figures).encode()
    files["report.tex"] = document(content, figures, tables).encode()
    for name, made in files.items():
        write_bytes(output / name, made)
    for path in (output / "figures").iterdir():
        if f"figures/{path.name}" not in files:
            path.unlink()
