"""The entry points of the figures: they read a study's files and write one figure after the other."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adtr.config.study import Plan, differences_file
from adtr.errors import UserError
from adtr.figures import dataset_kinds, explained, kinds_of
from adtr.figures.bars import bars, panels
from adtr.figures.category import Category, read_category
from adtr.figures.confetti import confetti
from adtr.figures.curve import curve
from adtr.figures.gallery import gallery, thumbnails
from adtr.figures.histogram import histogram
from adtr.figures.look import save, set_look
from adtr.figures.maps import maps
from adtr.figures.pro import pro
from adtr.figures.roc import roc
from adtr.figures.training import training
from adtr.figures.tsne import pooled, tsne
from adtr.files import write_text
from adtr.tables.paper import read_specs
from adtr.tables.summary import read_metrics

DRAWINGS: list[Callable[[Category], Figure]] = [roc, pro, histogram, training, curve, gallery, maps, confetti]
KINDS = {drawing.__name__: drawing for drawing in DRAWINGS}
EACH = 300  # difference vectors of either kind in Fig. 5


def draw_category(plan: Plan, dataset: str, name: str, results: Path, folder: Path) -> None:
    """Writes every figure of a category to `folder`, and the gallery of the HTML page.

    Args:
        results: the folder of all results.
    """
    draw(read_category(plan, dataset, name, results), kinds_of(plan, dataset), folder)


def draw(category: Category, kinds: Iterable[str], folder: Path) -> None:
    """Writes figures of these kinds and the gallery's data."""
    set_look()
    for kind in kinds:
        save(KINDS[kind](category), folder, f"{category.name}-{kind}")
    write_text(folder / f"{category.name}-gallery.json", json.dumps(thumbnails(category), indent=1))


def draw_dataset(plan: Plan, dataset: str, kind: str, results: Path, folder: Path, params: Path) -> None:
    """Writes a figure of a whole data set to `folder`.

    Args:
        results: the folder of all results.
        params: the folder params/, for the paper's numbers.

    Raises:
        UserError: the data set has no figure of this kind.
    """
    if kind not in dataset_kinds(plan, dataset):
        raise UserError(f"{dataset} has no figure {kind}: it has {', '.join(dataset_kinds(plan, dataset))}")
    set_look()
    if kind == "bars":
        metrics = read_metrics(results / plan.name / "metrics.csv")
        figure = bars(panels(plan, dataset, metrics, read_specs(params)))
    else:
        figure = tsne(*_differences(plan, dataset, results))
    save(figure, folder, f"{dataset}-{kind}")


def _differences(plan: Plan, dataset: str, results: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (M, C) and marks (M,) of Fig. 5, drawn from all categories of a data set, first seed."""
    experiment, seed = str(explained(plan, dataset)), plan.study.seeds[0]
    files = [
        np.load(differences_file(results / plan.name, dataset, experiment, category, seed))
        for category in plan.datasets[dataset].categories or []
    ]
    vectors, anomalous = ([file[name] for file in files] for name in ("vectors", "anomalous"))
    drawn = pooled(anomalous, EACH, seed=0)
    return np.concatenate(vectors)[drawn], np.concatenate(anomalous)[drawn]
