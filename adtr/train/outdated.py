"""Runs that lie where a study's belong, and are of other parameters: those of a variant, or from another machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adtr.config.paths import Paths
from adtr.config.study import EVALUATED, Run
from adtr.records import Record


def outdated(paths: Paths) -> Iterator[Path]:
    """The folder of each run whose training does not fit the plan, else the files of its evaluation.

    The run that a run started from counts, too. What data and anomalies were made with does not.
    """
    for run in paths.plan.runs():
        folder = paths.run(run)
        if trained_otherwise(paths, run):
            yield folder
        elif evaluated_otherwise(paths, run):
            yield from (folder / name for name in EVALUATED if (folder / name).is_file())


def trained_otherwise(paths: Paths, run: Run) -> bool:
    """Whether a run is there, trained with other parameters than the plan's."""
    record, params, start = _record(paths.run(run)), paths.plan.params[run[:2]], paths.start(run)
    asked = params.decisive()
    expected = {
        "method": params.method,
        "seed": run.seed,
        "params": {name: asked[name] for name in params.method_sections()},
        "start": _record(start).get("model") if start else None,
        "calibration": params.threshold.calibration or None,
    }
    as_asked = all(record.get(key) == value for key, value in expected.items())
    return bool(record) and not (as_asked and record["features"]["features"] == asked["features"])


def evaluated_otherwise(paths: Paths, run: Run) -> bool:
    """Whether a run is there without an evaluation of its model by the plan's parameters."""
    folder, asked = paths.run(run), paths.plan.params[run[:2]].decisive()
    trained, evaluated = _record(folder), _record(folder, "evaluation.json")
    expected = {"model": trained.get("model"), "score": asked["score"], "threshold": asked.get("threshold")}
    return bool(trained) and any(evaluated.get(key) != value for key, value in expected.items())


def _record(folder: Path, name: str = "run.json") -> dict[str, Any]:
    return Record(folder / name).values if (folder / name).is_file() else {}
