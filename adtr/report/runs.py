"""The runs behind the numbers: what their run.json record, their parameters, and which of them made a cell."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adtr.config.levels import flatten
from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.errors import UserError
from adtr.records import Record
from adtr.tables.summary import run_files

Row = dict[str, Any]
Runs = Mapping[tuple[str, ...], Row]  # by data set, experiment, category, seed


def read_runs(paths: Paths) -> dict[tuple[str, ...], Row]:
    """The record of each run, numbered in the order of the study.

    Raises:
        UserError: a record is missing.
    """
    plan, runs = paths.plan, dict[tuple[str, ...], Row]()
    files = run_files(paths, "run.json", "record")
    for (dataset, experiment, category, seed), path in zip(plan.runs(), files, strict=True):
        record = Record(path).values
        names = {"dataset": plan.datasets[dataset].title, "experiment": plan.titles[experiment], "category": category}
        place = {"params": f"params-{dataset}-{experiment}", "number": len(runs) + 1}
        runs[dataset, experiment, category, str(seed)] = facts(record) | names | place
    return runs


def facts(record: Mapping[str, Any]) -> Row:
    """What the report shows of a run.json."""
    features = record["features"]
    half = ", features in bfloat16" if features["features"]["precision"] == "bfloat16" else ""
    names = ["seed", "images", "parameters", "seconds", "time", "code", "commit", "model"]
    return {name: record[name] for name in names} | {
        "device": f"{record['device']}, {record['precision']}{half}",
        "epochs": record["params"].get("train", {}).get("epochs", "–"),
        "machine": f"{record['cpu']}, {record['cores']} cores, Python {record['python']}, PyTorch {record['torch']}",
        "data": features["data"],
        "weights": features["weights"],
        "feature_code": features["code"],
        "start": record.get("start", ""),
        "anomalies": record.get("anomalies", {}),
    }


def parameters(plan: Plan) -> list[Row]:
    """The parameters of each experiment on each data set: those that its runs read, as dotted keys."""
    rows = []
    for (dataset, experiment), params in plan.params.items():
        names = {"dataset": plan.datasets[dataset].title, "experiment": plan.titles[experiment]}
        values = {key: written(value) for key, (value, _) in flatten(params.decisive(), "").items()}
        rows.append(names | {"id": f"params-{dataset}-{experiment}", "values": values})
    return rows


def written(value: Any) -> str:
    """A parameter's value as params/ writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def runs_of(provenance: Any, runs: Runs) -> list[Row]:
    """The runs that a cell's provenance names, each once, in the study's order; none of a number that was printed.

    Raises:
        UserError: a model was trained anew since its metrics were taken.
    """
    sources = {}
    for path, model in re.findall(r"(\S.*?)@([0-9a-f]{12})(?= |$)", str(provenance)):
        run = runs.get(Path(path).parts[-4:])
        if run is None:
            raise UserError(f"{path}: no run of this study, but its tables name it: make them again (`adtr tables`)")
        if not run["model"].startswith(model):
            raise UserError(f"{path}: its metrics are of another model than the one that lies there: evaluate it again")
        sources[run["number"]] = run
    return [sources[number] for number in sorted(sources)]


def span(runs: Iterable[Row]) -> str:
    """The numbers of runs, as '4–6, 9' where they follow each other."""
    numbers = sorted({run["number"] for run in runs})
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))
