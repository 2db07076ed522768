"""The audit of the paper's arithmetic: verdicts by hand, and the committed page against its generator."""

import runpy
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pandas as pd
import planted
import pytest

audit = SimpleNamespace(**runpy.run_path(str(planted.REPOSITORY / "docs/paper_audit.py")))


def test_the_committed_page_is_the_generated_one() -> None:
    """Otherwise run `python docs/paper_audit.py`."""
    assert (planted.REPOSITORY / "docs/paper-audit.md").read_text(encoding="utf-8") == audit.page()


@pytest.mark.parametrize(
    ("cells", "printed", "verdict"),
    [
        ("90.0 91.0", "90.5", "agrees"),
        ("90.0 90.1", "90.1", "agrees"),  # 90.05, half up
        ("90.0 90.1", "90.0", "agrees with unrounded cells"),  # of 89.96 and 90.09, say
        ("90.0 91.0", "90.7", "does not agree"),  # 90.55 at most, which is printed as 90.6
        ("90 91", "91", "agrees"),
        ("90 91", "90", "agrees with unrounded cells"),
        ("90 91", "92", "does not agree"),
        ("100 100.0", "100", "agrees"),
        ("100.0 100.0", "100.1", "does not agree"),  # nothing is above 100
        ("", "85.5", "no cells"),
        (" ".join(["90"] * 50), "89", "hardly agrees"),  # if all fifty were rounded up by almost a half
    ],
)
def test_a_mean_against_its_cells(cells: str, printed: str, verdict: str) -> None:
    assert audit.judge([Decimal(cell) for cell in cells.split()], Decimal(printed))[0] == verdict


TABLE = pd.DataFrame(
    [
        ("Old", "cat", "80.0"), ("Old", "dog", "90.0"), ("Old", "mean", "85.0"),
        ("Odd", "cat", "99.0"), ("Odd", "dog", "61.0"), ("Odd", "mean", "80.0"),
        ("ADTR", "cat", "90.0"), ("ADTR", "dog", "90.0"), ("ADTR", "mean", "92.0"),
    ],
    columns=["method", "category", "value"],
)  # fmt: skip
PAPERS = {"table1": TABLE, "table4": pd.DataFrame({"label": ["CNN", "Both"], "value": ["94.4", "97.2"]})}
GAP = [["table4", "Both", "paper"], ["table4", "CNN", "paper"]]
BEST = [["table1", "ADTR", "mean"], ["table1", "best", "mean"]]


@pytest.mark.parametrize(
    ("printed", "how", "verdict"),
    [
        ("2.8", {"minus": GAP}, "follows"),
        ("2.7", {"minus": GAP}, "does not follow"),
        ("7.0", {"minus": BEST}, "follows"),  # 92 - 85: the best of the others
        ("7.0", {"minus": BEST, "cells": True}, "follows, but not from the cells"),  # 90 - 85
        ("720", {"sum": [24, 32, 56, 160, 448]}, "follows"),
        ("1023", {"product": [32, 32]}, "does not follow"),
    ],
)
def test_a_claim_against_the_tables(printed: str, how: dict[str, Any], verdict: str) -> None:
    assert audit.claim({"quote": "q", "section": "4.2", "printed": printed} | how, PAPERS)["verdict"] == verdict


def test_ranks_are_counted_by_category() -> None:
    best = audit.rank({"quote": "q", "section": "Abstract", "rows": [["table1", "ADTR"], ["table1", "best"]]}, PAPERS)
    assert best["categories"] == "ahead in 0, level in 1, behind in 1"
    assert best["rows"].endswith("behind in cat")
    old = audit.rank({"quote": "q", "section": "4.2", "rows": [["table1", "ADTR"], ["table1", "Old"]]}, PAPERS)
    assert (old["categories"], old["section"]) == ("ahead in 1, level in 1, behind in 0", "Sec. 4.2")


def test_who_is_near_whom_is_told_within_two_points() -> None:
    cells = [("ADTR", "a", "90.0"), ("ADTR", "b", "90.0"), ("ADTR", "mean", "90.0")]
    papers = {name: pd.DataFrame(cells, columns=["method", "category", "value"]) for name in audit.BENCHMARK}
    others = [
        (audit.REBUILT, of, name, value)
        for of in audit.BENCHMARK.values()
        for name, value in (("a", "92.0"), ("b", "92.1"))
    ]
    rebuilt = pd.DataFrame(others, columns=["method", "metric", "category", "value"])
    first, second, *_ = audit.agreement(papers, rebuilt, {("table1", "b"): {"mine": "90.2", "far": "80.0"}})
    assert [*first.values()][2:] == ["90.0", "92.0", "–", "third party", "–"]
    assert [*second.values()][2:] == ["90.0", "92.1", "mine: 90.2; far: 80.0", "mine", "mine"]
