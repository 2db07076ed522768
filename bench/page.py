"""The page of the study `paper` at full size: its bytes, and how soon a browser can work with it.

25 categories, 16 experiments on MVTec-AD and 7 on CIFAR-10, 3 seeds. Scores, metrics and maps are drawn at random;
tables, figures and page are made of them by the code that makes those of a study. The images are generated ones. A data
set's categories share the figures of one, which are drawn once: they take minutes.
    python bench/page.py [--output DIR]
"""

import argparse
import gzip
import hashlib
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import playwright.sync_api as playwright
from measure import machine

from adtr import records
from adtr.config.paths import Paths
from adtr.config.study import Plan, resolve
from adtr.config.study import Run as RunName
from adtr.data.confetti import write_bank
from adtr.data.manifest import index
from adtr.data.synthetic import write_cifar10, write_mvtec
from adtr.figures import dataset_kinds, kinds_of
from adtr.figures.category import Category, Run
from adtr.figures.dots import dots, panels
from adtr.figures.look import save, set_look
from adtr.figures.stage import _vouch, draw
from adtr.figures.tsne import tsne
from adtr.report import stage
from adtr.tables.colours import colours
from adtr.tables.sizes import networks
from adtr.tables.specs import digests, read_specs
from adtr.tables.stage import write_findings, write_tables
from adtr.tables.summary import OF_LAYOUT, read_metrics, summarize, tables_record
from adtr.tables.uncertainty import with_intervals

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import findings
import noisy

PARAMS = Path(__file__).parents[1] / "params"
IMAGES = {"mvtec": 76, "cifar10": 400}  # as many test images as the real ones have: about 115 and 2,000 a category
TEST = 2000  # of CIFAR-10
OTHERS = ["image_ap", "image_auroc_max", "image_auroc_mean", "pixel_ap"]
SHOWN = {"carpet": "mvtec", "airplane": "cifar10"}  # the category whose figures are drawn


def images_of(plan: Plan, root: Path) -> dict[str, tuple[pd.DataFrame, Path]]:
    """A manifest of each data set and the root of its generated images."""
    write_mvtec(root / "mvtec", ["carpet"], IMAGES["mvtec"], 256, 0)
    write_cifar10(root / "cifar10", IMAGES["cifar10"], 0)
    folders = {"mvtec": root / "mvtec", "cifar10": root / "cifar10/cifar-10-batches-py"}
    found = {}
    for category, name in SHOWN.items():
        dataset = plan.datasets[name].model_copy(update={"root": str(folders[name])})
        manifest = index(dataset, category)
        found[name] = manifest, folders[name]
    return found


def write_runs(plan: Plan, paths: Paths, images: dict[str, tuple[pd.DataFrame, Path]]) -> pd.DataFrame:
    """The files of all runs that a report reads; gives their metrics."""
    rng, rows = np.random.default_rng(0), list[dict[str, Any]]()
    for run in plan.runs():
        params, folder = plan.params[run[:2]], paths.run(run)
        manifest = images[run.dataset][0]
        test = manifest[manifest.split != "train"]
        score = (rng.normal(size=len(test)) + 1.5 * test.label).astype(np.float32)
        scores = test[["image", "label", "split", "defect"]].assign(pred_score=score)
        used = {name: getattr(params, name).model_dump(mode="json") for name in params.method_sections()}
        model = _model(run)
        made: dict[str, Any] = {"method": params.method, "seed": run.seed, "params": used, "images": 209}
        made |= {"parameters": 7_000_000 * params.trains, "seconds": 1234.5, "time": "2026-01-02T03:04:05+00:00"}
        made |= {"code": "c" * 16, "commit": "c" * 12, "model": model, "device": "cpu", "precision": "float32"}
        made |= {"cpu": "a CPU", "cores": 2, "python": "3.11", "torch": "2.0"}
        features = {"features": params.features.model_dump(mode="json"), "data": "d" * 64, "weights": "e" * 64}
        made |= {"features": features | {"shape": [209, params.features.grid_size**2, 720], "code": "f" * 16}}
        if params.start:
            made["start"] = _model(run._replace(experiment=params.start))
            made["anomalies"] = {"data": "a" * 64, "images": 209, "masks": True}
        records.write(folder / "run.json", made, {"history.csv": b"epoch,lr,loss\n"})
        names = ["image_auroc", *OF_LAYOUT[plan.datasets[run.dataset].layout], *OTHERS]
        provenance = f"{folder}@{model[:12]}"
        own = [run._asdict() | {"metric": name, "value": 90 + 9 * rng.random(), "note": ""} for name in names]
        rows += [row | {"provenance": provenance} for row in own]
        tables = {"scores.csv": scores, "calibration.csv": pd.DataFrame(columns=["image", "pred_score", "map_max"])}
        contents = {name: table.to_csv(index=False).encode() for name, table in tables.items()}
        score_of_run = params.score.model_dump(mode="json")
        records.write(folder / "evaluation.json", {"model": model, "score": score_of_run}, contents)
    return pd.DataFrame(rows)


