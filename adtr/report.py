"""The report of a study: its tables, what they say, its figures, and the run behind every number.

`context` gathers all of it once, as plain values; report.html.j2 and `markdown` lay it out. The same results give the
same bytes: nothing depends on the time or the place of rendering.
"""

import base64
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from adtr import tables
from adtr.config import Params, Plan, flatten, read_yaml
from adtr.errors import UserError
from adtr.files import write_text
from adtr.tables import MEAN, METRICS

Run = dict[str, Any]  # what the table of runs tells of one
Runs = Mapping[tuple[str, ...], Run]  # by data set, experiment, category, seed

REFERENCE = "adtr"  # the experiment that the others are compared with
LEVEL = 0.05  # points; means that are nearer would print as the same
FURTHER = {
    "image_ap": "image average precision",
    "image_auroc_max": "image AUROC, score by maximum",
    "image_auroc_mean": "image AUROC, score by mean",
    "image_auroc_all": "image AUROC, all anomalous test images",
    "pixel_ap": "pixel average precision",
}
DIGESTS = ["code", "data", "weights", "model"]  # shortened where they are shown
FACTS = ["commit", "code", "weights", "device", "data", "model", "seconds", "time"]  # of a cell's tooltip
DEPARTURE = ["parameter", "paper", "here", "datasets"]
COLUMNS = [
    "number",
    "dataset",
    "experiment",
    "category",
    "seed",
    "epochs",
    "images",
    "seconds",
    "device",
    "code",
    "commit",
    "model",
]
FIGURES = {  # caption and alternative text
    "roc": (
        "ROC curves of {experiments}, seed {seed}, over all thresholds on the image score. Nearer to the upper left is "
        "better; the grey line is chance.",
        "ROC curves on {category}; image AUROC in per cent: {aurocs}",
    ),
    "training": (
        "Training loss after each epoch, seed {seed}.{still}",
        "Training loss on {category}: {falls}",
    ),
    "histogram": (
        "Image scores, seed {seed}, in per cent of the normal and of the anomalous test images; the last bin also holds "
        "the highest half per cent. The less the two overlap, the better.",
        "Histograms of the image scores on {category} of {experiments}: {images}",
    ),
    "gallery": (
        "Test images and anomaly maps of {first}, seed {seed}: of the anomalous and of the normal images those scored "
        "best, in the middle and worst. Above each its score; below it its mask, where there is one, and its map. All "
        "maps share the colour scale at the right.",
        "Images of {category} and the anomaly maps of {first}, the best, middle and worst scored of {images}",
    ),
}


def write(plan: Plan, results: Path, table_specs: Mapping[str, Any], output: Path) -> None:
    """Writes report.html and report.md of a study to `output`.

    Args:
        results: the study's folder of results.
        table_specs: the shape of the paper's tables, params/tables.yaml.

    Raises:
        UserError: a file is missing, or what lies there is not of this study's parameters or of its runs.
    """
    metrics, runs = read_metrics(results / "metrics.csv"), read_runs(plan, results)
    content = context(plan, metrics, runs, table_specs, read_yaml(Path("params/default.yaml")))
    for section in content["datasets"]:
        section["categories"] = [
            _category(plan, section["name"], category, metrics, results) for category in section["names"]
        ]
    write_text(output / "report.html", render(content))
    write_text(output / "report.md", markdown(content, output))


def read_metrics(path: Path) -> pd.DataFrame:
    """The tidy metrics of a study; only the value is a number, as a category may be called '001' or 'nan'."""
    if not path.is_file():
        raise UserError(f"{path}: no such file: `adtr tables` makes it")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.assign(value=pd.to_numeric(table.value.replace("", "nan")))


