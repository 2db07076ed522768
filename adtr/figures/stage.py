"""The entry points of the figures: they read a study's files and write one figure after the other."""

import io
import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adtr.config.paths import Paths
from adtr.config.study import Run
from adtr.figures import SUFFIXES, dataset_kinds, explained, kinds_of
from adtr.figures.category import Category, read_category
from adtr.figures.charts import curve, pro, roc, training
from adtr.figures.dots import dots, panels
from adtr.figures.images import confetti, gallery, maps
from adtr.figures.look import save, set_look
from adtr.figures.thumbnails import thumbnails
from adtr.figures.tsne import pooled, tsne
from adtr.files import write_text
from adtr.records import Record, vouch
from adtr.tables.specs import read_specs
from adtr.tables.summary import read_metrics, summarize, tables_record
from adtr.tables.uncertainty import with_intervals

DRAWINGS: list[Callable[[Category], Figure]] = [roc, pro, training, curve, gallery, maps, confetti]
KINDS = {drawing.__name__: drawing for drawing in DRAWINGS}
UNTESTED = ("training", "confetti")  # the kinds that need no test images
EACH = 300  # difference vectors of either kind in Fig. 5


def draw_category(paths: Paths, dataset: str, name: str) -> None:
    """Writes every figure of a category, and the gallery of the HTML page."""
    draw(read_category(paths, dataset, name), kinds_of(paths.plan, dataset), paths.category_figures(dataset, name))


def draw(category: Category, kinds: Collection[str], folder: Path) -> None:
    """Writes figures of these kinds, and the gallery's data, to `folder`; without test images, those that need none."""
    set_look()
    if category.runs[0].scores.empty:
        kinds = [kind for kind in kinds if kind in UNTESTED]
    for kind in kinds:
        save(KINDS[kind](category), folder, kind)
    write_text(folder / "gallery.json", json.dumps(thumbnails(category), indent=1))
    _vouch(folder, kinds, "gallery.json")


def draw_dataset(paths: Paths, dataset: str, params: Path) -> None:
    """Writes the figures of a data set as a whole; no dots where no metric is defined.

    Args:
        params: the folder params/, for the paper's numbers.
    """
    plan, folder = paths.plan, paths.dataset_figures(dataset)
    set_look()
    tables, kinds = tables_record(paths.results, params), dataset_kinds(plan, dataset)
    summary = with_intervals(summarize(read_metrics(tables, "../metrics.csv")), plan, tables)
    if drawn := panels(plan, dataset, summary, read_specs(params)):
        save(dots(drawn), folder, "dots")
    else:
        kinds.remove("dots")
    if "tsne" in kinds:
        save(tsne(*_differences(paths, dataset)), folder, "tsne")
    _vouch(folder, kinds)


def _vouch(folder: Path, kinds: Iterable[str], *others: str) -> None:
    names = [f"{kind}.{suffix}" for kind in kinds for suffix in SUFFIXES]
    vouch(folder / "record.json", [folder / name for name in (*names, *others)])


def _differences(paths: Paths, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (M, C) and marks (M,) of Fig. 5, drawn from all categories of a data set, first seed."""
    experiment, seed = str(explained(paths.plan, dataset)), paths.plan.study.seeds[0]
    runs = [Run(dataset, experiment, category, seed) for category in paths.plan.datasets[dataset].categories]
    drawn = map(paths.differences, runs)
    files = [np.load(io.BytesIO(Record(path.with_suffix(".json")).read(path.name))) for path in drawn]
    vectors, anomalous = ([file[name] for file in files] for name in ("vectors", "anomalous"))
    chosen = pooled(anomalous, EACH)
    return np.concatenate(vectors)[chosen], np.concatenate(anomalous)[chosen]
