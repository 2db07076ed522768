"""The tables of a study: the paper's four beside ours, those of its own data sets, and what is to be known of both.

Cells are per cent and are rounded when a table is rendered (layout.py, latex.py), nowhere else.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.config.methods import Params
from adtr.config.study import Plan
from adtr.errors import UserError
from adtr.evaluate.bootstrap import REFERENCE
from adtr.tables import audit, comparison
from adtr.tables import latex as tex
from adtr.tables import render as layout
from adtr.tables.paper import CELL, of_ablation, of_paper
from adtr.tables.render import DASH, Sheet, notes, wide
from adtr.tables.summary import MEAN, METRICS, collect, networks, study_metrics, summarize

__all__ = ["CELL", "MEAN", "METRICS", "collect", "networks", "notes", "study_metrics", "summarize", "wide"]

PAPER = [f"table{n}" for n in (1, 2, 3, 4)]
FURTHER = ["comparison", "parameters", "audit"]  # tables that are no cells


def table_names(plan: Plan) -> list[str]:
    """The paper's four tables, one for each data set and metric of the study, then what holds for all of them."""
    return PAPER + [f"{dataset}_{metric}" for dataset, metric in study_metrics(plan)] + FURTHER


def write(
    plan: Plan,
    metrics: pd.DataFrame,
    sizes: pd.DataFrame,
    specs: Mapping[str, Any],
    claims: Mapping[str, Any],
    output: Path,
) -> None:
    """Writes every table of a study to `output`, each as CSV, Markdown and LaTeX.

    Args:
        metrics: the tidy rows of all runs, of `summary.collect`.
        sizes: of their networks, of `summary.networks`.
        specs: the shape of the paper's tables, params/tables.yaml.
        claims: what the paper says of its tables, params/paper/claims.yaml.
    """
    for name, (title, table) in build(plan, metrics, specs).items():
        layout.write([layout.sheet(table, title)], table, output, name)
    compared, counted = comparison.comparison(plan, metrics), parameters(plan, sizes)
    checked = audit.audit({name: _paper(spec) for name, spec in specs.items()}, claims)
    layout.write([comparison.sheet(plan, compared)], compared, output, "comparison")
    layout.write([parameters_sheet(plan, counted)], counted, output, "parameters")
    layout.write(audit.sheets(checked), checked, output, "audit")


def build(plan: Plan, metrics: pd.DataFrame, specs: Mapping[str, Any]) -> dict[str, tuple[str, pd.DataFrame]]:
    """Title and cells of the paper's tables and of those of the study's data sets, by name."""
    summary = summarize(metrics)
    tables = {}
    for name, spec in specs.items():
        paper = _paper(spec)
        standing = next((key for key, value in plan.datasets.items() if value.benchmark == spec["benchmark"]), "")
        ours, params = summary[summary.dataset == standing], plan.params.get((standing, REFERENCE))
        if "parts" in spec:
            table = of_ablation(spec, paper, ours, spec["categories"], _features(plan, standing))
        else:
            table = of_paper(spec, paper, ours)
        if standing:
            table.attrs["notes"] = [_runs(plan, standing, spec), *table.attrs.get("notes", [])]
        tables[name] = (spec["title"] + (f" ({_setting(plan, standing, params)})" if params else ""), table)
    for dataset, metric in study_metrics(plan):
        title = f"{plan.datasets[dataset].title}: {METRICS[metric]}"
        tables[f"{dataset}_{metric}"] = (title, of_study(summary, plan, dataset, metric))
    return tables


def experiments_of(spec: Mapping[str, Any]) -> list[str]:
    """The experiments whose runs one of the paper's tables shows."""
    if "parts" in spec:
        return list(dict.fromkeys(_paper(spec).variant))
    return [*spec["ours"].values(), *spec["further"].values()]


def of_study(summary: pd.DataFrame, plan: Plan, dataset: str, metric: str) -> pd.DataFrame:
    """A data set of a study: an experiment a row, a category a column, and their mean."""
    chosen = summary[(summary.dataset == dataset) & (summary.metric == metric)]
    table = chosen.assign(row=chosen.experiment.map(plan.titles), column=chosen.category, note="", printed="")
    return table[CELL].reset_index(drop=True)


