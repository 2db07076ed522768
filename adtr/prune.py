"""What a study made and does no longer want: files that no target would make again, and runs of other parameters."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adtr.config import Params
from adtr.figures import all_files
from adtr.study import Plan, differences_file, run_folder
from adtr.tables import table_names


def prune(plan: Plan, folder: Path) -> Iterator[Path]:
    """Removes what categories, experiments and seeds left that the study has no more, and its misfits; gives each.

    Args:
        folder: that holds results/.
    """
    results = folder / "results" / plan.name
    wanted_in = {
        "runs": {run_folder(results, *run) for run in plan.runs()},
        "differences": {differences_file(results, *run) for run in plan.runs()},
        "figures": {results / "figures" / name for name in all_files(plan)},
        "tables": {results / "tables" / f"{name}.{end}" for name in table_names(plan) for end in ("csv", "md", "tex")},
    }
    for root, wanted in wanted_in.items():
        yield from _remove(results / root, wanted)
    for path in misfits(plan, results):
        _remove_whole(path)
        yield path


def misfits(plan: Plan, results: Path) -> Iterator[Path]:
    """Runs of other parameters than the plan's: those of a variant that DVC brought under Snakemake's records.

    Of a run whose training fits, the record of its evaluation, if that does not. (What ADTR+'s anomalies were made with
    does not stand in its run.)

    Args:
        results: the study's folder of results.
    """
    for dataset, experiment, category, seed in plan.runs():
        folder, params = run_folder(results, dataset, experiment, category, seed), plan.params[dataset, experiment]
        trained, evaluated = _read(folder / "run.json"), _read(folder / "evaluation.json")
        if trained and _asked_for(trained) != {"method": params.method, "seed": seed} | _sections(params):
            yield folder
        elif evaluated and (evaluated["model"], evaluated["score"]) != (trained["model"], params.decisive()["score"]):
            yield folder / "evaluation.json"


def _asked_for(trained: dict[str, Any]) -> dict[str, Any]:
    return (
        {key: trained[key] for key in ("method", "seed")}
        | trained["params"]
        | {"features": trained["features"]["features"]}
    )


def _sections(params: Params) -> dict[str, Any]:
    return {name: params.decisive()[name] for name in [*params.method_sections(), "features"]}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _remove(place: Path, wanted: set[Path]) -> Iterator[Path]:
    """Removes what is neither wanted, nor above nor below something wanted."""
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path in wanted or path.name == ".snakemake_timestamp":
            continue
        if any(path in below.parents for below in wanted):
            yield from _remove(path, wanted)
            continue
        _remove_whole(path)
        yield path


def _remove_whole(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
