"""The report of a study: its tables, what they say, its figures, and the runs behind every number.

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
from adtr.config import Params, read_yaml
from adtr.errors import UserError
from adtr.files import write_text
from adtr.study import Plan, flatten
from adtr.tables import MEAN, METRICS

Row = dict[str, Any]
Runs = Mapping[tuple[str, ...], Row]  # by data set, experiment, category, seed

REFERENCE = "adtr"  # the experiment that the others are compared with
LEVEL = 0.05  # points; means nearer than that are called level
FURTHER = {
    "image_ap": "image average precision",
    "image_auroc_max": "image AUROC, score by maximum",
    "image_auroc_mean": "image AUROC, score by mean",
    "image_auroc_all": "image AUROC, all anomalous test images",
    "pixel_ap": "pixel average precision",
}
FACTS = ["commit", "code", "weights", "device", "data", "model", "seconds", "time"]  # of a cell's tooltip
COLUMNS = ["number", "dataset", "experiment", "category", "seed", "epochs", "images", "seconds", *FACTS[:6]]
FIGURES = {
    "roc": "ROC curves on {category}, seed {seed}; image AUROC in per cent: {aurocs}",
    "training": "Training loss on {category}, seed {seed}; from the first epoch to the last: {losses}",
    "histogram": "Histograms of the image scores on {category}, seed {seed}: {experiments}, {images}",
    "gallery": "{category}: best, middle and worst scored of {images}, with the anomaly maps of {first}, seed {seed}",
}


def write(plan: Plan, results: Path, table_specs: Mapping[str, Any], output: Path) -> None:
    """Writes report.html and report.md of a study to `output`.

    Args:
        results: the study's folder of results.
        table_specs: the shape of the paper's tables, params/tables.yaml.

    Raises:
        UserError: a file is missing, or what lies there was not made by this study or by the run it names.
    """
    metrics, runs = read_metrics(results / "metrics.csv"), read_runs(plan, results)
    content = context(plan, metrics, runs, table_specs, read_yaml(Path("params/default.yaml")))
    for name, section in zip(plan.datasets, content["datasets"], strict=True):
        categories = plan.datasets[name].categories or []
        section["categories"] = [figures(plan, name, category, metrics, results) for category in categories]
    write_text(output / "report.html", render(content))
    write_text(output / "report.md", markdown(content, output))


def read_metrics(path: Path) -> pd.DataFrame:
    """The tidy metrics of a study; only the value is a number, as a category may be called '001' or 'nan'."""
    if not path.is_file():
        raise UserError(f"{path}: no such file: `adtr tables` makes it")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.assign(value=[float(text or "nan") for text in table.value])


def read_runs(plan: Plan, results: Path) -> dict[tuple[str, ...], Row]:
    """What the run.json of each run tells, numbered in the order of the study."""
    runs: dict[tuple[str, ...], Row] = {}
    for dataset, experiment, category, seed in plan.runs():
        path = results / dataset / experiment / category / str(seed) / "run.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable ({error}): train it again") from None
        used = record["params"] | {"features": record["features"]["features"]}
        if not used.items() <= plan.params[dataset, experiment].model_dump(mode="json").items():
            raise UserError(f"{path}: made with other parameters than the study's: train it again, or pass its --set")
        names = {"dataset": plan.datasets[dataset].title, "experiment": plan.titles[experiment], "category": category}
        runs[dataset, experiment, category, str(seed)] = _facts(record) | names | {"number": len(runs) + 1}
    return runs


def _facts(record: Mapping[str, Any]) -> Row:
    kept = ["seed", "images", "parameters", "seconds", "device", "time", "code", "commit", "model"]
    features = record["features"]
    return {key: record[key] for key in kept} | {
        "epochs": record["params"].get("train", {}).get("epochs", "–"),
        "machine": f"{record['cpu']}, {record['cores']} cores, Python {record['python']}, PyTorch {record['torch']}",
        "data": features["data"],
        "weights": features["weights"],
        "feature_code": features["code"],
    }


def context(plan: Plan, metrics: pd.DataFrame, runs: Runs, specs: Mapping[str, Any], default: Mapping[str, Any]) -> Row:
    """All that the report says, but for the figures.

    Args:
        metrics: the tidy rows of all runs.
        specs: the paper's tables, params/tables.yaml.
        default: params/default.yaml.
    """
    built = tables.build(plan, metrics, specs)
    standing = [dataset.benchmark for dataset in plan.datasets.values()]
    papers = {name: built[name] for name, spec in specs.items() if spec["benchmark"] in standing}
    return {
        "study": plan.name,
        "title": plan.study.title,
        "about": about(plan),
        "warnings": warnings(plan),
        "departures": departures(plan, default),
        "datasets": [_dataset(plan, name, metrics, runs) for name in plan.datasets],
        "papers": [_shown(f"Table {name[-1]}: {title}", table, runs) for name, (title, table) in papers.items()],
        "runs": list(runs.values()),
    }


def about(plan: Plan) -> list[str]:
    """What was run: experiments, recipe and seeds, and of each data set the features and the epochs."""
    used, seeds = {experiment for _, experiment in plan.params}, [str(seed) for seed in plan.study.seeds]
    names = _listed(title for experiment, title in plan.titles.items() if experiment in used)
    one = "One seed only: how far chance moves these numbers is not known."
    spread = one if len(seeds) == 1 else "± is the standard deviation over the seeds."
    runs = f"{names}; recipe “{plan.study.recipe}”; seed {_listed(seeds)}; {len(list(plan.runs()))} runs. {spread}"
    return [runs, *(_setting(plan, name) for name in plan.datasets)]


def _setting(plan: Plan, name: str) -> str:
    params = [params for (dataset, _), params in plan.params.items() if dataset == name]
    inputs = dict.fromkeys(
        f"features of a frozen {f.backbone} with {f.weights} weights, from images of {f.image_size} px, "
        f"on a grid of {f.grid_size} × {f.grid_size} tokens"
        for f in (p.features for p in params)
    )
    epochs = _listed(dict.fromkeys(str(p.train.epochs) for p in params if "train" in p.method_sections()))
    trained = f"; networks trained for {epochs} epochs" if epochs else ""
    told = "; ".join(inputs).replace("imagenet", "ImageNet")
    measured = params[0].score
    scores = f"image score: {measured.image_score} of the map, averaged over {measured.pooling} token(s) a side"
    if plan.datasets[name].layout == "mvtec":
        scores += f"; pixel metrics at {params[0].features.image_size} px, AUPRO up to a false positive rate of "
        scores += str(measured.aupro_limit)
    note = f" {plan.datasets[name].note}" if plan.datasets[name].note else ""
    return f"{plan.datasets[name].title}: {told}{trained}; {scores}.{note}"


def warnings(plan: Plan) -> list[str]:
    """What keeps a study's numbers from being evidence."""
    random = [key for (key, _), params in plan.params.items() if params.features.weights == "random"]
    reasons = {
        "Random weights, a backbone that was never trained": dict.fromkeys(random),
        "Images made by a program, for tests": [key for key, dataset in plan.datasets.items() if dataset.generated],
    }
    titles = {reason: _listed(plan.datasets[key].title for key in keys) for reason, keys in reasons.items() if keys}
    return [f"{reason}: {names}. The numbers test the software and nothing else." for reason, names in titles.items()]