def _model(run: RunName) -> str:
    return hashlib.sha256(str(run).encode()).hexdigest()


def draw_figures(plan: Plan, paths: Paths, images: dict[str, tuple[pd.DataFrame, Path]]) -> None:
    """The figures of a category of each data set, copied to the others, and those of the data sets."""
    rng, hues = np.random.default_rng(1), colours(plan)
    for name, (manifest, root) in images.items():
        tested = manifest[manifest.split == "test"]
        runs = []
        for experiment in plan.study.datasets[name]:
            params, title = plan.params[name, experiment], plan.titles[experiment]
            grid, losses = params.features.grid_size, np.exp(-np.arange(500) / 100)
            maps = (rng.random((len(tested), grid, grid)) + tested.label.to_numpy()[:, None, None]).astype(np.float32)
            scores = tested[["image", "label", "split", "defect"]].assign(pred_score=maps.mean(axis=(1, 2)))
            history = pd.DataFrame({"epoch": np.arange(1, 501), "loss": losses})[: 500 * params.trains]
            curve = pd.DataFrame(columns=["epoch", "metric", "value"])
            size = params.features.image_size
            runs.append(Run(title, hues[experiment], size, scores.reset_index(drop=True), maps, history, curve))
        first, *others = plan.datasets[name].categories
        bank = None
        if "confetti" in kinds_of(plan, name):
            params = plan.params[name, "adtr_plus"]
            folder = paths.results / "bank"
            bank = write_bank(manifest, root, params.features.image_size, params.confetti, folder), folder
        category, folder = Category(first, runs, manifest, root, 0.3, bank), paths.category_figures(name, first)
        draw(category, kinds_of(plan, name), folder)
        for other in others:
            shutil.copytree(folder, paths.category_figures(name, other))
        set_look()
        folder = paths.dataset_figures(name)
        tables = tables_record(paths.results, PARAMS)
        summary = with_intervals(summarize(read_metrics(tables, "../metrics.csv")), plan, tables)
        save(dots(panels(plan, name, summary, read_specs(PARAMS))), folder, "dots")
        if "tsne" in dataset_kinds(plan, name):
            save(tsne(rng.normal(size=(600, 50)).astype(np.float32), np.arange(600) % 2 == 0), folder, "tsne")
        _vouch(folder, dataset_kinds(plan, name))


def write_page(root: Path) -> Path:
    """Everything that a report reads, and the report, below `root`; gives the page."""
    plan = resolve("paper", PARAMS)
    paths, images = Paths(plan, root), images_of(plan, root)
    metrics = write_runs(plan, paths, images)
    metrics.to_csv(paths.results / "metrics.csv", index=False)
    write_tables(plan, metrics, noisy.draws(metrics, 1.0, 75), networks(paths), PARAMS, paths.results / "tables")
    write_findings(plan, *findings.of(metrics, [f"kind {n}" for n in range(5)]), paths.results / "tables")
    written = [*(paths.results / "tables").iterdir(), paths.results / "metrics.csv"]
    records.vouch(paths.results / "tables/record.json", written, printed=digests(PARAMS))
    draw_figures(plan, paths, images)
    stage.write(paths, PARAMS)
    return paths.report / "report.html"


def interactive(page: Path, chromium: str) -> dict[str, float]:
    """Seconds from opening the page until its scripts have run and a click has been answered; and of the processor."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1440, "height": 900})
        session = view.context.new_cdp_session(view)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        view.goto(page.as_uri())
        view.locator(".opening thead button").first.click()
        answered = view.evaluate("performance.now()") / 1000
        ran = view.evaluate("performance.getEntriesByType('navigation')[0].domInteractive") / 1000
        measured = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return {"scripts have run": ran, "a click is answered": answered, "processor": measured["TaskDuration"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="where to leave results and page [a temporary folder]")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        root = options.output or Path(folder)
        page = write_page(root)
        text = page.read_text(encoding="utf-8")
        print(f"{page.stat().st_size / 1e6:.2f} MB, {len(gzip.compress(text.encode())) / 1e6:.2f} MB compressed")
        figures = sum(map(len, re.findall(r'src="data:[^"]*"', text))) + sum(
            map(len, re.findall(r"(?s)<svg.*?</svg>", text))
        )
        data = len(text.partition('id="data-of-cases">')[2].partition("</script>")[0])
        print(f"of these figures {figures / 1e6:.2f} MB, scores and gallery {data / 1e6:.2f} MB")
        if chromium:
            each = ", ".join(f"{what}: {seconds:.2f} s" for what, seconds in interactive(page, chromium).items())
            print(f"{each}; {machine()}")


if __name__ == "__main__":
    main()
