"""The tables of a study: the paper's four beside ours, those of its own data sets, comparisons and network sizes.

Cells are per cent and are rounded when a table is rendered (render.py), nowhere else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Plan
from adtr.evaluate.bootstrap import REFERENCE, Draws, compare
from adtr.files import write_text
from adtr.records import as_csv, vouch
from adtr.tables import comparison, defects, render, shortcuts, sizes
from adtr.tables.latex import latex
from adtr.tables.paper import CELL, of_ablation, of_paper
from adtr.tables.specs import digests, experiments_of, read_specs
from adtr.tables.summary import METRICS, RUN, TABLES, collect, row_order, study_metrics, summarize
from adtr.tables.uncertainty import BEHIND, SAMPLED, intervals, level_with_best, read_draws

PAPER = [f"table{n}" for n in (1, 2, 3, 4)]
FURTHER = ["comparison", "parameters", "defects", "shortcuts"]  # of the study as a whole, whose rows are no cells


def table_names(plan: Plan) -> list[str]:
    """The paper's four tables, one for each data set and metric of the study, then those of the whole study."""
    return PAPER + [f"{dataset}_{metric}" for dataset, metric in study_metrics(plan)] + FURTHER


def write(paths: Paths, params: Path) -> None:
    """Writes metrics.csv, study.yaml and tables/, with their record, of a study whose runs are finished.

    Args:
        params: the folder params/.

    Raises:
        UserError: runs are missing, or were made with other parameters.
    """
    plan, results = paths.plan, paths.results
    metrics, networks = collect(paths), sizes.networks(paths)
    write_text(results / "metrics.csv", as_csv(metrics))
    write_text(results / "study.yaml", plan.dump())
    write_tables(plan, metrics, read_draws(paths), networks, params, results / "tables")
    write_findings(plan, defects.by_defect(paths), shortcuts.read(paths), results / "tables")
    written = [results / "metrics.csv", results / "study.yaml"]
    written += [path for name in table_names(plan) for path in paths.table(name)]
    vouch(results / TABLES, written, printed=digests(params))


def write_tables(
    plan: Plan, metrics: pd.DataFrame, draws: Draws, networks: pd.DataFrame, params: Path, folder: Path
) -> None:
    """Writes the tables of a study's metrics to `folder`, each as CSV, Markdown and LaTeX.

    Args:
        metrics: the tidy rows of all runs, of `summary.collect`.
        draws: the same of resampled test images, of `uncertainty.read_draws`.
        networks: their sizes, of `sizes.networks`.
        params: the folder params/.
    """
    summary = summarize(metrics)
    for found in (intervals(metrics, draws), level_with_best(metrics, draws)):
        summary = summary.merge(found, "left", RUN)
    tables = build(plan, summary, read_specs(params))
    for dataset, metric in study_metrics(plan):
        title = f"{plan.datasets[dataset].title}: {METRICS[metric]}"
        tables[f"{dataset}_{metric}"] = title, of_study(summary, plan, dataset, metric)
    for name, (title, table) in tables.items():
        write_table([render.sheet(table, title)], table, folder, name)
    compared, counted = compare(metrics, draws, study_metrics(plan)), sizes.parameters(plan, networks)
    write_table([comparison.sheet(plan, compared)], compared, folder, "comparison")
    write_table([sizes.sheet(plan, counted)], counted, folder, "parameters")


def write_findings(plan: Plan, found: pd.DataFrame, simple: pd.DataFrame, folder: Path) -> None:
    """Writes the tables of what was found by defect, of `defects.by_defect`, and of simple scores, `shortcuts.read`."""
    write_table([*defects.sheets(plan, found).values()], found, folder, "defects")
    write_table([shortcuts.sheet(plan, simple)], simple, folder, "shortcuts")