def read_runs(plan: Plan, results: Path) -> dict[tuple[str, ...], Run]:
    """What the run.json of each run tells, numbered in the order of the study."""
    runs: dict[tuple[str, ...], Run] = {}
    for dataset, experiment, category, seed in plan.runs():
        path = results / dataset / experiment / category / str(seed) / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable ({error}): train it again") from None
        params = plan.params[dataset, experiment].model_dump(mode="json")
        used = record["params"] | {"features": record["features"]["features"]}
        if used != {name: params[name] for name in used}:
            raise UserError(
                f"{path}: made with other parameters than the study's: train it again, or give the same --set"
            )
        names = {"dataset": plan.datasets[dataset].title, "experiment": plan.titles[experiment], "category": category}
        runs[dataset, experiment, category, str(seed)] = {"number": len(runs) + 1} | names | _facts(record)
    return runs


def _facts(record: Mapping[str, Any]) -> Run:
    kept = ["seed", "images", "parameters", "seconds", "device", "time", "code", "commit", "model"]
    machine = f"{record['cpu']}, {record['cores']} cores, Python {record['python']}, PyTorch {record['torch']}"
    return {key: record[key] for key in kept} | {
        "epochs": record["params"].get("train", {}).get("epochs", "–"),
        "machine": machine,
        "data": record["features"]["data"],
        "weights": record["features"]["weights"],
        "feature_code": record["features"]["code"],
    }


