"""The audit: verdicts by hand, and what it finds in the paper."""

from decimal import Decimal
from typing import Any

import pandas as pd
import planted
import pytest

from adtr.config.schema import read_yaml
from adtr.tables import audit

SPECS = read_yaml(planted.REPOSITORY / "params/tables.yaml")
CLAIMS = read_yaml(planted.REPOSITORY / "params/paper/claims.yaml")


def paper(name: str) -> pd.DataFrame:
    return pd.read_csv(planted.REPOSITORY / SPECS[name]["paper"], dtype=str).fillna({"note": "", "reference": ""})


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return audit.audit({name: paper(name) for name in SPECS}, CLAIMS)


def judged(cells: str, printed: str) -> str:
    return audit.judged([Decimal(cell) for cell in cells.split()], Decimal(printed))[0]


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
    assert judged(cells, printed) == verdict


TABLE = pd.DataFrame(
    [
        ("Old", "cat", "80.0"), ("Old", "dog", "90.0"), ("Old", "mean", "85.0"),
        ("Odd", "cat", "99.0"), ("Odd", "dog", "61.0"), ("Odd", "mean", "80.0"),
        ("ADTR", "cat", "90.0"), ("ADTR", "dog", "90.0"), ("ADTR", "mean", "92.0"),
    ],
    columns=["method", "category", "value"],
).assign(note="")  # fmt: skip
ABLATION = pd.DataFrame({"label": ["CNN", "Both"], "value": ["94.4", "97.2"], "note": "", "part": "a"})
PAPERS = {"table1": TABLE, "table4": ABLATION}


def claim(printed: str, cells: bool = False, **how: Any) -> dict[str, str]:
    return audit.claim({"quote": "q", "section": "4.2", "printed": printed, "cells": cells} | how, PAPERS)


def test_a_claim_is_a_cell_less_a_cell() -> None:
    assert claim("2.8", minus=[["table4", "Both", "paper"], ["table4", "CNN", "paper"]])["verdict"] == "follows"
    assert claim("2.7", minus=[["table4", "Both", "paper"], ["table4", "CNN", "paper"]])["verdict"] == "does not follow"


def test_the_best_is_the_best_of_the_others() -> None:
    row = claim("7.0", minus=[["table1", "ADTR", "mean"], ["table1", "best", "mean"]])
    assert (row["computed"], row["verdict"], row["note"]) == ("7.0", "follows", "Table 1, ADTR minus Table 1, Old")


def test_a_claim_that_rests_on_a_wrong_mean_is_told() -> None:
    row = claim("7.0", cells=True, minus=[["table1", "ADTR", "mean"], ["table1", "Old", "mean"]])
    assert row["verdict"] == "follows, but not from the cells"  # 90 - 85
    assert row["note"].endswith("by the means of the printed cells 5.00")


def test_sums_and_products() -> None:
    assert claim("720", sum=[24, 32, 56, 160, 448])["verdict"] == "follows"
    assert claim("721", sum=[24, 32, 56, 160, 448])["verdict"] == "does not follow"
    assert claim("1024", product=[32, 32])["verdict"] == "follows"


def test_ranks_are_counted_by_category() -> None:
    row = audit.rank({"quote": "q", "section": "Abstract", "rows": [["table1", "ADTR"], ["table1", "best"]]}, PAPERS)
    assert row["computed"] == "ahead in 0, level in 1, behind in 1"
    assert row["note"].endswith("behind in cat")
    row = audit.rank({"quote": "q", "section": "4.2", "rows": [["table1", "ADTR"], ["table1", "Old"]]}, PAPERS)
    assert (row["computed"], row["where"]) == ("ahead in 1, level in 1, behind in 0", "Sec. 4.2")


# What it finds in the paper


def test_every_mean_that_its_cells_do_not_give_is_found(found: pd.DataFrame) -> None:
    means = found[(found.check == "mean") & (found.verdict != "agrees")]
    assert {(row.where, row.what): (row.printed, row.computed, row.verdict) for row in means.itertuples()} == {
        ("Table 1", "SSIM-AE"): ("86", "86.87", "hardly agrees"),
        ("Table 2", "GANomaly"): ("76.2", "76.15", "agrees with unrounded cells"),
        ("Table 2", "SPADE"): ("85.5", "–", "no cells"),
        ("Table 2", "KDAD"): ("87.7", "87.76", "agrees with unrounded cells"),
        ("Table 2", "ADTR"): ("96.4", "96.70", "does not agree"),
        ("Table 3", "OCGAN"): ("65.7", "65.63", "agrees with unrounded cells"),
    }


def test_every_row_of_the_tables_is_checked(found: pd.DataFrame) -> None:
    expected = [(f"Table {n}", method) for n in (1, 2, 3) for method in dict.fromkeys(paper(f"table{n}").method)]
    means = found[found.check == "mean"]
    assert list(zip(means["where"], means.what, strict=True)) == expected


def test_the_cells_that_cannot_be_are_listed(found: pd.DataFrame) -> None:
    cells = found[found.check == "cell"]
    assert cells.what.tolist() == ["VEVAE, cable", "P-Net, screw", "Loc-Glo, transistor", "(b) Pixels"]


def test_the_claims_that_rest_on_the_mean_of_table_2_are_found(found: pd.DataFrame) -> None:
    claims = found[found.check == "claim"]
    assert len(claims) == len(CLAIMS["claims"])
    assert claims[claims.verdict != "follows"].printed.tolist() == ["3.9", "0.5"]
    assert set(claims.verdict) == {"follows", "follows, but not from the cells"}


def test_every_contradiction_is_listed(found: pd.DataFrame) -> None:
    entries = found[found.check == "contradiction"]
    assert entries["where"].tolist() == [entry["about"] for entry in CLAIMS["contradictions"]]
    assert (entries[["what", "computed", "note"]] != "").all(axis=None)


def test_the_page_has_a_table_for_each_kind_of_check(found: pd.DataFrame) -> None:
    sheets = audit.sheets(found)
    assert [len(sheet.text) for sheet in sheets] == found.check.value_counts(sort=False).tolist()
    assert all(name in sheet.text for sheet in sheets for name in sheet.widths)
    assert sheets[0].text.columns.tolist() == ["table", "row", "printed", "mean of the cells", "verdict", "note"]
