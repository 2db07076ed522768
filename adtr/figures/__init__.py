"""The figures of a study: which kinds each category and each data set has, and the names of their files.

Only names here, as Snakemake asks for them at every start; `stage` reads and writes the files.
"""

from adtr.config.schema import FOLDERS
from adtr.config.study import Plan

SUFFIXES = ("png", "svg", "pdf")


def kinds_of(plan: Plan, dataset: str) -> list[str]:
    """The kinds of figure that every category of a data set has, as KIND with each of SUFFIXES."""
    params = [plan.params[dataset, experiment] for experiment in plan.study.datasets[dataset]]
    optional = {
        "pro": plan.datasets[dataset].layout in FOLDERS,
        "curve": any(p.train.snapshots > 1 for p in params if p.trains),
        "confetti": confetti_of(plan, dataset) is not None,
    }
    kinds = ["roc", "pro", "training", "curve", "gallery", "maps", "confetti"]
    return [kind for kind in kinds if optional.get(kind, True)]


def dataset_kinds(plan: Plan, dataset: str) -> list[str]:
    """The kinds of figure of a data set as a whole."""
    return ["dots", "tsne"] if explained(plan, dataset) else ["dots"]


def confetti_of(plan: Plan, dataset: str) -> str | None:
    """The first experiment that is trained with confetti."""
    params = {e: plan.params[dataset, e] for e in plan.study.datasets[dataset]}
    plus = (e for e, p in params.items() if p.method == "adtr_plus" and p.adtr_plus.anomalies == "confetti")
    return next(plus, None)


def explained(plan: Plan, dataset: str) -> str | None:
    """The experiment whose feature differences are shown (Fig. 5): the first ADTR, if masks can be cut into tokens."""
    if plan.datasets[dataset].layout not in FOLDERS:
        return None
    params = {e: plan.params[dataset, e] for e in plan.study.datasets[dataset]}
    whole = (e for e, p in params.items() if p.method == "adtr" and not p.features.image_size % p.features.grid_size)
    return next(whole, None)