def context(
    plan: Plan, metrics: pd.DataFrame, runs: Runs, specs: Mapping[str, Any], default: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the report says, as plain values, but for the figures.

    Args:
        metrics: the tidy rows of all runs.
        specs: the paper's tables, params/tables.yaml.
        default: params/default.yaml.
    """
    standing = [dataset.benchmark for dataset in plan.datasets.values()]
    built = tables.build(plan, metrics, specs)
    papers = [built[name] for name, spec in specs.items() if spec["benchmark"] in standing]
    return {
        "study": plan.name,
        "title": plan.study.title,
        "about": about(plan),
        "warnings": warnings(plan),
        "departures": departures(plan, default),
        "datasets": [_dataset(plan, name, metrics, runs, built) for name in plan.datasets],
        "papers": [{"title": title, "notes": tables.notes(table)} | grid(table, runs) for title, table in papers],
        "runs": list(runs.values()),
    }


def about(plan: Plan) -> list[str]:
    """What was run: experiments, recipe, seeds, and of each data set the features and the epochs."""
    names = dict.fromkeys(plan.titles[experiment] for _, experiment in plan.params)
    seeds, count = [str(seed) for seed in plan.study.seeds], len(list(plan.runs()))
    told = [
        f"{_listed(names)}; recipe {plan.study.recipe}; {_counted(len(seeds), 'seed')} ({_listed(seeds)}); {count} runs."
    ]
    for name, dataset in plan.datasets.items():
        params = [params for (key, _), params in plan.params.items() if key == name]
        features = dict.fromkeys(
            f"{f.backbone} with {f.weights} weights, images of {f.image_size} px, {f.grid_size} × {f.grid_size} tokens"
            for f in (p.features for p in params)
        )
        epochs = dict.fromkeys(str(p.train.epochs) for p in params if "train" in p.method_sections())
        trained = f"; trained for {_listed(epochs)} epochs" if epochs else ""
        told.append(f"{dataset.title}: {'; '.join(features)}{trained}.")
    one = "One seed only: how far chance moves these numbers is not known."
    return [*told, one if len(seeds) == 1 else "± is the standard deviation over the seeds."]


def warnings(plan: Plan) -> list[str]:
    """What makes a study's numbers worthless as evidence."""
    random = {plan.datasets[name].title for (name, _), p in plan.params.items() if p.features.weights == "random"}
    made = [dataset.title for dataset in plan.datasets.values() if dataset.generated]
    told = [
        f"Random weights: on {_listed(sorted(random))} the backbone was never trained, so its numbers test the software."
    ]
    told.append(f"Made-up images: {_listed(made)}. Their numbers test the software; they say nothing of real parts.")
    return [text for text, true in zip(told, (random, made), strict=True) if true]


def departures(plan: Plan, default: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every parameter of ADTR that is not the paper's: params/default.yaml under the data set's own `set`."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, dataset in plan.datasets.items():
        names = plan.study.datasets[name]
        used = plan.params[name, REFERENCE if REFERENCE in names else names[0]].model_dump(mode="json")
        paper = flatten(default, "") | flatten(dataset.set, "")
        for key, (value, _) in flatten({section: used[section] for section in Params.model_fields}, "").items():
            if value != paper[key][0]:
                found.setdefault((key, _value(paper[key][0]), _value(value)), []).append(dataset.title)
    return [{"parameter": k, "paper": p, "here": h, "datasets": _listed(names)} for (k, p, h), names in found.items()]


def _dataset(
    plan: Plan, name: str, metrics: pd.DataFrame, runs: Runs, built: Mapping[str, tuple[str, pd.DataFrame]]
) -> dict[str, Any]:
    """The tables of a data set, the main ones with what they say."""
    measured, summary = metrics[metrics.dataset == name], tables.summarize(metrics)
    experiments = plan.study.datasets[name]
    reference = plan.titles[REFERENCE if REFERENCE in experiments else experiments[0]]
    main = [metric for dataset, metric in tables.study_metrics(plan) if dataset == name]
    further = [metric for metric in dict.fromkeys(measured.metric) if metric not in main]
    frames = {metric: built[f"{name}_{metric}"][1] for metric in main}
    frames |= {metric: tables.of_study(summary, plan, name, metric) for metric in further}
    shown = {
        metric: {
            "title": (title := METRICS.get(metric) or FURTHER.get(metric, metric)),
            "sentences": sentences(table, title, reference),
            "undefined": undefined(measured[measured.metric == metric], plan),
            **grid(table, runs),
        }
        for metric, table in frames.items()
    }
    return {
        "name": name,
        "title": plan.datasets[name].title,
        "names": plan.datasets[name].categories,
        "main": [shown[metric] for metric in main],
        "further": [shown[metric] for metric in further],
    }


def sentences(table: pd.DataFrame, metric: str, reference: str) -> list[str]:
    """What a table says of each experiment beside `reference`: ahead, behind, level, or not to be compared."""
    rows = {str(row): cells.set_index("column") for row, cells in table.groupby("row", sort=False)}
    return [
        _compared(metric, name, cells, reference, rows[reference]) for name, cells in rows.items() if name != reference
    ]


def _compared(metric: str, name: str, cells: pd.DataFrame, reference: str, others: pd.DataFrame) -> str:
    gaps = cells["mean"] - others["mean"]
    gap, each = gaps[MEAN], gaps.drop(MEAN)
    if math.isnan(gap):
        missing = [title for title, known in ((name, cells), (reference, others)) if math.isnan(known["mean"][MEAN])]
        return f"{name} and {reference} cannot be compared by {metric}: the mean of {_listed(missing)} is undefined."
    scope = f"mean over {len(each)} categories" if len(each) > 1 else f"category {each.index[0]}"
    if len(each) > 1:
        ahead, level = (each >= LEVEL).sum(), (each.abs() < LEVEL).sum()
        scope += f": ahead in {ahead}, level in {level}, behind in {len(each) - ahead - level}"
    if abs(gap) < LEVEL:
        return f"{name} is level with {reference} in {metric}, to a tenth of a point ({scope})."
    spread = max(cells.sd[MEAN], others.sd[MEAN])
    chance = " That is no more than the spread over the seeds." if abs(gap) <= spread else ""
    return f"{name} is {'ahead of' if gap > 0 else 'behind'} {reference} by {abs(gap):.1f} points of {metric} ({scope}).{chance}"


def undefined(metrics: pd.DataFrame, plan: Plan) -> list[str]:
    """What could not be measured, and why."""
    if metrics.empty:
        return ["not measured: the data set has no masks"]
    found = metrics[metrics.note != ""].groupby(["experiment", "category", "note"], sort=False)
    return [f"{plan.titles[e]}, {c}, seed {_listed(rows.seed.astype(str))}: {note}" for (e, c, note), rows in found]


def grid(table: pd.DataFrame, runs: Runs) -> dict[str, Any]:
    """A table by rows: each cell as printed, whether it is the best of its column, and the runs it was made of."""
    text = tables.wide(table)
    best = table.groupby("column")["mean"].agg(lambda means: round(means.max(), 1))
    level = table.groupby("column")["mean"].agg(lambda means: means.round(1).nunique() == 1)
    rows: dict[str, list[dict[str, Any]]] = {row: [] for row in text.index}
    known = {(cell.row, cell.column): cell for cell in table.itertuples()}
    for row, column in ((row, column) for row in text.index for column in text.columns):
        cell = known.get((row, column))
        behind = runs_of(cell.provenance, runs) if cell else []
        mean, _, sd = text.loc[row, column].partition(" ± ")
        leads = bool(cell) and not level[column] and round(cell.mean, 1) == best[column]
        value = "" if cell is None or math.isnan(cell.mean) else cell.mean
        rows[row].append({"text": mean, "sd": sd, "value": value, "best": leads, "tip": tip(behind), "runs": behind})
    return {
        "columns": list(text.columns),
        "rows": [{"name": name, "cells": cells, "runs": _span(cells)} for name, cells in rows.items()],
    }


def _span(cells: Iterable[Mapping[str, Any]]) -> str:
    """The numbers of all runs of a row, as '4–6' where they follow each other."""
    numbers = sorted({run["number"] for cell in cells for run in cell["runs"]})
    if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers))


