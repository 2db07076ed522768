"""The entry points of the figures: they read a study's files and write one figure after the other."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from adtr.config.schema import read_yaml
from adtr.config.study import Plan, differences_file
from adtr.errors import UserError
from adtr.figures import dataset_kinds, explained, kinds_of
from adtr.figures.category import Category, read_category
from adtr.figures.curves import METRICS, curve, histogram, pro, roc, training
from adtr.figures.look import save, set_look
from adtr.figures.overview import Panel, Series, bars, measured, pooled, tsne
from adtr.figures.pictures import confetti, gallery, maps
from adtr.figures.thumbnails import thumbnails
from adtr.files import write_text
from adtr.tables.summary import read_metrics

KINDS: dict[str, Callable[[Category], Figure]] = {
    "roc": roc,
    "pro": pro,
    "histogram": histogram,
    "training": training,
    "curve": curve,
    "gallery": gallery,
    "maps": maps,
    "confetti": confetti,
}
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
        figure = bars(panels(plan, dataset, metrics, params))
    else:
        figure = tsne(*_differences(plan, dataset, results))
    save(figure, folder, f"{dataset}-{kind}")


def panels(plan: Plan, dataset: str, metrics: pd.DataFrame, params: Path) -> list[Panel]:
    """The bars of a data set: for each table of the paper that it is shown in, or else for each AUROC measured."""
    definition, experiments = plan.datasets[dataset], plan.study.datasets[dataset]
    found = []
    for spec in read_yaml(params / "tables.yaml").values():
        if definition.benchmark and spec.get("benchmark") == definition.benchmark and "ours" in spec:
            paper = pd.read_csv(params.parent / spec["paper"], dtype={"category": str}).query("category != 'mean'")
            series = []
            for method, experiment in spec["ours"].items():
                printed = paper[paper.method == method].set_index("category").value.to_frame("mean").assign(sd=np.nan)
                series.append(Series(method, True, printed))
                if experiment in experiments:
                    series.append(Series(method, False, measured(metrics, dataset, experiment, spec["metric"])))
            others = [name for name in definition.categories or [] if name not in set(paper.category)]
            found.append(Panel(METRICS[spec["metric"]], [*dict.fromkeys(paper.category), *others], series))
    return found or [_unprinted(plan, dataset, metrics, metric) for metric in _measured(metrics, dataset)]


def _measured(metrics: pd.DataFrame, dataset: str) -> list[str]:
    return [metric for metric in METRICS if ((metrics.dataset == dataset) & (metrics.metric == metric)).any()]


def _unprinted(plan: Plan, dataset: str, metrics: pd.DataFrame, metric: str) -> Panel:
    """The bars of a data set that the paper does not know: all experiments."""
    experiments = plan.study.datasets[dataset]
    series = [Series(plan.titles[e], False, measured(metrics, dataset, e, metric)) for e in experiments]
    return Panel(METRICS[metric], plan.datasets[dataset].categories or [], series)


def _differences(plan: Plan, dataset: str, results: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (M, C) and marks (M,) of Fig. 5, drawn from all categories of a data set, first seed."""
    experiment, seed = str(explained(plan, dataset)), plan.study.seeds[0]
    found = [
        np.load(differences_file(results / plan.name, dataset, experiment, category, seed))
        for category in plan.datasets[dataset].categories or []
    ]
    vectors, anomalous = ([file[name] for file in found] for name in ("vectors", "anomalous"))
    chosen = pooled(vectors, anomalous, EACH, seed=0)
    return np.concatenate(vectors)[chosen], np.concatenate(anomalous)[chosen]
