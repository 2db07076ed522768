"""The README's numbers, and those of docs/findings.md on the paper's tables, against the files that they come from."""

import re
import shutil
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pandas as pd
import planted
import pytest

from adtr.config.reader import read_yaml
from adtr.config.study import resolve

ROOT = planted.REPOSITORY
README, FINDINGS = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/findings.md"))
SCREW, CIFAR = "reports/measured/screw/report.md", "reports/measured/cifar10/report.md"
DEMO = "reports/measured/demo/report.md"
PROSE, FOUND = (" ".join(text.split()) for text in (README, FINDINGS))
METHODS = ["ADTR", "ADTR+"]  # of the paper's tables and, by the same names, of the reports
Table = list[dict[str, str]]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table(text: str, heading: str) -> Table:
    """The first Markdown table behind a heading, its rows by column; a second column of one name gets ' 2'."""
    lines = text[text.index(heading) :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    last = next(number for number, line in enumerate([*lines, ""]) if number > first and not line.startswith("|"))
    header, _, *rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines[first:last]]
    names = [f"{name} 2" if name in header[:place] else name for place, name in enumerate(header)]
    return [dict(zip(names, row, strict=True)) for row in rows]


def column(text: str, heading: str, name: str) -> dict[str, str]:
    """A column of a report's table by the first cell of each row."""
    rows = table(text, heading)
    first = next(iter(rows[0]))
    return {row[first]: row[name] for row in rows}


def rounded(number: Decimal | str, step: str) -> Decimal:
    """Half up, as a person rounds."""
    return Decimal(number).quantize(Decimal(step), ROUND_HALF_UP)


def printed(number: int, row: str, name: str = "mean") -> str:
    """A cell of the paper's tables 1 to 3; empty where it has none."""
    cells = pd.read_csv(ROOT / f"params/paper/table{number}.csv", dtype=str, keep_default_na=False)
    return "".join(cells[(cells.method == row) & (cells.category == name)].value)


def headings(page: Path) -> set[str]:
    """As a link names them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


def ablations() -> dict[str, str]:
    """The cells of the paper's Table 4 by the title of our experiment."""
    experiments = read_yaml(ROOT / "params/experiments.yaml")
    cells = pd.read_csv(ROOT / "params/paper/table4.csv", dtype=str)
    cells = cells[~cells.variant.str.startswith(("resnet", "efficientnet"))]
    return {experiments[variant]["title"]: value for variant, value in zip(cells.variant, cells.value, strict=True)}


def test_screw_is_its_report_beside_the_paper() -> None:
    report, rows = read(SCREW), table(FINDINGS, "**MVTec-AD's screw**")
    reported = column(report, "### image AUROC", "screw")
    assert [row["per cent"] for row in rows] == list(reported)
    sizes = column(report, "## Trained parameters", "parameters")
    pixel, aupro = (column(report, f"### {metric}", "screw") for metric in ("pixel AUROC", "AUPRO"))
    for row in rows:
        name = row["per cent"]
        size = sizes.get(name, "").partition(" ")[0].replace(",", "")
        assert row == {
            "per cent": name,
            "image AUROC": reported[name],
            "paper": printed(2, name, "screw"),
            "pixel AUROC": pixel[name],
            "paper 2": printed(1, name, "screw"),
            "paper, mean": ablations().get(name, ""),
            "AUPRO": aupro[name],
            "parameters": f"{rounded(Decimal(size) / 10**6, '0.01')} M" if size else "",
        }


# Of the README's first table: study, metric, category; what a method's name ends in; the paper's table and categories
STATUS = [
    ("bottle, images", "ablations_bottle", "# image AUROC\n", "bottle", "", (2, "bottle")),
    ("bottle, pixels", "ablations_bottle", "# pixel AUROC\n", "bottle", "", (1, "bottle")),
    ("screw, images", "ablations_screw_200", "# image AUROC\n", "screw", "", (2, "screw")),
    ("screw, pixels", "ablations_screw_200", "# pixel AUROC\n", "screw", "", (1, "screw")),
    ("screw at 512 px, images", "resolution", "# image AUROC\n", "screw", ", 512 px, 24x24", (2, "screw")),
    ("screw at 512 px, pixels", "resolution", "# pixel AUROC\n", "screw", ", 512 px, 24x24", (1, "screw")),
    ("CIFAR-10, ten classes", "cifar10", "# image AUROC\n", "mean", "", (3, "mean")),
    ("airplane, cat, horse", "size_cifar10", "# image AUROC\n", "mean", ", 128 px", (3, "airplane cat horse")),
    ("solar cells (ELPV)", "distance_elpv", "# image AUROC\n", "mean", "", None),
]


