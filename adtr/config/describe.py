"""A plan as tables that a person reads: its runs, and each parameter with its meaning."""

import json
from collections.abc import Iterator
from typing import Any

from tabulate import tabulate

from adtr.config.levels import flatten
from adtr.config.methods import Params
from adtr.config.study import Plan


def run_table(plan: Plan) -> str:
    """An experiment on a data set a row, and the number of runs in all."""
    rows = [
        {
            "data set": dataset,
            "experiment": experiment,
            "backbone": params.features.backbone,
            "px": params.features.image_size,
            "grid": f"{params.features.grid_size}x{params.features.grid_size}",
            "epochs": params.train.epochs if params.trains else "",
            "categories": len(plan.datasets[dataset].categories),
            "seeds": ", ".join(map(str, plan.seeds(dataset, experiment))),
            "runs": len(plan.datasets[dataset].categories) * len(plan.seeds(dataset, experiment)),
        }
        for (dataset, experiment), params in plan.params.items()
    ]
    table = tabulate(rows, headers="keys", disable_numparse=True)
    return f"{plan.study.title}\n\n{table}\n\n{len(list(plan.runs()))} runs; a run is DATASET/EXPERIMENT/CATEGORY/SEED"


def parameter_table(plan: Plan) -> str:
    """Each parameter that a run of the study reads: its value, or its values by experiment, and its meaning."""
    values: dict[str, dict[str, list[str]]] = {}
    for (dataset, experiment), params in plan.params.items():
        for key, (value, _) in flatten(params.decisive(), "").items():
            values.setdefault(key, {}).setdefault(json.dumps(value), []).append(f"{dataset}/{experiment}")
    rows = [row for key, found in values.items() for row in _rows(key, found)]
    return tabulate(rows, ["parameter", "value", "experiments", "meaning"], disable_numparse=True)


def _rows(key: str, values: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    """A row for each value of a parameter, the most frequent first; its meaning stands beside that."""
    ranked = sorted(values.items(), key=lambda item: -len(item[1]))
    for place, (value, names) in enumerate(ranked):
        where = "" if len(ranked) == 1 else "the others" if place == 0 else ", ".join(names)
        yield (key, value, where, meaning(key)) if place == 0 else ("", value, where, "")


def meaning(key: str) -> str:
    """The description of a parameter, such as train.lr."""
    section, _, name = key.rpartition(".")
    model: Any = Params.model_fields[section].annotation if section else Params
    return model.model_fields[name].description or ""


def description_of(method: str) -> str:
    """What a method is, in a sentence: the docstring of its parameters."""
    if method == "adtr":
        return "ADTR: a network reconstructs the features of normal images; the L2 norm of what is left (Eq. 3)."
    field = Params.model_fields.get(method)
    return (field and field.annotation and field.annotation.__doc__) or method
