"""The report of a study in three forms: a page (HTML), a brief one (Markdown), and one for print (LaTeX, and PDF).

The same results give the same bytes: nothing depends on the time or the place of rendering.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from adtr.config.study import Plan
from adtr.data.sources import read_sources
from adtr.errors import UserError
from adtr.files import write_text
from adtr.report.brief import markdown
from adtr.report.content import context, credits, reference_of
from adtr.report.page import render
from adtr.report.pdf import compile_pdf, document
from adtr.report.pictures import chosen, copied, of_category, of_dataset
from adtr.report.runs import Row, read_runs
from adtr.report.sentences import uncertainty
from adtr.tables.stage import FURTHER, table_names
from adtr.tables.summary import read_metrics


def write(plan: Plan, results: Path, table_specs: Mapping[str, Any], output: Path) -> None:
    """Writes report.html, report.md, report.tex and figures/ of a study to `output`; report.pdf where LaTeX is.

    What lies in `output` holds without `results`.

    Args:
        results: the study's folder of results.
        table_specs: the shape of the paper's tables, params/tables.yaml.

    Raises:
        UserError: a file is missing, or what lies there was not made by this study or by the run it names.
    """
    content = gather(plan, results, table_specs)
    typeset = {name: _table(results, name, "tex").read_text(encoding="utf-8") for name in table_names(plan)}
    page = render(content)
    shutil.rmtree(output / "figures", ignore_errors=True)
    pictures = [(figure, copied(figure, output / "figures")) for figure in chosen(content["datasets"])]
    placed = [(figure, path.relative_to(output)) for figure, path in pictures]
    write_text(output / "report.html", page)
    write_text(output / "report.md", markdown(content, placed))
    write_text(output / "report.tex", document(content, placed, typeset))
    compile_pdf(output / "report.tex")


def gather(plan: Plan, results: Path, table_specs: Mapping[str, Any]) -> Row:
    """All that a report says and shows, as plain values."""
    metrics, runs = read_metrics(results / "metrics.csv"), read_runs(plan, results)
    further = {name: _read(_table(results, name, "csv"), text=name == "audit") for name in FURTHER}
    content = context(plan, metrics, runs, table_specs, further)
    for section in content["datasets"]:
        name = section["name"]
        section["figures"] = of_dataset(plan, name, metrics, results)
        categories = plan.datasets[name].categories or []
        section["categories"] = [of_category(plan, name, category, metrics, runs, results) for category in categories]
        reference = reference_of(plan.study.datasets[name])
        first_seed = metrics[(metrics.seed == str(plan.study.seeds[0])) & (metrics.metric == "image_auroc")]
        of_reference = first_seed[(first_seed.dataset == name) & (first_seed.experiment == reference)]
        aurocs = of_reference.set_index("category").value
        counts = [seen["counts"] for seen in section["categories"]]
        section["main"][0]["sentences"] += uncertainty(plan.titles[reference], [*aurocs[categories]], counts)
        first = section["categories"][0]["figures"]
        section["curve"] = next((figure for figure in first if figure["kind"] == "curve"), None)
    return content | {"credits": credits(plan, read_sources(Path("params/sources.yaml")))}


def _table(results: Path, name: str, suffix: str) -> Path:
    path = results / "tables" / f"{name}.{suffix}"
    if not path.is_file():
        raise UserError(f"{path}: no such file: `adtr tables` makes it")
    return path


def _read(path: Path, text: bool) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False) if text else pd.read_csv(path)