def parameters(plan: Plan, sizes: pd.DataFrame) -> pd.DataFrame:
    """How many parameters each trained network has, and that over ADTR's: experiment, dataset, tokens, channels, ...

    Args:
        sizes: of all runs, as `summary.networks` gives them.

    Raises:
        UserError: runs of one experiment on one data set differ.
    """
    keys = ["experiment", "dataset"]
    table = sizes[sizes.parameters > 0].drop(columns=["category", "seed"]).drop_duplicates()
    twice = table[table.duplicated(keys)]
    if len(twice):
        name = "/".join(twice.iloc[0][["dataset", "experiment"]])
        raise UserError(f"{name}: its runs have networks of different sizes: train them again")
    reference = table[table.experiment == REFERENCE].set_index("dataset").parameters
    ratio = table.parameters / table.dataset.map(reference).astype(float)
    columns = ["title", *keys, "tokens", "channels", "parameters", "ratio"]
    return table.assign(ratio=ratio, title=table.experiment.map(plan.titles))[columns].reset_index(drop=True)


def parameters_sheet(plan: Plan, table: pd.DataFrame) -> Sheet:
    """An experiment a row; for each data set tokens x channels of its features, and parameters with their ratio."""
    rows: dict[str, dict[str, str]] = {}
    for entry in table.itertuples():
        row = rows.setdefault(entry.title, {"experiment": entry.title})
        name = min(entry.dataset, plan.datasets[entry.dataset].title, key=len)  # a title may be a sentence
        of = f"{name}: " if len(plan.datasets) > 1 else ""
        row[f"{of}features"] = f"{entry.tokens} × {entry.channels}"
        ratio = DASH if pd.isna(entry.ratio) else f"{entry.ratio:.2f}"
        row[f"{of}parameters"] = f"{entry.parameters:,} ({ratio})"
    text = pd.DataFrame(rows.values(), columns=list(dict.fromkeys(key for row in rows.values() for key in row)))
    said = "Features: tokens × channels of an image. In brackets the ratio to ADTR's. What is not trained is left out."
    return Sheet("Trained parameters", text.fillna(DASH), [said] if len(text) else ["Nothing was trained."])


def markdown(table: pd.DataFrame, title: str) -> str:
    """A table of cells in Markdown, its notes below it."""
    return layout.markdown(layout.sheet(table, title))


def latex(table: pd.DataFrame, title: str, label: str) -> str:
    """A table of cells in LaTeX, its notes below it; latex.py says what the preamble needs."""
    sheet = layout.sheet(table, title)
    return tex.latex(sheet.text, sheet.title, label, sheet.notes, breaks=sheet.breaks)


def _paper(spec: Mapping[str, Any]) -> pd.DataFrame:
    return pd.read_csv(spec["paper"], dtype=str).fillna({"note": "", "reference": ""})


def _features(plan: Plan, dataset: str) -> dict[str, dict[str, Any]]:
    return {e: params.features.model_dump() for (name, e), params in plan.params.items() if name == dataset}


def _setting(plan: Plan, dataset: str, params: Params) -> str:
    """What our numbers were measured with, for a table's title."""
    seen, grid = params.features, params.features.grid_size
    weights = f"{seen.weights} weights" + (" in bfloat16" if seen.precision == "bfloat16" else "")
    return (
        f"ours: {plan.datasets[dataset].title}, {seen.backbone} with {weights}, {seen.image_size} px, "
        f"grid {grid}x{grid}, {params.train.epochs} epochs, recipe {plan.study.recipe}"
    )


def _runs(plan: Plan, dataset: str, spec: Mapping[str, Any]) -> str:
    """The categories, seeds and epochs behind our numbers in a table."""
    named = spec.get("ours", {}).values() if "ours" in spec else set(_paper(spec).variant)
    trained = {e: p.train.epochs for (name, e), p in plan.params.items() if name == dataset and e in named}
    epochs: dict[int, list[str]] = {}
    for experiment, count in trained.items():
        epochs.setdefault(count, []).append(plan.titles[experiment])
    most = max(epochs, key=lambda count: len(epochs[count]), default=0)
    other = [f"{', '.join(titles)} {count}" for count, titles in epochs.items() if count != most]
    told = f"; {most} epochs" + (f" ({'; '.join(other)})" if other else "") if epochs else ""
    categories, seeds = plan.datasets[dataset].categories or [], plan.study.seeds
    spread = "; ± is the standard deviation over the seeds" if len(seeds) > 1 else ""
    which = f"categories {_listed(categories)}" if len(categories) < 6 else f"{len(categories)} categories"
    return f"Ours: {which}, {'seeds' if len(seeds) > 1 else 'seed'} {_listed(seeds)}{told}{spread}."


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))
