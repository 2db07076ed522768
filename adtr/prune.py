"""What a study made and no longer wants: files that no target would make again, and runs of other parameters."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from adtr.config.paths import Paths
from adtr.tables.stage import table_names
from adtr.tables.summary import TABLES
from adtr.train.outdated import outdated


def prune(paths: Paths) -> Iterator[Path]:
    """Removes what categories, experiments and seeds left that the study has no more, and outdated runs; gives each."""
    plan, results = paths.plan, paths.results
    wanted_in = {
        "runs": {paths.run(run) for run in plan.runs()},
        "differences": {paths.differences(run).with_suffix(end) for run in plan.runs() for end in (".npz", ".json")},
        "figures/categories": {paths.category_figures(*names) for names in plan.categories()},
        "figures/datasets": {paths.dataset_figures(dataset) for dataset in plan.datasets},
        "tables": {results / TABLES, *(path for name in table_names(plan) for path in paths.table(name))},
    }
    for folder, wanted in wanted_in.items():
        yield from _remove(results / folder, wanted)
    for path in list(outdated(paths)):
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
