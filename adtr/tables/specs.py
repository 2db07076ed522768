"""The shapes of the paper's tables, params/tables.yaml, with its printed numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.config.schema import read_yaml


def read_specs(params: Path) -> dict[str, dict[str, Any]]:
    """The shape of each of the paper's tables, tables.yaml, with its printed numbers as `paper`, a frame of text.

    Args:
        params: the folder params/.
    """
    specs = read_yaml(params / "tables.yaml")
    for spec in specs.values():
        spec["paper"] = pd.read_csv(params / spec["paper"], dtype=str).fillna({"note": "", "reference": ""})
    return specs


def experiments_of(spec: Mapping[str, Any]) -> list[str]:
    """The experiments whose runs one of the paper's tables shows."""
    if "parts" in spec:
        return list(dict.fromkeys(spec["paper"].variant))
    return [*spec["ours"].values(), *spec["further"].values()]