def runs_of(provenance: str, runs: Runs) -> list[Run]:
    """The runs that a cell's provenance names, each once, in their order; none of a number that the paper printed.

    Raises:
        UserError: a model was trained anew since its metrics were taken.
    """
    found = {}
    for path, model in re.findall(r"(\S.*?)@([0-9a-f]{12})(?= |$)", provenance):
        run = runs[Path(path).parts[-4:]]
        if not run["model"].startswith(model):
            raise UserError(f"{path}: its metrics are of another model than the one that lies there: evaluate it again")
        found[run["number"]] = run
    return [found[number] for number in sorted(found)]


def tip(runs: list[Run]) -> str:
    """Where a cell comes from, in a few lines: what its runs share, then what each has of its own."""
    if not runs:
        return ""
    shared = [fact for fact in FACTS if len({run[fact] for run in runs}) == 1]
    own = [fact for fact in FACTS if fact not in shared]
    first = f"{runs[0]['dataset']}, {runs[0]['experiment']}: {_counted(len(runs), 'run')}"
    each = [f"run {run['number']}: {run['category']}, seed {run['seed']}, {_told(run, own)}" for run in runs]
    return "\n".join([first, _told(runs[0], shared), *(line.rstrip(", ") for line in each)])


def _told(run: Run, facts: Iterable[str]) -> str:
    return ", ".join(f"{fact} {str(run[fact])[:12]}" if fact in DIGESTS else f"{fact} {run[fact]}" for fact in facts)


def _category(plan: Plan, dataset: str, category: str, metrics: pd.DataFrame, results: Path) -> dict[str, Any]:
    """The figures of a category, with what one sees in them."""
    seen = _seen(plan, dataset, category, metrics, results)
    paths = {kind: results / "figures" / dataset / f"{category}-{kind}.png" for kind in FIGURES}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such file: `adtr figures` draws it")
    figures = [
        {"kind": kind, "path": paths[kind], "caption": caption.format(**seen), "alt": alt.format(**seen)}
        for kind, (caption, alt) in FIGURES.items()
    ]
    return {"name": category, "images": seen["images"], "figures": figures}


