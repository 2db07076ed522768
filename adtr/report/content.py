"""What the report of a study says, as plain values; page, brief and print lay it out."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.config.levels import flatten
from adtr.config.methods import Params
from adtr.config.schema import Dataset
from adtr.config.study import Plan
from adtr.data.sources import Source
from adtr.evaluate.bootstrap import REFERENCE
from adtr.report.pictures import has_masks
from adtr.report.runs import Row, Runs, parameters, runs_of, written
from adtr.report.sentences import certain, ranking, sentences, undefined
from adtr.tables import audit, comparison
from adtr.tables import render as layout
from adtr.tables import stage as tables
from adtr.tables.paper import listed
from adtr.tables.render import Sheet
from adtr.tables.summary import MEAN, METRICS, study_metrics, summarize

FURTHER = {
    "image_ap": "image average precision",
    "image_auroc_max": "image AUROC, score by maximum",
    "image_auroc_mean": "image AUROC, score by mean",
    "pixel_ap": "pixel average precision",
}
NUMBER = re.compile(r"[+\-−]?[\d.,]+( \(.*\))?|\[.*\]|\d+(/\d+)+|–|")  # what stands at the right of its column
OURS = {"difference": "ours", "ours − ADTR": "ours"}  # columns of Table 4 by the column whose runs they are made of
AUTHORS = {  # of the data sets, by layout; licences and pages are in params/sources.yaml
    "mvtec": "P. Bergmann et al., “MVTec AD”, CVPR 2019 and IJCV 2021",
    "cifar10": "A. Krizhevsky, “Learning Multiple Layers of Features from Tiny Images”, 2009",
    "elpv": "C. Buerhop-Lutz et al., EU PVSEC 2018; S. Deitsch et al., Solar Energy 2019",
}
ELPV = {"licence": "CC BY-NC-SA 4.0", "page": "https://github.com/zae-bayern/elpv-dataset"}  # comes as a package


def context(
    plan: Plan,
    metrics: pd.DataFrame,
    runs: Runs,
    specs: Mapping[str, Any],
    further: Mapping[str, pd.DataFrame],
) -> Row:
    """All that the report says, but for the figures and what is said of the data sets' owners.

    Args:
        metrics: the tidy rows of all runs.
        specs: the paper's tables, params/tables.yaml.
        further: the study's tables `comparison`, `parameters` and `audit`, as their CSV has them.
    """
    built = tables.build(plan, metrics, specs)
    papers = _papers(plan, built, specs, runs)
    agrees, ranks = ranking(built["table4"][1], specs["table4"]["parts"])
    return {
        "study": plan.name,
        "title": plan.study.title,
        "about": about(plan, metrics),
        "warnings": [*warnings(plan), *mixtures(runs.values())],
        "departures": departures(plan),
        "datasets": [_dataset(plan, name, metrics, runs) for name in plan.datasets],
        "papers": papers,
        "agrees": agrees,
        "ranks": ranks,
        "compared": bool(further["comparison"].low.notna().any()),
        "comparison": sheet(comparison.sheet(plan, further["comparison"])),
        "certain": certain(plan, further["comparison"]),
        "parameters": sheet(tables.parameters_sheet(plan, further["parameters"])),
        "audit": [sheet(part) for part in audit.sheets(further["audit"])] if papers else [],
        "experiments": parameters(plan),
        "runs": list(runs.values()),
    }


def _papers(plan: Plan, built: Mapping[str, Any], specs: Mapping[str, Any], runs: Runs) -> list[Row]:
    """The paper's tables, none if no data set stands for one of its benchmarks."""
    standing = [dataset.benchmark for dataset in plan.datasets.values() if dataset.benchmark]
    papers = []
    for name, spec in specs.items() if standing else ():
        title, table = built[name]
        ran = spec["benchmark"] in standing
        found = shown(f"Table {name[-1]}: {title}", table, runs)
        papers.append(found | {"ran": ran, "away": [] if "parts" in spec else _away(found)})
    return papers


def about(plan: Plan, metrics: pd.DataFrame) -> list[str]:
    """What was run: experiments, recipe and seeds, and of each data set the features and the epochs."""
    used, seeds = {experiment for _, experiment in plan.params}, [str(seed) for seed in plan.study.seeds]
    names = listed(title for experiment, title in plan.titles.items() if experiment in used)
    one = "One seed only: how far chance moves these numbers is not known."
    spread = one if len(seeds) == 1 else "± is the standard deviation over the seeds."
    runs = f"{names}; recipe “{plan.study.recipe}”; seed {listed(seeds)}; {len(list(plan.runs()))} runs. {spread}"
    return [runs, *(_setting(plan, name, has_masks(metrics, name)) for name in plan.datasets)]


