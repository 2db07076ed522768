"""Everything that a report says and shows, as plain values; page, brief report and print lay it out."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import pandas as pd

from adtr.config.paths import Paths
from adtr.data.findings import ABSENT
from adtr.data.findings import of_study as data_warnings
from adtr.data.sources import read_sources
from adtr.evaluate.bootstrap import reference_of
from adtr.report import opening, thresholds
from adtr.report.figures import of_category, of_dataset
from adtr.report.gallery import examples, gallery
from adtr.report.protocol import about, credits, departures, methods, mixtures, warnings
from adtr.report.runs import Row, Runs, parameters, read_runs, runs_of
from adtr.report.sentences import missed, ranking, sentences, settled, undefined
from adtr.tables import defects, render, sizes
from adtr.tables.comparison import sheet as comparison_sheet
from adtr.tables.shortcuts import sheet as shortcut_sheet
from adtr.tables.specs import read_specs
from adtr.tables.stage import FURTHER, build, of_study
from adtr.tables.summary import (
    MASKLESS,
    MEAN,
    METRICS,
    read_metrics,
    refuse_outdated,
    study_metrics,
    summarize,
    tables_record,
)
from adtr.tables.uncertainty import with_intervals

SECTIONS = {  # of all forms of the report, in their order: what a reader asks
    "good": "How good is it?",
    "against": "Against what?",
    "sure": "How sure is that?",
    "fails": "Where does it fail?",
    "ran": "What exactly was run?",
}
LONG = 200  # characters of a warning that the report begins with
COLUMN_OF = {"difference": "ours", "ours − ADTR": "ours"}  # columns of Table 4 by the column that has their runs


def gather(paths: Paths, params: Path) -> Row:
    """All content of a study's report.

    Args:
        params: the folder params/.

    Raises:
        UserError: a file is missing, or belongs to other parameters or another run.
    """
    plan, tables, runs = paths.plan, tables_record(paths.results, params), read_runs(paths)
    metrics = read_metrics(tables, "../metrics.csv")
    refuse_outdated(paths)
    summary = with_intervals(summarize(metrics), plan, tables)
    specs = read_specs(params)
    words = ["experiment", "dataset", "category", "defect", "metric"]  # one may be called 007, or nan
    text: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "dtype": dict.fromkeys(words, str)}
    comparison, networks, found, simple = (tables.table(f"{name}.csv", **text) for name in FURTHER)
    built = build(plan, summary, specs)
    cases = gallery(paths, runs)
    benchmarks = [dataset.benchmark for dataset in plan.datasets.values() if dataset.benchmark]
    recipe = "the paper’s recipe" if benchmarks else "params/default.yaml"
    departed = departures(plan)
    data = data_warnings(paths)
    agrees, ranks = ranking(built["table4"][1], specs["table4"]["parts"])
    first = opening.table(plan, summary, specs, runs)
    folders = [quote(str(paths.run(run))) for run in plan.runs()]
    frames = metrics, summary, comparison, found
    datasets = [_dataset(paths, name, frames, runs) for name in plan.datasets]
    content = {
        "study": plan.name,
        "title": plan.study.title,
        "sections": SECTIONS,
        "recipe": recipe,
        "sentence": opening.sentence(plan),
        "answers": opening.answers(plan, summary),
        "opening": first,
        "folded": [sheet for sheet in (methods(plan), opening.gaps(first)) if sheet],
        "examples": examples(cases),
        "gallery": cases,
        "about": [*about(plan, [of["name"] for of in datasets if of["masks"]]), *settled(paths, summary)],
        "warnings": [*warnings(plan), *mixtures(runs.values())],
        "doubts": _doubts(data),
        "predict": [f"adtr predict {folder} IMAGES --output predictions" for folder in folders],
        "data": data,
        "departures": render.Sheet(f"Parameters that differ from {recipe}", departed) if len(departed) else None,
        "departing": opening.departing(departed.to_numpy().tolist(), recipe),
        "datasets": datasets,
        "images": opening.data(plan, datasets),
        "commands": {
            "To compare all files again, and the images": f"adtr verify --study {plan.name}",
            "To make all of it anew": f"snakemake all_tables figures report --cores all --config study={plan.name}",
        },
        "papers": _papers(built, specs, runs),
        "agrees": agrees,
        "ranks": ranks,
        "compared": bool(comparison.pairs.any()),
        "comparison": comparison_sheet(plan, comparison),
        "parameters": sizes.sheet(plan, networks) if len(networks) else None,
        "experiments": parameters(plan),
        "runs": list(runs.values()),
        "shortcuts": shortcut_sheet(plan, simple) if simple.auroc.notna().any() else None,
        "credits": credits(plan, read_sources(params / "sources.yaml")),
    }
    return content | {"contents": _contents(content)}


def _contents(content: Row) -> dict[str, list[tuple[str, str]]]:
    """The entries of the page's contents, anchor and title, by section; the page's headings are the same."""
    datasets, kinds = [*enumerate(content["datasets"], start=1)], []
    fails = [("predictions", "Predictions at a threshold")] if content["gallery"]["datasets"] else []
    for n, of in datasets:
        where = f"{of['title']}: " if len(datasets) > 1 else ""
        if of["thresholds"] and content["opening"]["columns"]:
            fails.append((f"rates-{n}", f"{where}{thresholds.TITLE}"))
        drawn = [*of["figures"], *(figure for category in of["categories"] for figure in category["figures"])]
        if any(figure["question"] == "fails" for figure in drawn):
            fails.append((f"curves-{n}", f"{where}Curves over all thresholds"))
        kinds += [(f"defects-{n}", f"{where}By kind of defect")] if of["kinds"] else []
    fails += kinds + ([("shortcuts", content["shortcuts"].title)] if content["shortcuts"] else [])
    ran = [("recipe", content["departures"].title)] if content["departures"] else []
    if content["parameters"]:
        ran += [("size", content["parameters"].title), ("training", "Training")]
    ran += [("runs", "Runs")]
    return {
        "good": [],
        "against": [("paper", "The paper’s tables")] * bool(content["papers"])
        + [(f"data-{n}", of["title"]) for n, of in datasets],
        "sure": [("comparison", content["comparison"].title.partition(":")[0])] * content["compared"],
        "fails": fails + [("data", "The data")] * bool(content["data"]),
        "ran": [*ran, ("credits", "Image credits")],
    }


def _doubts(data: list[str]) -> list[str]:
    doubts = [line for line in data if ABSENT not in line]  # who has normal images alone knows it
    if not doubts:
        return []
    count = f"{len(doubts)} warnings, the first of them" if len(doubts) > 1 else "1 warning"
    first = doubts[0] if len(doubts[0]) < LONG else f"{doubts[0][:LONG].rpartition(' ')[0]} …"
    return [f"The check of the images gave {count}: {first}. See “The data”."]


def _papers(built: Mapping[str, Any], specs: Mapping[str, Any], runs: Runs) -> list[Row]:
    """Those of the paper's tables that have a number of ours."""
    papers = []
    for name, spec in specs.items():
        title, table = built[name]
        row = cell_table(f"Table {name[-1]}: {title}", table, runs)
        if any(cell["runs"] for line in row["rows"] for cell in line["cells"]):
            papers.append(row | {"away": [] if "parts" in spec else _away(row)})
    return papers


