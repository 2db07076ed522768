"""The shapes of the paper's tables, of params/tables.yaml, and its printed numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from adtr.config.reader import read_as
from adtr.config.schema import Name, Positive, Section, Text, Title
from adtr.errors import UserError
from adtr.files import sha256


class Further(Section):
    """A row of ours that the paper does not have."""

    part: str
    variant: Name
    label: Annotated[str, Field(pattern=r"^([^{}]|\{(backbone|image_size|grid_size)\})+$")]


class Spec(Section):
    """The shape of one of the paper's tables: tables.yaml says what each key means."""

    title: Title
    benchmark: Literal["mvtec", "cifar10"]
    metric: Literal["image_auroc", "pixel_auroc"]
    paper: Text
    ours: dict[str, Name] = Field(default={})
    further: dict[str, Name] | list[Further] = Field(default={})
    third_party: dict[Text, Text] = Field(default={})
    categories: Positive = 1
    backbone: str = ""
    named: str = ""
    parts: dict[str, str] = Field(default={})
    names: dict[str, str] = Field(default={})


def read_specs(params: Path) -> dict[str, dict[str, Any]]:
    """The shape of each of the paper's tables, tables.yaml, with its printed numbers as `paper`, a frame of text.

    `others` has the numbers of third parties: method, category, value, source.

    Args:
        params: the folder params/.

    Raises:
        UserError: a file is missing or of another shape.
    """
    path = params / "tables.yaml"
    checked = read_as(path, dict[Name, Spec])
    if missing := {"table1", "table2", "table3", "table4"} - set(checked):
        raise UserError(f"{path}: {', '.join(sorted(missing))} expected")
    return {
        name: spec.model_dump(exclude_unset=True)
        | {"paper": _read_paper(params, spec), "others": _read_others(params, spec)}
        for name, spec in checked.items()
    }


def digests(params: Path) -> dict[str, str]:
    """The sha256 of each file that `read_specs` reads, by its name below params/."""
    printed = sorted((params / "paper").glob("*.csv"))
    return {str(path.relative_to(params)): sha256(path) for path in (params / "tables.yaml", *printed)}


def _read_paper(params: Path, spec: Spec) -> pd.DataFrame:
    """A table as the paper prints it, a frame of text."""
    columns = {"part", "label", "variant"} if spec.parts else {"method", "reference", "category"}
    return _read(params / spec.paper, columns | {"note"}).fillna({"note": "", "reference": ""})


def _read_others(params: Path, spec: Spec) -> pd.DataFrame:
    """What third parties measured, of the spec's sources and metric."""
    path, columns = params / "paper/third_party.csv", {"method", "metric", "category", "source"}
    if not spec.third_party:
        return pd.DataFrame(columns=["method", "category", "value", "source"])
    table = _read(path, columns)
    if missing := set(spec.third_party) - set(table.source):
        raise UserError(f"{path}: no row of the source {', '.join(sorted(missing))}")
    return table[(table.metric == spec.metric) & table.source.isin(spec.third_party)]


def _read(path: Path, columns: set[str]) -> pd.DataFrame:
    """A table of text with these columns and `value`, a number each."""
    try:
        table = pd.read_csv(path, dtype=str)
        table.value.astype(float)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a table as printed: {error}") from None
    if missing := columns - set(table):
        raise UserError(f"{path}: no column {', '.join(sorted(missing))}")
    return table


def experiments_of(spec: Mapping[str, Any]) -> list[str]:
    """The experiments whose runs one of the paper's tables shows."""
    if "parts" in spec:
        return list(dict.fromkeys(spec["paper"].variant))
    return [*spec["ours"].values(), *spec["further"].values()]