def _setting(plan: Plan, name: str, masks: bool) -> str:
    """Features, epochs and scores of a data set: those of the reference, then the experiments with other features."""
    experiments = plan.study.datasets[name]
    params, first = {e: plan.params[name, e] for e in experiments}, plan.params[name, reference_of(experiments)]
    seen = first.features
    told = f"features of a frozen {seen.backbone} with {seen.weights} weights, from images of {seen.image_size} px, "
    told += f"on a grid of {seen.grid_size} × {seen.grid_size} tokens"
    told += f", in {seen.precision}" if seen.precision != "float32" else ""
    others = [plan.titles[e] for e, p in params.items() if p.features != seen]
    told = told.replace("imagenet", "ImageNet") + (f" ({listed(others)}: others, see parameters)" if others else "")
    plain = {e: p for e, p in params.items() if "train" in p.method_sections() and p.method != "adtr_plus"}
    epochs = listed(dict.fromkeys(str(p.train.epochs) for p in plain.values()))
    told += f"; networks trained for {epochs} epochs" if epochs else ""
    for e, p in params.items():
        told += f", {plan.titles[e]} for {p.train.epochs} more" if p.method == "adtr_plus" else ""
    side = first.score.pooling
    told += (
        f"; image score: {first.score.image_score} of the map, averaged over {side} × {side} tokens, or a method’s own"
    )
    if masks:
        told += f"; pixel metrics at {seen.image_size} px, AUPRO up to a false positive rate of "
        told += str(first.score.aupro_limit)
    elif plan.datasets[name].layout == "mvtec":
        told += "; no masks, so that nothing is measured by pixels"
    return f"{plan.datasets[name].title}: {told}. {plan.datasets[name].note}".strip()


def mixtures(runs: Iterable[Row]) -> list[str]:
    """Experiments whose runs were trained on different devices or in different precision."""
    devices: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        devices.setdefault((run["experiment"], run["dataset"]), []).append(run["device"])
    return [
        f"Trained on different devices: {experiment} on {dataset} ({'; '.join(sorted(set(found)))})."
        for (experiment, dataset), found in devices.items()
        if len(set(found)) > 1
    ]


def warnings(plan: Plan) -> list[str]:
    """What keeps a study's numbers from being evidence."""
    random: dict[str, list[str]] = {}
    for (dataset, experiment), params in plan.params.items():
        if params.features.weights == "random":
            random.setdefault(plan.datasets[dataset].title, []).append(plan.titles[experiment])
    found = []
    if random:
        where = "; ".join(f"{dataset} ({listed(names)})" for dataset, names in random.items())
        found.append(f"Random weights, a backbone that was never trained: {where}.")
    made = [dataset.title for dataset in plan.datasets.values() if dataset.generated]
    if made:
        found.append(f"Images made by a program, for tests: {listed(made)}.")
    return [f"{text} The numbers test the software and nothing else." for text in found]