def _away(table: Row) -> list[str]:
    """The categories without a run of ours, if there are others: the page hides them until asked for."""
    ours = {c for row in table["rows"] for c, cell in zip(table["columns"], row["cells"], strict=True) if cell["runs"]}
    return [column for column in table["columns"] if ours and column not in ours and column != MEAN]


def _dataset(paths: Paths, name: str, frames: Iterable[pd.DataFrame], runs: Runs) -> Row:
    """Tables of a data set, the main ones with sentences on them, then all other metrics, kinds of defect; figures.

    Args:
        frames: of all data sets: metrics, their summary, the comparison, and what was found by defect.
    """
    plan = paths.plan
    measured, summary, comparison, found = (frame[frame.dataset == name] for frame in frames)
    reference = reference_of(plan.study.datasets[name])
    main = [metric for dataset, metric in study_metrics(plan) if dataset == name]
    tables, reasons = {}, {}
    for metric in dict.fromkeys([*main, *measured.metric[~thresholds.is_rate(measured.metric)]]):
        title, table = METRICS.get(metric, metric), of_study(summary, plan, name, metric)
        compared = comparison[comparison.metric == metric]
        compared = compared.set_index(compared.experiment.map(plan.titles))
        reasons[metric] = undefined(measured[measured.metric == metric], plan)
        if table["mean"].notna().any():
            lines = sentences(table, title, plan.titles[reference], compared) if metric in main else []
            tables[metric] = cell_table(title, table, runs) | {"sentences": lines + reasons[metric]}
    several = (found.groupby("category").defect.nunique() > 1).any()
    found = found if several else found[:0]  # by defect tells nothing more where there is one kind
    masked = set(measured[(measured.metric == "pixel_auroc") & (measured.note != MASKLESS)].category)
    first, seed = plan.study.datasets[name][0], str(plan.study.seeds[0])
    categories = [
        of_category(paths, name, c, c in masked) | {"trained": runs[name, first, c, seed]["images"]}
        for c in plan.datasets[name].categories
    ]
    return {
        "name": name,
        "title": plan.datasets[name].title,
        "masks": bool(masked),
        "thresholds": thresholds.sheet(measured, paths),
        "main": [tables[metric] for metric in main if metric in tables],
        "further": [table for metric, table in tables.items() if metric not in main],
        "undefined": [*dict.fromkeys(line for metric in main for line in reasons[metric])],
        "kinds": [*defects.sheets(plan, found).values()],
        "missed": missed(plan, found, name),
        "figures": of_dataset(paths, name, bool(masked)),
        "categories": categories,
    }


def cell_table(title: str, table: pd.DataFrame, runs: Runs) -> Row:
    """A table by rows: each cell as printed, whether it is level with the best of its column, and its runs."""
    text, cells = render.wide(table), {(cell.row, cell.column): cell for cell in table.itertuples()}
    rows = []
    for row, line in text.iterrows():
        row_cells = []
        for column in text:
            cell = cells.get((row, column))
            ours = cells.get((str(row).replace("(difference)", "(ours)"), COLUMN_OF.get(column, column)), cell)
            value = cell.mean if cell else math.nan
            mean, _, sd = line[column].partition(" ± ")
            sources = runs_of(ours.provenance, runs) if cell and ours else []
            is_best = bool(getattr(cell, "best", False))
            row_cells.append({"text": mean, "sd": sd, "value": value, "best": is_best, "runs": sources})
        rows.append({"name": row, "cells": row_cells})
    return {"title": title, "columns": [*text.columns], "rows": rows, "notes": render.notes(table), "away": []}
