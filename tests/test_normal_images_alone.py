"""A study of normal images and nothing else: no metric is defined, and the report begins with what there is."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from workshop import Workshop

from adtr.data.synthetic import write_mvtec

pytestmark = pytest.mark.pipeline

STUDY = {
    "title": "Our line",
    "recipe": "fast",
    "seeds": [0],
    "datasets": {"line": ["padim"]},
    "define": {"line": {"title": "Line 4", "layout": "mvtec", "root": "data/line"}},
    "set": {
        "features": {"backbone": "pixels", "weights": "random", "image_size": 64, "grid_size": 8},
        "threshold": {"calibration": 0.5, "false_alarms": 0.25},
    },
}


def test_the_report_begins_with_threshold_and_command_and_has_nothing_empty(tmp_path: Path) -> None:
    shop = Workshop(tmp_path / "clone")
    write_mvtec(shop.folder / "data/line", ["bottle"], images=12, size=64, seed=0)
    for part in ("test", "ground_truth"):
        shutil.rmtree(shop.folder / "data/line/bottle" / part)
    (shop.folder / "params/studies/line.yaml").write_text(yaml.safe_dump(STUDY))
    done = shop.snakemake("report", "--cores", "2", study="line")
    assert done.returncode == 0, done.stdout
    report = shop.folder / "reports/line"
    texts = {form: (report / f"report.{form}").read_text(encoding="utf-8") for form in ("html", "md", "tex")}
    assert re.search(r"\| PaDiM +\| bottle +\| +0 \| +25 \| +6 \| +[\d.]+ \|\n", texts["md"])
    command = "adtr predict results/line/runs/line/padim/bottle/0 IMAGES --output predictions"
    for form, text in texts.items():
        assert ("{adtr predict results/line" if form == "tex" else command) in text, form
        assert text.count("there are no test images") == 1, form
        assert "misses" not in text, form
        assert "The check of the images gave" not in text, form  # it is told under “The data”, and no alarm
    assert texts["md"].index(command) < texts["md"].index("## Against what?")
    sections = re.split(r"^#+ .*\n", texts["md"], flags=re.MULTILINE)[1:]
    headings = re.findall(r"^(#+) .*\n", texts["md"], flags=re.MULTILINE)
    for place, (level, body) in enumerate(zip(headings, sections, strict=True)):
        deeper = headings[place + 1 : place + 2] > [level]
        assert body.strip() or deeper, (place, level)
    assert not re.search(r"<tbody>\s*</tbody>", texts["html"])
    fails_in_one_form_alone(shop, report)


def fails_in_one_form_alone(shop: Workshop, report: Path) -> None:
    """A form that cannot be written leaves the others, and is written once it can be."""
    template = shop.folder / "adtr/report/page.tex.j2"
    whole = template.read_text()
    template.write_text(whole + "<< absent >>")
    failed = shop.snakemake("report", "--cores", "2", study="line")
    assert failed.returncode != 0
    assert "report.tex: UndefinedError" in failed.stdout
    assert {path.name for path in report.glob("re*")} == {"report.html", "report.md"}
    template.write_text(whole)
    assert shop.snakemake("report", "--cores", "2", study="line").returncode == 0
    assert {path.name for path in report.glob("re*")} == {"report.html", "report.md", "report.tex", "record.json"}