def departures(plan: Plan) -> list[dict[str, str]]:
    """Every parameter that is not the paper's or, of what the paper has not, not our default; and where."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for name, dataset in plan.datasets.items():
        for change, experiments in _changes(plan, name).items():
            found.setdefault((*change, experiments), []).append(dataset.title)
    return [
        {"parameter": key, "recipe": recipe, "here": here, "meaning": _meaning(key), "experiments": experiments}
        | {"data sets": "all" if len(titles) == len(plan.datasets) else listed(titles)}
        for (key, recipe, here, experiments), titles in found.items()
    ]


def _changes(plan: Plan, dataset: str) -> dict[tuple[str, str, str], str]:
    """Of each parameter with its value in the recipe and here, the experiments on a data set that it is changed in."""
    readers: dict[str, list[str]] = {}
    changed: dict[tuple[str, str, str], list[str]] = {}
    for experiment in plan.study.datasets[dataset]:
        paper = plan.paper[dataset, experiment]
        for key, (value, _) in flatten(plan.params[dataset, experiment].decisive(), "").items():
            readers.setdefault(key, []).append(plan.titles[experiment])
            if value != paper[key]:
                changed.setdefault((key, written(paper[key]), written(value)), []).append(plan.titles[experiment])
    return {change: _all_but(readers[change[0]], titles) for change, titles in changed.items()}


def _all_but(titles: list[str], chosen: list[str]) -> str:
    others = [title for title in titles if title not in chosen]
    if not others and len(titles) > 1:
        return "all"
    return f"all but {listed(others)}" if 0 < len(others) < len(chosen) else listed(chosen)


def reference_of(experiments: list[str]) -> str:
    """The experiment that the others on a data set are held against: ADTR, or the first."""
    return REFERENCE if REFERENCE in experiments else experiments[0]


def _meaning(parameter: str) -> str:
    """What config.py says of a parameter."""
    section, _, name = parameter.rpartition(".")
    if section and section not in Params.model_fields:
        return ""  # a baseline's own: params/default.yaml says it
    model: Any = Params.model_fields[section].annotation if section else Params
    return model.model_fields[name].description or ""


def _dataset(plan: Plan, name: str, metrics: pd.DataFrame, runs: Runs) -> Row:
    """The tables of a data set: the main ones with what they say, then those of all else that was measured."""
    measured, summary = metrics[metrics.dataset == name], summarize(metrics)
    reference = plan.titles[reference_of(plan.study.datasets[name])]
    main = [metric for dataset, metric in study_metrics(plan) if dataset == name]
    found = {}
    for metric in dict.fromkeys([*main, *measured.metric]):
        title, table = (METRICS | FURTHER).get(metric, metric), tables.of_study(summary, plan, name, metric)
        said = sentences(table, title, reference) if metric in main else []
        said += undefined(measured[measured.metric == metric], plan)
        found[metric] = shown(title, table, runs) | {"sentences": said}
    further = [table for metric, table in found.items() if metric not in main]
    told = {"name": name, "title": plan.datasets[name].title, "masks": has_masks(metrics, name)}
    return told | {"main": [found[metric] for metric in main if found[metric]["rows"]], "further": further}


def sheet(of: Sheet) -> Row:
    """A table of text by rows, and which of its columns are numbers."""
    numeric = [all(NUMBER.fullmatch(text) for text in of.text[column]) for column in of.text]
    rows = of.text.to_numpy().tolist()
    return {"title": of.title, "columns": [*of.text], "rows": rows, "notes": [*of.notes], "numeric": numeric}


def shown(title: str, table: pd.DataFrame, runs: Runs) -> Row:
    """A table by rows: each cell as printed, whether it is the best of its column, and the runs it was made of."""
    text, cells = layout.wide(table), {(cell.row, cell.column): cell for cell in table.itertuples()}
    means = table.assign(mean=table["mean"].round(1)).groupby("column")["mean"]
    best = means.max().where(means.nunique() > 1)  # of means that print alike none is the best
    rows = []
    for row, line in text.iterrows():
        behind = {column: _behind(cells, str(row), column) for column in text}
        rows.append({"name": row, "cells": [_cell(line[c], behind[c], best[c], runs) for c in text]})
    return {"title": title, "columns": [*text.columns], "rows": rows, "notes": layout.notes(table)}


def _away(table: Row) -> list[str]:
    """The categories that no run of ours stands in, if there are others."""
    ours = {c for row in table["rows"] for c, cell in zip(table["columns"], row["cells"], strict=True) if cell["runs"]}
    return [column for column in table["columns"] if ours and column not in ours and column != MEAN]


def _behind(cells: Mapping[tuple[str, str], Any], row: str, column: str) -> Any:
    """A cell; where it is a difference, with the runs of our number in it."""
    cell = cells.get((row, column))
    ours = cells.get((row.replace("(difference)", "(ours)"), OURS.get(column, column)))
    return cell if cell is None or ours is None else cell._replace(provenance=ours.provenance)


def _cell(text: str, cell: Any, best: float, runs: Runs) -> Row:
    value = cell.mean if cell else math.nan
    mean, _, sd = text.partition(" ± ")
    made_by = runs_of(cell.provenance, runs) if cell else []
    return {"text": mean, "sd": sd, "value": value, "best": round(value, 1) == best, "runs": made_by}


def credits(plan: Plan, sources: Mapping[str, Source]) -> list[Row]:
    """Whose pictures the report shows, and under which licence."""
    return [_credit(dataset, sources) for dataset in plan.datasets.values()]


def _credit(dataset: Dataset, sources: Mapping[str, Source]) -> Row:
    if dataset.generated:
        return {"title": dataset.title, "by": "made by this program", "licence": "that of the program", "page": ""}
    if dataset.layout == "elpv":
        return {"title": dataset.title, "by": AUTHORS["elpv"], **ELPV}
    source = sources.get(dataset.layout)  # a benchmark's images are its own wherever they lie
    if source is None or not (dataset.benchmark or Path(dataset.root).is_relative_to(source.destination)):
        return {"title": dataset.title, "by": "images of your own", "licence": "not known here", "page": ""}
    known = {"licence": source.licence or "not known here", "page": source.page or ""}
    return {"title": dataset.title, "by": AUTHORS.get(dataset.layout, ""), **known}