def _seen(plan: Plan, dataset: str, category: str, metrics: pd.DataFrame, results: Path) -> dict[str, str]:
    """The names and numbers in the captions of a category."""
    seed, names = str(plan.study.seeds[0]), {e: plan.titles[e] for e in plan.study.datasets[dataset]}
    folders = {experiment: results / dataset / experiment / category / seed for experiment in names}
    labels = pd.read_csv(folders[next(iter(names))] / "scores.csv").query("split == 'test'").label
    losses = {names[e]: pd.read_csv(folder / "history.csv").loss for e, folder in folders.items()}
    falls = [f"{name} from {loss.iloc[0]:.3g} to {loss.iloc[-1]:.3g}" for name, loss in losses.items() if len(loss)]
    still = _listed(name for name, loss in losses.items() if loss.empty)
    run = {"dataset": dataset, "category": category, "seed": seed, "metric": "image_auroc"}
    aurocs = metrics[(metrics[list(run)] == list(run.values())).all(axis=1)].dropna(subset="value")
    return {
        "category": category,
        "seed": seed,
        "first": next(iter(names.values())),
        "experiments": _listed(names.values()),
        "images": f"{(labels == 0).sum()} normal and {(labels == 1).sum()} anomalous test images",
        "aurocs": _listed(f"{names[row.experiment]} {row.value:.1f}" for row in aurocs.itertuples()) or "undefined",
        "falls": _listed(falls) or "none",
        "still": f" No epochs: {still}." if still else "",
    }


def render(content: Mapping[str, Any]) -> str:
    """The report as one HTML file, its images inside."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["embedded"] = lambda path: base64.b64encode(path.read_bytes()).decode()
    return page.get_template("report.html.j2").render(content)


def markdown(content: Mapping[str, Any], folder: Path) -> str:
    """The report in brief, in Markdown; its figures are links relative to `folder`."""
    lines = [f"# {content['title']}", "", f"Study `{content['study']}` of ADTR Bench.", ""]
    lines += [f"**{text}**\n" for text in content["warnings"]] + [f"{text}\n" for text in content["about"]]
    if content["departures"]:
        lines += ["## Not the paper's recipe", "", *_rows(content["departures"], DEPARTURE)]
    for section in content["datasets"]:
        lines += ["", f"## {section['title']}"]
        for table in section["main"]:
            lines += ["", f"### {table['title']}", "", *_cells(table), ""]
            lines += [f"- {text}" for text in table["sentences"] + table["undefined"]]
        for category in section["categories"]:
            lines += ["", f"### {category['name']}: {category['images']}"]
            for figure in category["figures"]:
                link = quote(Path(os.path.relpath(figure["path"], folder)).as_posix())
                lines += ["", f"![{_plain(figure['alt'])}]({link})", "", figure["caption"]]
    for table in content["papers"]:
        lines += ["", f"## {table['title']}", "", *_cells(table), "", *(f"- {note}" for note in table["notes"])]
    runs = [
        {column: str(run[column])[:12] if column in DIGESTS else run[column] for column in COLUMNS}
        for run in content["runs"]
    ]
    return "\n".join([*lines, "", "## Runs", "", *_rows(runs, COLUMNS)]).replace("<", "&lt;") + "\n"


def _cells(table: Mapping[str, Any]) -> list[str]:
    """A table with a column that names the runs of each row."""
    rows = []
    for row in table["rows"]:
        text = [f"{cell['text']} ± {cell['sd']}" if cell["sd"] else cell["text"] for cell in row["cells"]]
        rows.append({"per cent": row["name"], **dict(zip(table["columns"], text, strict=True)), "runs": row["runs"]})
    return _rows(rows, ["per cent", *table["columns"], "runs"])


def _rows(rows: Iterable[Mapping[str, Any]], columns: list[str]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return ["| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines]


def _listed(names: Iterable[str]) -> str:
    """'a, b and c'."""
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _value(value: Any) -> str:
    """A parameter's value as params/ writes it."""
    return value if isinstance(value, str) else json.dumps(value)