def test_the_first_table_is_of_the_reports_and_of_the_paper() -> None:
    rows = table(README, "<!-- status -->")
    assert [row["AUROC, %"] for row in rows] == [name for name, *_ in STATUS]
    study = ""
    for row, (_, name, metric, category, suffix, paper) in zip(rows, STATUS, strict=True):
        study = re.findall(r"\(([^()]*)\)$", row["how"])[0] if row["how"] else study  # as of the row above
        assert study == f"reports/measured/{name}/report.md"
        assert all(epochs in read(study) for epochs in re.findall(r"\d+ epochs", row["how"]))
        reported = column(read(study), metric, category)
        for method in ("ADTR", "PaDiM", "PatchCore"):
            mean, _, _ = reported.get(method + suffix, "").strip("*").partition(" ")  # without ±, of several seeds
            assert row[method] == mean, (row, method)
        values = [Decimal(printed(paper[0], "ADTR", each)) for each in paper[1].split()] if paper else []
        ours = Decimal(row["ADTR, paper"]) if row["ADTR, paper"] else None
        assert ours == (rounded(sum(values, Decimal()) / len(values), "0.1") if values else None)


def test_cifar10_is_its_report_beside_the_paper() -> None:
    report, rows = read(CIFAR), table(FINDINGS, "**CIFAR-10**")
    every = column(report, "### image AUROC, all anomalous test images", "mean")
    ours = {row.pop("per cent"): row for row in table(report, "### image AUROC\n")}
    for row in rows:
        name, beside = row.pop("image AUROC, %"), row.pop("mean, all 9,000")
        method = name.removesuffix(", paper")
        if name in ours:
            assert row == {category: ours[name][category] for category in row}
            assert beside == every[name]
        else:
            assert row == {category: printed(3, method, category) for category in row}
            assert method in METHODS
            assert not beside
        assert list(row) == [category for category in ours["ADTR"] if category != "runs"]
    assert len(rows) == len(ours) + len(METHODS)


@pytest.mark.skipif(not (ROOT / DEMO).is_file(), reason="the demo's report is not published")
def test_the_demo_is_its_report() -> None:
    ours = {row.pop("per cent"): row for row in table(read(DEMO), "#### image AUROC\n")}
    rows = {row.pop("image AUROC, %"): row for row in table(README, "<!-- demo -->")}
    assert rows == {name: {category: ours[name][category] for category in rows[name]} for name in ours}


