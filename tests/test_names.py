"""A study of baselines only whose words have a meaning to a shell, to Snakemake, to LaTeX or to a spreadsheet."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from workshop import Workshop

from adtr.data.synthetic import write_mvtec

pytestmark = pytest.mark.pipeline

CATEGORIES = ["-x", "cat 'q' (1) %s Я;&|<>*?#=~^"]
ROOT = "data $(touch pwned) {A} 'q' \"d\" % ${HOME} Я `touch pwned`"
DEFECT, IMAGE = "cost_$5_$6 {x} 缺陷 =1", "-a {b} $(touch pwned) 'q' \"d\" %s, Я=#"
STUDY = {
    "title": "Line {A} ${HOME} $5 生产线 ✓ Ω <img src=x> [a](javascript:alert(1)) `x` | 😀 \u200b",
    "recipe": "fast",
    "seeds": [0],
    "datasets": {"line": ["padim"]},
    "set": {"features": {"backbone": "pixels", "weights": "random", "image_size": 64, "grid_size": 8}},
}


def test_every_word_of_a_user_is_a_word_and_no_command(tmp_path: Path) -> None:
    """The study is called 007, and lies in a folder of braces."""
    shop, root = Workshop(tmp_path / "clone {B} $HOME"), tmp_path / ROOT
    write_mvtec(root, CATEGORIES, images=4, size=64, seed=0)
    for category in CATEGORIES:
        for kind in ("test", "ground_truth"):
            (root / category / kind / "scratch").rename(root / category / kind / DEFECT)
        (root / category / "test/blob/000.png").rename(root / category / f"test/blob/{IMAGE}.png")
        (root / category / "ground_truth/blob/000_mask.png").rename(
            root / category / f"ground_truth/blob/{IMAGE}_mask.png"
        )
    study = STUDY | {"define": {"line": {"title": "L {A} $1$ 中", "layout": "mvtec", "root": str(root)}}}
    path = shop.folder / "params/studies/007.yaml"
    path.write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    done = shop.snakemake("report", "--cores", "2", study="007")
    assert done.returncode == 0, done.stdout
    assert not list(tmp_path.rglob("pwned"))
    report = shop.folder / "reports/007"
    assert {path.name for path in report.iterdir()} >= {"report.html", "report.md", "report.tex"}
    assert "<img src=x>" not in (report / "report.html").read_text(encoding="utf-8")
    again = shop.snakemake("report", "--dry-run", study="007")
    assert "Nothing to be done" in again.stdout
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "report.tex"]
        assert subprocess.run(command, cwd=report, capture_output=True).returncode == 0
