"""Whether a study's files are those that its stages wrote, of each other, and of the images that lie there now."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from adtr.config.paths import Paths
from adtr.config.schema import root_of
from adtr.config.study import Run
from adtr.data.images import raw_bytes
from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.features.select import data_digest
from adtr.features.store import check_whole, read_store
from adtr.records import Record
from adtr.tables.summary import TABLES
from adtr.train.outdated import evaluated_otherwise, trained_otherwise


def verify(paths: Paths) -> tuple[int, list[str]]:
    """How many checks were made, and what each that failed says; what was not made yet is passed over."""
    made, problems = 0, []
    for check in _checks(paths):
        made += 1
        try:
            check()
        except (UserError, OSError) as error:
            problems.append(str(error))
    return made, list(dict.fromkeys(problems))


def _checks(paths: Paths) -> Iterator[Callable[[], object]]:
    """The checks of a study in the order of the data, as functions that raise a UserError."""
    plan, stores = paths.plan, paths.all_stores
    images = {paths.manifest(*names): root_of(plan.datasets[names[0]].root) for names in plan.categories()}
    banks = {bank[0]: paths.bank_root(*run[:2], bank[0]) for run in plan.runs() if (bank := paths.bank(*run[:3]))}
    for manifest, root in (images | banks).items():
        if manifest.is_file():
            yield partial(_images, manifest, root)
    for names in plan.categories():
        yield from _record(paths.shortcuts(*names).with_suffix(".json"))
    for store, made in stores.items():
        if store.is_file():
            yield partial(_store, store, made.manifest)
    for run in plan.runs():
        folder = paths.run(run)
        for name in ("run.json", "evaluation.json"):
            yield from _record(folder / name)
        if (folder / "run.json").is_file():
            yield partial(_run, paths, run)
        yield from _record(paths.differences(run).with_suffix(".json"))
    for name in (TABLES, "plots/record.json"):
        yield from _record(paths.results / name)
    figures = [paths.category_figures(*names) for names in plan.categories()]
    for folder in [*figures, *map(paths.dataset_figures, plan.datasets)]:
        yield from _record(folder / "record.json")


def _record(path: Path) -> Iterator[Callable[[], object]]:
    """A check of each file of a record, if that is there."""
    if not path.is_file():
        return
    try:
        record = Record(path)
    except UserError:
        yield partial(Record, path)
        return
    for name in record.files:
        yield partial(record.read, name)


def _images(manifest: Path, root: Path) -> None:
    rows = read_manifest(manifest)
    for names, digests in ((rows.image, rows.sha256), (rows["mask"], rows.mask_sha256)):
        for name, digest in zip(names, digests, strict=True):
            if name and hashlib.sha256(raw_bytes(root, name)).hexdigest() != digest:
                raise UserError(f"{root / name}: not the file that {manifest} names: index its category again")


def _store(store: Path, manifest: Path) -> None:
    check_whole(store)
    rows = read_manifest(manifest)
    if read_store(store)[1]["data"] != data_digest(rows[rows.part == store.stem]):
        raise UserError(f"{store}: made of other images than those of {manifest}: remove it")


def _run(paths: Paths, run: Run) -> None:
    folder = paths.run(run)
    if trained_otherwise(paths.plan, paths.results, run):
        raise UserError(f"{folder}: trained with other parameters than the study's: `adtr prune` removes it")
    if (folder / "evaluation.json").is_file() and evaluated_otherwise(paths.plan, paths.results, run):
        raise UserError(f"{folder}: evaluated with another model or other parameters: `adtr prune` removes it")
    store = paths.stores(run)[0]
    if store.is_file() and read_store(store)[1]["content"] != Record(folder / "run.json").values["features"]["content"]:
        raise UserError(f"{folder}: trained on other features than those of {store}: train it again")
