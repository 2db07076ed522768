"""What a study made and does no longer name: folders and files that no target would ever make again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from adtr.figures import all_files
from adtr.study import Plan, run_folder
from adtr.tables import table_names


def prune(plan: Plan, folder: Path) -> Iterator[Path]:
    """Removes runs, figures and tables of categories, experiments and seeds that the study has no more; gives each.

    Args:
        folder: that holds results/.
    """
    results = folder / "results" / plan.name
    runs = {run_folder(results, *run) for run in plan.runs()}
    drawn = {results / "figures" / name for name in all_files(plan)}
    tables = {results / "tables" / f"{name}.{suffix}" for name in table_names(plan) for suffix in ("csv", "md", "tex")}
    differences = {results / "differences" / d / e / c / f"{s}.npz" for d, e, c, s in plan.runs()}
    wanted_in = {"runs": runs, "differences": differences, "figures": drawn, "tables": tables}
    for root, wanted in wanted_in.items():
        yield from _remove(results / root, wanted)


def _remove(place: Path, wanted: set[Path]) -> Iterator[Path]:
    """Removes what is neither wanted, nor above nor below something wanted."""
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path in wanted or path.name == ".snakemake_timestamp":
            continue
        if any(path in below.parents for below in wanted):
            yield from _remove(path, wanted)
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        yield path