CLAIMS = [  # a sentence of the README or the findings, the file that it comes from, and what stands there
    ("ends at 0.235, the CNN's at 0.117", SCREW, "ADTR 1.29 to 0.235"),
    ("ends at 0.235, the CNN's at 0.117", SCREW, "CNN 1.61 to 0.117"),
    ("41 normal and 119 anomalous images", SCREW, "41 normal and 119 anomalous test images"),
    ("a standard error of 4.6 points", SCREW, "the mean of ADTR a standard error of 4.6 points"),
    ("40 epochs, ADTR+ 24 more", SCREW, "trained for 40 epochs, ADTR+ for 24 more"),
    ("256 px (resized from 1024 to 512 px before), 16x16 grid", SCREW, "of 256 px, on a grid of 16 × 16 tokens"),
    ("resized from 1024 to 512 px before", SCREW, "resized from 1024 to 512 px before"),
    ("do not reproduce the order of Table 4a", SCREW, "(a) Attention and auxiliary query embedding: another order"),
    ("Tables 4b and 4d come out as in the paper", SCREW, "(b) Reconstructing pixels or features: the same order"),
    ("Tables 4b and 4d come out as in the paper", SCREW, "(d) Multi-scale features: the same order"),
    ("91.3 is illegible in our copy, and quoted second-hand", SCREW, "91.3 is quoted second-hand"),
    ("32 px, 8x8 grid", CIFAR, "images of 32 px, on a grid of 8 × 8 tokens"),
    ("10 epochs, ADTR+ 3 more", CIFAR, "trained for 10 epochs, ADTR+ for 3 more"),
    ("ADTR is 16.9 points behind the paper's", CIFAR, "| -9.4 | -16.9 | 1–10 |"),
    ("by 1.7 points (95 % interval 1.3 to 2.1)", CIFAR, "| ADTR+ | CIFAR-10 | image AUROC | +1.7 | [+1.3, +2.1] |"),
    ("Python 3.11.4 or newer", "pyproject.toml", 'requires-python = ">=3.11.4"'),
    ("torch 2.13.0", "constraints.txt", "torch==2.13.0"),
    ("(5.3 GB, CC BY-NC-SA 4.0)", "params/sources.yaml", "bytes: 5264982680"),
    ("ELPV, CC BY-NC-SA 4.0", "adtr/report/protocol.py", 'ELPV = {"licence": "CC BY-NC-SA 4.0"'),
    ("Apache-2.0", "pyproject.toml", 'license = "Apache-2.0"'),
]
HOURS = {SCREW: "2.8 core hours", CIFAR: "4.4 core hours"}


@pytest.mark.parametrize(("claim", "file", "source"), CLAIMS)
def test_a_sentence_has_the_numbers_of_its_source(claim: str, file: str, source: str) -> None:
    assert claim in PROSE or (claim in FOUND and file in (SCREW, CIFAR))
    assert source in read(file)


@pytest.mark.parametrize("report", HOURS)
def test_core_hours_are_the_seconds_of_the_runs(report: str) -> None:
    """Each training has one thread."""
    assert HOURS[report] in FOUND
    seconds = sum((Decimal(row["seconds"]) for row in table(read(report), "## Runs")), Decimal())
    assert f"{rounded(seconds / 3600, '0.1')} core hours" == HOURS[report]


def test_the_speed_is_the_measured_one() -> None:
    lines = read("docs/performance.md").splitlines()
    cells = next(line.split("|") for line in lines if line.startswith("| 500 epochs of one MVTec category"))
    assert "hours per category, two trained side by side" in cells[1]
    hours, ratio = rounded(2 * Decimal(cells[4].strip().removesuffix(" h")), "0.1"), rounded(cells[5].strip(), "1")
    assert f"train for 500 epochs in {hours} hours, {ratio} times faster" in PROSE


def test_every_decimal_in_the_text_is_tested() -> None:
    text = re.sub(r"<!-- demo -->.*<!-- /demo -->|```.*?```", "", README, flags=re.DOTALL)
    text = " ".join(" ".join(line for line in text.splitlines() if not re.match(r"\|.*\d\.\d \|", line)).split())
    for claim, _, _ in CLAIMS:
        text = text.replace(claim, "")
    assert [word for word in text.split() if re.search(r"\d\.\d", word)] == ["2.3"]  # hours: the test above


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", read(name)):
        file, _, heading = link.partition("#")
        place = (ROOT / name).parent / file if file else ROOT / name
        if not link.startswith("https:"):
            assert place.exists(), link
            assert not heading or heading in headings(place), link


def test_the_study_of_ones_own_images_is_a_study(tmp_path: Path) -> None:
    (tmp_path / "line4/screw/train/good").mkdir(parents=True)
    folder = shutil.copytree(ROOT / "params", tmp_path / "params")
    study = README.partition("```yaml\n")[2].partition("```")[0].replace("/data/line4", str(tmp_path / "line4"))
    (folder / "studies/mine.yaml").write_text(study)
    plan = resolve("mine", folder)
    assert plan.datasets["line4"].categories == ["screw"]
    assert plan.params["line4", "adtr"].features.grid_size == 16
