"""Tables: the paper's numbers, ours, the difference.

A table is a frame with a row for every cell: row, column, mean, sd, n (runs), printed (as the paper has it), note and
provenance. Values are per cent
and are rounded when a table is rendered, nowhere else; what was not run or is undefined has no mean and is a dash.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.config import Params
from adtr.errors import UserError
from adtr.files import written_atomically
from adtr.study import Plan

CELL = ["row", "column", "mean", "sd", "n", "printed", "note", "provenance"]
MEAN = "mean"
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
LATEX = str.maketrans(
    {character: rf"\{character}" for character in "_&%#${}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)
RUN = ["dataset", "experiment", "category", "metric"]


def summarize(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every data set, experiment, category and metric.

    The category 'mean' is the unweighted mean over categories of each seed, then summarised over seeds; it is undefined
    where a category is, or where the data set's other metrics have one more.

    Args:
        metrics: the tidy rows of all runs.
    """
    by_seed = metrics.groupby(["dataset", "experiment", "metric", "seed"], sort=False, as_index=False)
    means = by_seed.agg(
        value=("value", lambda values: values.mean(skipna=False)),
        size=("value", "size"),
        provenance=("provenance", " ".join),
    )
    categories = means.dataset.map(metrics.groupby("dataset").category.nunique())
    means["value"] = means.value.where(means.pop("size") == categories)
    rows = pd.concat([metrics, means.assign(category=MEAN)], ignore_index=True)
    return rows.groupby(RUN, sort=False, as_index=False).agg(
        mean=("value", lambda values: values.mean(skipna=False)),
        sd=("value", "std"),
        n=("value", "size"),
        provenance=("provenance", " ".join),
    )


def of_study(summary: pd.DataFrame, plan: Plan, dataset: str, metric: str) -> pd.DataFrame:
    """A data set of a study: an experiment a row, a category a column, and their mean."""
    chosen = summary[(summary.dataset == dataset) & (summary.metric == metric)]
    table = chosen.assign(row=chosen.experiment.map(plan.titles), column=chosen.category, note="", printed="")
    return table[CELL].reset_index(drop=True)