def departures(plan: Plan, default: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every parameter of ADTR that is not the paper's: params/default.yaml under the data set's own `set`."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, dataset in plan.datasets.items():
        experiments = plan.study.datasets[name]
        used = plan.params[name, _reference(experiments)].model_dump(mode="json")
        paper = flatten(default, "") | flatten(dataset.set, "")
        for key, (value, _) in flatten({section: used[section] for section in Params.model_fields}, "").items():
            if value != paper[key][0]:
                found.setdefault((key, _value(paper[key][0]), _value(value)), []).append(dataset.title)
    return [
        {"parameter": key, "paper": printed, "here": here, "meaning": _meaning(key)}
        | {"data sets": "all" if len(titles) == len(plan.datasets) else _listed(titles)}
        for (key, printed, here), titles in found.items()
    ]


def _reference(experiments: list[str]) -> str:
    return REFERENCE if REFERENCE in experiments else experiments[0]


def _meaning(parameter: str) -> str:
    """What config.py says of a parameter."""
    section, _, name = parameter.rpartition(".")
    model: Any = Params.model_fields[section].annotation if section else Params
    return model.model_fields[name].description or ""


def _dataset(plan: Plan, name: str, metrics: pd.DataFrame, runs: Runs) -> Row:
    """The tables of a data set: the main ones with what they say, then those of all else that was measured."""
    measured, summary = metrics[metrics.dataset == name], tables.summarize(metrics)
    reference = plan.titles[_reference(plan.study.datasets[name])]
    main = [metric for dataset, metric in tables.study_metrics(plan) if dataset == name]
    shown = {}
    for metric in dict.fromkeys([*main, *measured.metric]):
        title, table = (METRICS | FURTHER).get(metric, metric), tables.of_study(summary, plan, name, metric)
        said = sentences(table, title, reference) if metric in main else []
        said += undefined(measured[measured.metric == metric], plan)
        shown[metric] = _shown(title, table, runs) | {"sentences": said}
    further = [table for metric, table in shown.items() if metric not in main]
    return {"title": plan.datasets[name].title, "main": [shown[metric] for metric in main], "further": further}


def sentences(table: pd.DataFrame, metric: str, reference: str) -> list[str]:
    """What a table says of each experiment beside `reference`: ahead, behind, level, or not to be compared."""
    rows = {str(row): cells.set_index("column") for row, cells in table.groupby("row", sort=False)}
    return [_compared(name, reference, rows, metric) for name in rows if name != reference]


def _compared(name: str, reference: str, rows: Mapping[str, pd.DataFrame], metric: str) -> str:
    gaps = rows[name]["mean"] - rows[reference]["mean"]
    gap, each = gaps[MEAN], gaps.drop(MEAN)
    if math.isnan(gap):
        missing = _listed(row for row in (name, reference) if math.isnan(rows[row]["mean"][MEAN]))
        return f"{name} and {reference} cannot be compared by {metric}: the mean of {missing} is undefined."
    ahead, behind = (each >= LEVEL).sum(), (each <= -LEVEL).sum()
    counts = {"ahead": ahead, "level": len(each) - ahead - behind, "behind": behind}
    tally = ", ".join(f"{side} in {count}" for side, count in counts.items() if count)
    scope = f"mean over {len(each)} categories: {tally}" if len(each) > 1 else f"category {each.index[0]}"
    if abs(gap) < LEVEL:
        return f"{name} is level with {reference} in {metric}, to a tenth of a point ({scope})."
    side = "ahead of" if gap > 0 else "behind"
    within = abs(gap) <= max(rows[name].sd[MEAN], rows[reference].sd[MEAN])
    chance = " That is no more than the spread over the seeds." if within else ""
    return f"{name} is {side} {reference} by {abs(gap):.1f} points of {metric} ({scope}).{chance}"


def undefined(metrics: pd.DataFrame, plan: Plan) -> list[str]:
    """What of a metric could not be measured, and why."""
    if metrics.empty:
        return ["Not measured: the data set has no masks."]
    found = metrics[metrics.note != ""].groupby(["experiment", "category", "note"], sort=False)
    return [f"{plan.titles[e]}, {c}, seed {_listed(rows.seed)}: {note}." for (e, c, note), rows in found]


def _shown(title: str, table: pd.DataFrame, runs: Runs) -> Row:
    """A table by rows: each cell as printed, whether it is the best of its column, and the runs it was made of."""
    text, cells = tables.wide(table), {(cell.row, cell.column): cell for cell in table.itertuples()}
    means = table.assign(mean=table["mean"].round(1)).groupby("column")["mean"]
    best = means.max().where(means.nunique() > 1)  # of means that print alike none is the best
    rows = [
        {"name": row, "cells": [_cell(line[column], cells.get((row, column)), best[column], runs) for column in text]}
        for row, line in text.iterrows()
    ]
    return {"title": title, "columns": [*text.columns], "rows": rows, "notes": tables.notes(table)}


def _cell(text: str, cell: Any, best: float, runs: Runs) -> Row:
    made_by = runs_of(cell.provenance, runs) if cell else []
    value = cell.mean if cell else math.nan
    mean, _, sd = text.partition(" ± ")
    return {
        "text": mean,
        "sd": sd,
        "value": value,
        "best": round(value, 1) == best,
        "runs": made_by,
        "tip": tip(made_by),
    }


def runs_of(provenance: str, runs: Runs) -> list[Row]:
    """The runs that a cell's provenance names, each once, in the study's order; none of a number that was printed.

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


def tip(runs: list[Row]) -> str:
    """Where a cell comes from, in a few lines: what its runs share, then what each has of its own."""
    shared = [fact for fact in FACTS if len({run[fact] for run in runs}) == 1]
    own = [fact for fact in FACTS if fact not in shared]
    lines = [_told(runs[0], ["dataset", "experiment", *shared])] if runs else []
    return "\n".join(lines + [_told(run, ["number", "category", "seed", *own]) for run in runs])


def _told(run: Row, facts: Iterable[str]) -> str:
    names = {"dataset": "", "experiment": "", "category": "", "number": "run "}
    return ", ".join(f"{names.get(fact, f'{fact} ')}{_short(fact, run)}" for fact in facts)


def _short(fact: str, run: Row) -> str:
    return str(run[fact])[:12] if fact in ("code", "data", "weights", "model") else str(run[fact])


def figures(plan: Plan, dataset: str, category: str, metrics: pd.DataFrame, results: Path) -> Row:
    """The figures of a category, with the names and numbers that say what one sees in them."""
    seed, names = str(plan.study.seeds[0]), {e: plan.titles[e] for e in plan.study.datasets[dataset]}
    folders = {experiment: results / dataset / experiment / category / seed for experiment in names}
    labels = pd.read_csv(folders[next(iter(names))] / "scores.csv").query("split == 'test'").label
    losses = {names[e]: pd.read_csv(folder / "history.csv").loss for e, folder in folders.items()}
    run = {"dataset": dataset, "category": category, "seed": seed, "metric": "image_auroc"}
    aurocs = metrics[(metrics[list(run)] == list(run.values())).all(axis=1)].set_index("experiment").value
    seen = {
        **run,
        "first": next(iter(names.values())),
        "experiments": _listed(names.values()),
        "images": f"{(labels == 0).sum()} normal and {(labels == 1).sum()} anomalous test images",
        "aurocs": _listed(f"{names[e]} {value:.1f}" for e, value in aurocs.items()),
        "losses": _listed(f"{e} {loss.iloc[0]:.3g} to {loss.iloc[-1]:.3g}" for e, loss in losses.items() if len(loss)),
        "untrained": _listed(e for e, loss in losses.items() if loss.empty),
    }
    paths = {kind: results / "figures" / dataset / f"{category}-{kind}.png" for kind in FIGURES}
    return seen | {"figures": [_figure(kind, path, FIGURES[kind].format(**seen)) for kind, path in paths.items()]}


def _figure(kind: str, path: Path, alt: str) -> Row:
    if not path.is_file():
        raise UserError(f"{path}: no such file: `adtr figures` draws it")
    return {"kind": kind, "path": path, "alt": alt}


def render(content: Row) -> str:
    """The report as one HTML file, its images inside."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {"embedded": lambda path: base64.b64encode(path.read_bytes()).decode(), "span": span}
    return page.get_template("report.html.j2").render(content)


def span(runs: Iterable[Row]) -> str:
    """The numbers of runs, as '4–6' where they follow each other."""
    numbers = sorted({run["number"] for run in runs})
    if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return ", ".join(map(str, numbers))


def markdown(content: Row, folder: Path) -> str:
    """The report in brief, in Markdown; its figures are links relative to `folder`."""
    lines = [f"# {content['title']}", f"Study `{content['study']}` of ADTR Bench."]
    lines += [f"**{text}**" for text in content["warnings"]] + content["about"]
    if content["departures"]:
        lines += [
            "## Not the paper's recipe",
            _table(["parameter", "paper", "here", "data sets"], content["departures"]),
        ]
    for section in content["datasets"]:
        lines.append(f"## {section['title']}")
        for table in section["main"]:
            lines += [f"### {table['title']}", _cells(table), *table["sentences"]]
        for seen in section["categories"]:
            lines.append(f"### {seen['category']}: {seen['images']}")
            for figure in seen["figures"]:
                link = quote(Path(os.path.relpath(figure["path"], folder)).as_posix())
                lines.append(f"![{figure['alt']}]({link})\n\n{figure['alt']}.")
    for table in content["papers"]:
        lines += [f"## The paper's {table['title']}", _cells(table), *table["notes"]]
    runs = [{fact: _short(fact, run) for fact in COLUMNS} for run in content["runs"]]
    return "\n\n".join([*lines, "## Runs", _table(COLUMNS, runs)]).replace("<", "&lt;") + "\n"


def _cells(table: Row) -> str:
    """A table with the numbers of each row's runs."""
    rows = []
    for row in table["rows"]:
        text = [" ± ".join(filter(None, [cell["text"], cell["sd"]])) for cell in row["cells"]]
        made_by = span(run for cell in row["cells"] for run in cell["runs"])
        rows.append({"per cent": row["name"], **dict(zip(table["columns"], text, strict=True)), "runs": made_by})
    return _table(["per cent", *table["columns"], "runs"], rows)


def _table(columns: list[str], rows: list[Row]) -> str:
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(str(text).replace("|", "\\|") for text in line) + " |" for line in lines)


def _listed(names: Iterable[str]) -> str:
    """'a, b and c'."""
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _value(value: Any) -> str:
    """A parameter's value as params/ writes it."""
    return value if isinstance(value, str) else json.dumps(value)
