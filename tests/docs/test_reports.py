"""The committed reports are of the code that is here: the same sections in every form, the same figures beside them."""

import re
from pathlib import Path

import planted
import pytest

from adtr.report.content import SECTIONS
from adtr.tables.latex import escape

MEASURED = sorted(path.parent for path in planted.REPOSITORY.glob("reports/measured/*/report.md"))
OLDER = {"cifar10", "screw"}  # written by earlier code: whoever writes one anew takes its name out


def misfits(folder: Path) -> list[str]:
    """What in a report is not as the code writes it."""
    page, brief, print_ = ((folder / f"report.{form}").read_text(encoding="utf-8") for form in ("html", "md", "tex"))
    found = {
        "sections of the page": re.findall(r'<section id="(\w+)">', page) != [*SECTIONS],
        "sections in Markdown": re.findall(r"^## (.*)$", brief, re.M) != [*SECTIONS.values()],
        "sections in LaTeX": re.findall(r"^\\section\{(.*)\}$", print_, re.M) != [*map(escape, SECTIONS.values())],
    }
    linked = set(re.findall(r"\]\((figures/[^)]*)\)", brief))
    drawn = set(re.findall(r"\\includegraphics\[.*\]\{(.*)\}", print_))
    there = {str(path.relative_to(folder)) for path in (folder / "figures").iterdir()}
    found["figures"] = there != linked | {f"{name}.pdf" for name in drawn if not Path(name).suffix}
    found["numbers at the right"] = not re.search(r"^\|:-+\|-+:\|", brief, re.M)
    return [what for what, wrong in found.items() if wrong]


@pytest.mark.parametrize("folder", MEASURED, ids=lambda folder: folder.name)
def test_a_committed_report_is_as_the_code_writes_it(folder: Path) -> None:
    found = misfits(folder)
    assert bool(found) == (folder.name in OLDER), found


def test_the_older_ones_are_there() -> None:
    assert {folder.name for folder in MEASURED} >= OLDER
