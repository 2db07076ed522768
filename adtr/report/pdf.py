"""The report for print: a LaTeX document that compiles in its own folder, and the PDF where pdflatex is at hand."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adtr.errors import UserError
from adtr.report.runs import Row, span
from adtr.tables.latex import set_in_tex
from adtr.tables.stage import FURTHER, PAPER

logger = logging.getLogger(__name__)

UNKNOWN = re.compile(r"[^\x00-\x7f\xa0-\xff–—−‘’“”…]")  # letters that pdfTeX's font does not have
OPTIONS = ["-interaction=nonstopmode", "-halt-on-error"]
FIXED = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}  # the same bytes at any time


def document(content: Row, pictures: list[tuple[Row, Path]], tables: Mapping[str, str]) -> str:
    """The report in LaTeX, from pdf.tex.j2.

    Args:
        pictures: figures, and where they lie, relative to the document.
        tables: the study's tables in LaTeX, by name.
    """
    folder = FileSystemLoader(Path(__file__).parent)
    marks = {"block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<"}
    marks |= {"variable_end_string": ">>", "comment_start_string": "<#", "comment_end_string": "#>"}
    page = Environment(loader=folder, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **marks)  # type: ignore[arg-type]
    page.filters |= {"tex": tex, "span": span, "breakable": breakable}
    own = [name for name in tables if name not in PAPER + FURTHER]
    told = {"pictures": pictures, "typeset": tables, "paper": PAPER, "own": own, "groups": _groups(content["runs"])}
    return page.get_template("pdf.tex.j2").render(content | told)


def tex(text: object) -> str:
    """Text as LaTeX wants it; letters that its font lacks become question marks."""
    return UNKNOWN.sub("?", set_in_tex(str(text)))


def breakable(text: object) -> str:
    """A name or an address that may break behind its dots, slashes and underscores."""
    return re.sub(r"(/|\.|\\_|-)(?=.)", r"\1\\allowbreak{}", tex(text))


def _groups(runs: list[Row]) -> list[Row]:
    """The runs of each experiment on each data set, with what they share."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for run in runs:
        groups.setdefault((run["dataset"], run["experiment"]), []).append(run)
    return [_group(found) for found in groups.values()]


def _group(runs: list[Row]) -> Row:
    told = {name: runs[0][name] for name in ("dataset", "experiment", "epochs")}
    told |= {name: _shared(runs, name) for name in ("code", "commit", "weights", "device")}
    return told | {"runs": runs, "seconds": f"{sum(run['seconds'] for run in runs):.0f}"}


def _shared(runs: list[Row], name: str) -> str:
    most = 8 if name in ("code", "weights") else None
    return ", ".join(dict.fromkeys(str(run[name])[:most] for run in runs))


def compile_pdf(document: Path) -> Path | None:
    """Makes the PDF beside a LaTeX document with pdflatex; where that or a package of it is missing, says so.

    An older PDF is removed first: it would be of other results.

    Raises:
        UserError: the document does not compile.
    """
    target = document.with_suffix(".pdf")
    target.unlink(missing_ok=True)
    if shutil.which("pdflatex") is None:
        logger.warning("pdflatex is not on the PATH: %s was not made from %s", target.name, document)
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = ["pdflatex", *OPTIONS, f"-output-directory={folder}", document.name]
        for _ in range(3):  # until references and the widths of long tables agree
            done = subprocess.run(
                command, cwd=document.parent, env=os.environ | FIXED, capture_output=True, check=False
            )
        log = done.stdout.decode(errors="replace")
        missing = re.search(r"File `([^']*\.(?:sty|cls))' not found", log)
        if missing:
            logger.warning("LaTeX has no %s: %s was not made from %s", missing[1], target.name, document)
            return None
        if done.returncode:
            error = next((line for line in log.splitlines() if line.startswith("!")), "pdflatex failed")
            raise UserError(f"{document}: does not compile: {error}")
        shutil.copyfile(Path(folder) / target.name, target)
    return target
