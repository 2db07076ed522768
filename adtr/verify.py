"""Whether a study's files are those that its stages wrote, of each other, and of the images that lie there now."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from adtr.config import PARAMS
from adtr.config.paths import Paths
from adtr.config.schema import root_of
from adtr.config.study import Run
from adtr.data.images import SEVERAL, raw_bytes
from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.evaluate.measure import SPLITS
from adtr.evaluate.stage import check_images
from adtr.features.select import data_digest
from adtr.features.store import check_whole, read_store
from adtr.records import Record, again, as_csv
from adtr.tables.summary import TABLES, collect, read_metrics, tables_record
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
            if (folder / "evaluation.json").is_file():
                yield partial(_evaluation, paths, run)
        if (differences := paths.differences(run).with_suffix(".json")).is_file():
            yield from _record(differences)
            yield partial(_differences, differences, folder)
    for name in (TABLES, "plots/record.json"):
        yield from _record(paths.results / name)
    if (paths.results / TABLES).is_file():
        yield partial(tables_record, paths.results, PARAMS)
        if all((paths.run(run) / "evaluation.json").is_file() for run in plan.runs()):
            yield partial(_tables, paths)
    for names in plan.categories():
        if (record := paths.category_figures(*names) / "record.json").is_file():
            yield from _record(record)
            yield partial(_gallery, paths, record, *names)
    for folder in map(paths.dataset_figures, plan.datasets):
        yield from _record(folder / "record.json")
    yield from _record(paths.report / "record.json")


def _record(path: Path) -> Iterator[Callable[[], object]]:
    """A check of a record that is there, and of each of its files."""
    if not path.is_file():
        return
    try:
        record = Record(path)
    except UserError:
        yield partial(Record, path)  # which refuses it again
        return
    yield partial(_has_files, record)
    yield from (partial(record.read, name) for name in record.files)


def _has_files(record: Record) -> None:
    if not record.files:
        raise UserError(f"{record.path}: the record of something else, which has no files: {again(record.path)}")


def _images(manifest: Path, root: Path) -> None:
    rows = read_manifest(manifest)
    for names, digests in ((rows.image, rows.sha256), (rows["mask"], rows.mask_sha256)):
        for name, digest in zip(*(SEVERAL.join(column).split(SEVERAL) for column in (names, digests)), strict=True):
            if name and hashlib.sha256(raw_bytes(root, name)).hexdigest() != digest:
                raise UserError(f"{root / name}: not the file that {manifest} names: index its category again")


def _store(store: Path, manifest: Path) -> None:
    check_whole(store)
    rows = read_manifest(manifest)
    if read_store(store)[1]["data"] != data_digest(rows[rows.part == store.stem]):
        raise UserError(f"{store}: made of other images than those of {manifest}: remove it")


def _run(paths: Paths, run: Run) -> None:
    folder = paths.run(run)
    if trained_otherwise(paths, run):
        raise UserError(f"{folder}: trained with other parameters than the study's: `adtr prune` removes it")
    if (folder / "evaluation.json").is_file() and evaluated_otherwise(paths, run):
        raise UserError(f"{folder}: evaluated with another model or other parameters: `adtr prune` removes it")
    if (manifest := paths.manifest(run.dataset, run.category)).is_file():
        check_images(folder, read_manifest(manifest), paths.plan.params[run[:2]])
    store = paths.stores(run)[0]
    if store.is_file() and read_store(store)[1]["content"] != Record(folder / "run.json").values["features"]["content"]:
        raise UserError(f"{folder}: trained on other features than those of {store}: train it again")


def _evaluation(paths: Paths, run: Run) -> None:
    """Refuses the evaluation of another run, or of images that have other labels now."""
    evaluation, manifest = Record(paths.run(run) / "evaluation.json"), paths.manifest(run.dataset, run.category)
    metrics, again = read_metrics(evaluation, "metrics.csv"), f"remove {evaluation.path} and evaluate {run} again"
    if (metrics[[*Run._fields]] != [str(word) for word in run]).any(axis=None):
        raise UserError(f"{evaluation.path.with_name('metrics.csv')}: the metrics of another run: {again}")
    if manifest.is_file():
        images, rows = ["image", "label", "split", "defect"], read_manifest(manifest)
        scores = evaluation.table("scores.csv", dtype=str, keep_default_na=False)
        if scores[images].to_csv() != rows.loc[rows.split.isin(SPLITS), images].reset_index(drop=True).to_csv():
            file = evaluation.path.with_name("scores.csv")
            raise UserError(f"{file}: of other images or labels than {manifest}: {again}")


def _differences(record: Path, run: Path) -> None:
    if (run / "run.json").is_file() and Record(record).values["model"] != Record(run / "run.json").values["model"]:
        raise UserError(f"{record.with_suffix('.npz')}: of another model than that of {run}: remove it")


def _tables(paths: Paths) -> None:
    """Refuses a study's metrics that are not those of its runs."""
    written = tables_record(paths.results, PARAMS).read("../metrics.csv")
    if written != as_csv(collect(paths)).encode():
        raise UserError(f"{paths.results}/metrics.csv: not the metrics of the study's runs: make its tables again")


def _gallery(paths: Paths, record: Path, dataset: str, category: str) -> None:
    """Refuses figures of other scores than those of the run that they show."""
    plan = paths.plan
    folder = paths.run(Run(dataset, plan.study.datasets[dataset][0], category, plan.study.seeds[0]))
    if (folder / "evaluation.json").is_file():
        scores = Record(folder / "evaluation.json").table("scores.csv", dtype={"image": str})
        images = json.loads(Record(record).read("gallery.json"))["images"]
        shown = {(image["image"], image["score"]) for image in images}
        if shown - set(zip(scores.image, scores.pred_score, strict=True)):
            raise UserError(f"{record.parent}: drawn of other scores than those of {folder}: remove it")
