"""Runs that lie where a study's belong, and are of other parameters: those of a variant, or from another machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adtr.config.paths import Paths
from adtr.config.study import EVALUATED, Run


def outdated(paths: Paths) -> Iterator[Path]:
    """The folder of each run whose training does not fit the plan, else the files of an evaluation that does not.

    Of ADTR+, the run that it started from counts, too. What data and anomalies were made with does not.
    """
    for run in paths.plan.runs():
        folder = paths.run(run)
        if trained_otherwise(paths, run):
            yield folder
        elif evaluated_otherwise(paths, run):
            yield from (folder / name for name in EVALUATED if (folder / name).is_file())


def trained_otherwise(paths: Paths, run: Run) -> bool:
    """Whether a run is there, trained with other parameters than the plan's."""
    record, params, start = _record(paths.run(run) / "run.json"), paths.plan.params[run[:2]], paths.start(run)
    asked = params.decisive()
    expected = {
        "method": params.method,
        "seed": run.seed,
        "params": {name: asked[name] for name in params.method_sections()},
        "start": _record(start / "run.json").get("model") if start else None,
    }
    as_asked = all(record.get(key) == value for key, value in expected.items())
    return bool(record) and not (as_asked and record["features"]["features"] == asked["features"])


def evaluated_otherwise(paths: Paths, run: Run) -> bool:
    """Whether a run is there, evaluated with other parameters than the plan's, or before it was trained."""
    folder, score = paths.run(run), paths.plan.params[run[:2]].score.model_dump(mode="json")
    trained, evaluated = _record(folder / "run.json"), _record(folder / "evaluation.json")
    return bool(trained) and (evaluated.get("model"), evaluated.get("score")) != (trained.get("model"), score)


def _record(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
