"""The numbers of docs/findings.md against the reports that they come from."""

import re

import planted

ROOT = planted.REPOSITORY
TEXT = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
DISTANCES = {"L2": "", "standardised L2": ", standardised L2", "Mahalanobis": ", Mahalanobis"}


def rows(text: str) -> list[list[str]]:
    """The cells of the lines of Markdown tables."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


def test_the_matrix_of_distances_is_that_of_its_report() -> None:
    report = (ROOT / "reports/measured/distance_elpv/report.md").read_text(encoding="utf-8")
    measured = {row[0]: f"{row[3]} {row[4]}" for row in rows(report) if len(row) == 6 and row[4].startswith("[")}
    head, *lines = rows(TEXT[TEXT.index("<!-- distance_elpv -->") : TEXT.index("<!-- /distance_elpv -->")])
    assert head[1:] == [*DISTANCES]
    for name, *cells in lines:
        for distance, cell in zip(head[1:], cells, strict=True):
            plain = ", L2" if name == "Mean" and distance == "L2" else DISTANCES[distance]
            assert cell == measured[name + plain], (name, distance)
    for name in ("PaDiM", "PatchCore"):
        assert f"{name} is at {measured[name]}" in TEXT or f"{name} at {measured[name]}" in TEXT


def test_the_differences_in_its_text_are_those_of_its_report() -> None:
    report = (ROOT / "reports/measured/distance_elpv/report.md").read_text(encoding="utf-8")
    gaps = {row[0]: (row[3], row[4]) for row in rows(report) if len(row) == 8}
    said = {
        "Mean, L2": ("-9.0", "[-11.3, -7.0]", "ADTR is 9.0 (95 % interval 7.0 to 11.3) ahead of the mean"),
        "ADTR, Mahalanobis": ("+1.6", "[+1.0, +2.3]", "adds 1.6 points (1.0 to 2.3)"),
        "ADTR, standardised L2": ("+0.2", "[-0.4, +0.8]", "(+0.2, −0.4 to 0.8)"),
        "w/o query": ("0.0", "[-0.3, +0.2]", "(w/o query: 0.0, −0.3 to 0.2)"),
        "CNN": ("-0.7", "[-1.2, -0.2]", "the CNN is 0.7 behind ADTR (0.2 to 1.2)"),
    }
    plain = re.sub(r"\s+", " ", TEXT)
    for name, (gap, interval, text) in said.items():
        assert gaps[name] == (gap, interval)
        assert text in plain
