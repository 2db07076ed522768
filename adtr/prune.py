"""What a study made and does no longer want: files that no target would make again, and runs of other parameters."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from adtr.config.study import Plan, differences_file, run_folder
from adtr.figures import all_files
from adtr.tables.stage import table_names
from adtr.tables.summary import misfits


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
    for path in list(misfits(plan, results)):
        _remove_whole(path)
        yield path


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