def of_paper(spec: Mapping[str, Any], paper: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Tables 1 to 3: the paper's rows as printed, then for each of its own methods the paper, ours, the difference.

    Args:
        spec: the table in params/tables.yaml.
        paper: method, reference, category, value, note.
        summary: of the data sets that stand for the table's benchmark, with their metrics.
    """
    columns = list(dict.fromkeys(paper.category))
    cells = []
    for method, printed in paper.groupby("method", sort=False):
        experiment = spec["ours"].get(method)
        name = f"{method} (paper)" if experiment else f"{method} [{printed.reference.iloc[0]}]"
        cells.append(_printed(printed.assign(row=name, column=printed.category)))
        if experiment:
            ours = _ours(summary, experiment, spec["metric"], columns)
            cells += _compared(printed.set_index("category"), ours, f"{method}")
    return pd.concat(cells, ignore_index=True)


def of_ablation(
    spec: Mapping[str, Any], paper: pd.DataFrame, summary: pd.DataFrame, categories: int, backbone: str
) -> pd.DataFrame:
    """Table 4: a variant a row; columns paper, ours, difference.

    Args:
        categories: how many the paper averages over; ours with fewer stands with a note.
        backbone: of our experiment adtr; where it is not the paper's, the row that names the paper's stays empty.
    """
    cells = []
    for entry in paper.itertuples():
        row = f"({entry.part}) {entry.label}"
        ours = summary[(summary.experiment == entry.variant) & (summary.metric == spec["metric"])]
        count = ours[ours.category != MEAN].category.nunique()
        note = f"{count} of {categories} categories" if count < categories else ""
        found = ours[ours.category == MEAN].assign(note=note)
        if entry.part == spec["backbones"] and entry.variant == "adtr" and backbone != spec["backbone"]:
            found = pd.DataFrame({"mean": [math.nan], "note": [f"the study's adtr has another backbone, {backbone}"]})
        found = found if len(found) else pd.DataFrame({"mean": [math.nan]})
        cells.append(
            _printed(pd.DataFrame([{"row": row, "column": "paper", "value": entry.value, "note": entry.note}]))
        )
        cells.append(_completed(found.assign(row=row, column="ours")))
        gap = found["mean"].iloc[0] - float(entry.value)
        cells.append(_completed(pd.DataFrame({"row": [row], "column": ["difference"], "mean": [gap]})))
    return pd.concat(cells, ignore_index=True)


def _printed(rows: pd.DataFrame) -> pd.DataFrame:
    return _completed(rows.assign(mean=rows["value"].astype(float), printed=rows["value"], provenance="paper"))


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table in their order, with nothing where nothing is known."""
    empty: dict[str, Any] = {"mean": math.nan, "sd": math.nan, "n": 0, "printed": "", "note": "", "provenance": ""}
    missing = {name: value for name, value in empty.items() if name not in rows}
    return rows.assign(**missing)[CELL].fillna({"printed": "", "note": ""})


def _ours(summary: pd.DataFrame, experiment: str, metric: str, columns: list[str]) -> pd.DataFrame:
    """Our cells by category; the mean only where every category of the paper was run."""
    found = summary[(summary.experiment == experiment) & (summary.metric == metric)].set_index("category")
    found = found[~found.index.duplicated()].reindex(columns)
    if found.drop(MEAN, errors="ignore")["mean"].isna().any():
        found.loc[MEAN, ["mean", "sd"]] = math.nan
    return found


def _compared(printed: pd.DataFrame, ours: pd.DataFrame, method: str) -> list[pd.DataFrame]:
    known = ours.assign(row=f"{method} (ours)", column=ours.index).fillna({"n": 0, "provenance": ""})
    gap = pd.DataFrame(
        {"row": f"{method} (difference)", "column": ours.index, "mean": ours["mean"] - printed.value.astype(float)}
    )
    return [_completed(known), _completed(gap)]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A table as text, a row each: one decimal, '± sd' from two runs on, a signed difference, a dash for nothing."""
    text = table.assign(text=[_text(cell) for cell in table.itertuples()])
    rows, columns = list(dict.fromkeys(table.row)), list(dict.fromkeys(table.column))
    return text.pivot(index="row", columns="column", values="text").reindex(index=rows, columns=columns).fillna("–")


def _text(cell: Any) -> str:
    if cell.printed:
        return cell.printed
    if math.isnan(cell.mean):
        return "–"
    if "difference" in (cell.column, cell.row.rpartition(" (")[2].rstrip(")")):
        return f"{cell.mean:+.1f}"
    return f"{cell.mean:.1f}" + (f" ± {cell.sd:.1f}" if cell.n > 1 and not math.isnan(cell.sd) else "")


def notes(table: pd.DataFrame) -> list[str]:
    """What is to be said of single cells."""
    return [f"{cell.row}, {cell.column}: {cell.note}" for cell in table[table.note != ""].itertuples()]


def markdown(table: pd.DataFrame, title: str) -> str:
    """A table in Markdown, its notes below it."""
    body = wide(table).rename_axis(None, axis=1).rename_axis("per cent").to_markdown(disable_numparse=True)
    return "\n".join([f"### {title}", "", body, "", *(f"- {note}" for note in notes(table)), ""])


def latex(table: pd.DataFrame, title: str, label: str) -> str:
    """A table in LaTeX, with booktabs."""
    text = wide(table).rename_axis(None, axis=1).rename_axis(None)
    text = text.replace({r" ± ": r" $\\pm$ ", "–": "--"}, regex=True)
    text.index, text.columns = text.index.map(_escaped), text.columns.map(_escaped)
    styler = text.style
    return styler.to_latex(
        hrules=True,
        caption=_escaped(title),
        label=f"tab:{label}",
        position="t",
        column_format="l" + "c" * text.shape[1],
    )


def _escaped(text: str) -> str:
    return text.translate(LATEX)


def write(table: pd.DataFrame, title: str, folder: Path, name: str) -> None:
    """Writes a table as name.csv, name.md and name.tex."""
    forms = {"csv": table.to_csv(index=False), "md": markdown(table, title), "tex": latex(table, title, name)}
    for suffix, text in forms.items():
        with written_atomically(folder / f"{name}.{suffix}") as path:
            path.write_text(text, encoding="utf-8")


# A study's tables


def table_names(plan: Plan) -> list[str]:
    """The paper's four tables, in every study, then one for each data set and metric that the study measures."""
    return [f"table{n}" for n in (1, 2, 3, 4)] + [f"{dataset}_{metric}" for dataset, metric in study_metrics(plan)]


def study_metrics(plan: Plan) -> list[tuple[str, str]]:
    """(data set, metric) of the tables that show a study's own data sets."""
    pixel = {"mvtec": ["pixel_auroc", "aupro"]}
    return [
        (name, m) for name, dataset in plan.datasets.items() for m in ["image_auroc", *pixel.get(dataset.layout, [])]
    ]


def collect(plan: Plan, results: Path) -> pd.DataFrame:
    """The tidy metrics of all runs of a study.

    Raises:
        UserError: runs are missing; the message names them.
    """
    paths = [results / d / e / c / str(s) / "metrics.csv" for d, e, c, s in plan.runs()]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(paths)} runs have no metrics yet, such as {missing[0]}")
    return pd.concat([pd.read_csv(path, dtype={"note": str}).fillna({"note": ""}) for path in paths], ignore_index=True)


def _setting(plan: Plan, dataset: str, params: Params) -> str:
    """What our numbers were measured with, for a table's title."""
    seen, grid = params.features, params.features.grid_size
    return (
        f"ours: {plan.datasets[dataset].title}, {seen.backbone} with {seen.weights} weights, {seen.image_size} px, "
        f"grid {grid}x{grid}, {params.train.epochs} epochs, recipe {plan.study.recipe}"
    )


def build(plan: Plan, metrics: pd.DataFrame, specs: Mapping[str, Any]) -> dict[str, tuple[str, pd.DataFrame]]:
    """Title and cells of every table of a study, by name."""
    summary = summarize(metrics)
    tables = {}
    for name, spec in specs.items():
        paper = pd.read_csv(spec["paper"], dtype=str).fillna({"note": "", "reference": ""})
        standing = next((key for key, value in plan.datasets.items() if value.benchmark == spec["benchmark"]), "")
        ours, params = summary[summary.dataset == standing], plan.params.get((standing, "adtr"))
        backbone = params.features.backbone if params else spec.get("backbone", "")
        table = of_ablation(spec, paper, ours, 15, backbone) if "parts" in spec else of_paper(spec, paper, ours)
        tables[name] = (spec["title"] + (f" ({_setting(plan, standing, params)})" if params else ""), table)
    for dataset, metric in study_metrics(plan):
        title = f"{plan.datasets[dataset].title}: {METRICS[metric]}"
        tables[f"{dataset}_{metric}"] = (title, of_study(summary, plan, dataset, metric))
    return tables