def write_table(sheets: Sequence[render.Sheet], data: pd.DataFrame, folder: Path, name: str) -> None:
    """Writes a table as name.csv (unrounded), and its sheets as name.md and name.tex."""
    lines, texts = [], []
    for place, sheet in enumerate(sheets):
        notes = (f"- {render.escape(note)}" for note in sheet.notes)
        lines += [f"### {render.escape(sheet.title)}", "", render.markdown(sheet), "", *notes, ""]
        texts.append(latex(sheet, f"{name}-{place}" if place else name))
    write_text(folder / f"{name}.csv", as_csv(data))
    write_text(folder / f"{name}.md", "\n".join(lines))
    write_text(folder / f"{name}.tex", "\n".join(texts))


def build(plan: Plan, summary: pd.DataFrame, specs: Mapping[str, Any]) -> dict[str, tuple[str, pd.DataFrame]]:
    """Title and cells of the paper's tables, by name.

    Args:
        summary: as of `summary.summarize`.
        specs: of `specs.read_specs`.
    """
    tables = {}
    for name, spec in specs.items():
        dataset = next((key for key, value in plan.datasets.items() if value.benchmark == spec["benchmark"]), "")
        ours = summary[summary.dataset == dataset]
        if "parts" in spec:
            used = {e: params.features.model_dump() for (d, e), params in plan.params.items() if d == dataset}
            table = of_ablation(spec, ours, used)
        else:
            table = of_paper(spec, ours)
        title = spec["title"]
        if dataset:
            table.attrs["notes"] = [_coverage(plan, dataset, spec), *table.attrs.get("notes", [])]
            title += _setting(plan, dataset)
        tables[name] = (title, table)
    return tables


def of_study(summary: pd.DataFrame, plan: Plan, dataset: str, metric: str) -> pd.DataFrame:
    """A data set of a study: an experiment a row, a category a column, and their mean; intervals if `summary` has."""
    cells = summary[(summary.dataset == dataset) & (summary.metric == metric)]
    cells = cells.sort_values("experiment", key=lambda e: e.map(row_order(plan, dataset).index), kind="stable")
    table = cells.assign(row=cells.experiment.map(plan.titles), column=cells.category, note="", printed="")
    table = table[[*CELL, *table.columns.intersection(["low", "high", "best", *BEHIND])]].reset_index(drop=True)
    table.attrs["notes"] = [SAMPLED] if "low" in table and table.low.notna().any() else []
    return table


def _setting(plan: Plan, dataset: str) -> str:
    """How our numbers were measured, for a table's title; nothing without the reference experiment."""
    if (dataset, REFERENCE) not in plan.params:
        return ""
    params = plan.params[dataset, REFERENCE]
    features, grid = params.features, params.features.grid_size
    weights = f"{features.weights} weights" + (" in bfloat16" if features.precision == "bfloat16" else "")
    return (
        f" (ours: {plan.datasets[dataset].title}, {features.backbone} with {weights}, {features.image_size} px, "
        f"grid {grid}x{grid}, {params.train.epochs} epochs, recipe {plan.study.recipe})"
    )


def _coverage(plan: Plan, dataset: str, spec: Mapping[str, Any]) -> str:
    """The categories, seeds and epochs behind our numbers in a table."""
    seeds, epochs, once = plan.study.seeds, dict[int, list[str]](), list[str]()
    trained = spec["ours"].values() if "ours" in spec else experiments_of(spec)
    for experiment in (e for d, e in plan.params if d == dataset and e in experiments_of(spec)):
        title = plan.titles[experiment]
        if experiment in trained:
            epochs.setdefault(plan.params[dataset, experiment].train.epochs, []).append(title)
        if len(plan.seeds(dataset, experiment)) < len(seeds):
            once.append(title)
    most = max(epochs, key=lambda count: len(epochs[count]), default=0)
    other = [f"{', '.join(titles)} {count}" for count, titles in epochs.items() if count != most]
    text = f"; {most} epochs" + (f" ({'; '.join(other)})" if other else "") if epochs else ""
    text += "; ± is the standard deviation over the seeds" if len(seeds) > 1 else ""
    text += f"; no randomness, so one seed: {render.listed(once)}" if once else ""
    categories = plan.datasets[dataset].categories
    names = f"categories {', '.join(categories)}" if len(categories) < 6 else f"{len(categories)} categories"
    return f"Ours: {names}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}{text}."
