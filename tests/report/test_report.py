"""The report: what it says of numbers, and that each number leads to its runs. The results here are small but whole."""

import base64
import dataclasses
import hashlib
import html
import io
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import findings
import noisy
import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from matplotlib import pyplot as plt
from PIL import Image
from vouched import vouch, vouch_again

from adtr.config.paths import Paths
from adtr.config.study import Plan, resolve
from adtr.data.manifest import COLUMNS, write_manifest
from adtr.errors import UserError
from adtr.figures import dataset_kinds, kinds_of
from adtr.figures.look import save, set_look
from adtr.records import Record
from adtr.report import content as report_content
from adtr.report import figures, stage
from adtr.report import runs as report_runs
from adtr.report.drawings import drawing
from adtr.report.gallery import examples
from adtr.report.page import page as render
from adtr.tables import sizes, summary
from adtr.tables.specs import digests
from adtr.tables.stage import write_findings, write_tables

PARAMS = Path(__file__).parents[2] / "params"
VALUES = {"adtr": 90.0, "padim": 92.0, "spade": 80.0}  # image AUROC; the second category has 1 more, the second seed 2
NASTY = "=<b>&001"
MASKED = ["image_auroc", "pixel_auroc", "aupro"]
UNMASKED = ["image_auroc", "image_auroc_all"]
PIXEL = "UklGRhoAAABXRUJQVlA4TA4AAAAvAAAAAAfQ//73v/+BiOh/AAA="  # WebP in base64
SCORES = {"adtr": [1, 2, 3, 4], "padim": [1, 2, 3, 4], "spade": [4, 3, 2, 1]}  # of images 1 to 4; 2 and 4 are anomalous


STUDY = """
title: Generated images, for tests
recipe: fast
seeds: [0, 1]
datasets: {smoke_mvtec: [adtr, padim, spade], smoke_cifar10: [adtr, padim, spade]}
set: {features: {backbone: efficientnet_lite0}, train: {epochs: 4, snapshots: 2}}
"""


def study(settings: dict[str, Any] | None = None) -> Plan:
    """ADTR and two baselines on generated images, the first category of a name that is markup elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        params = shutil.copytree(PARAMS, Path(folder) / "params")
        (params / "studies/small.yaml").write_text(STUDY)
        plan = resolve("small", params, settings)
    datasets = {
        name: dataset.model_copy(update={"categories": [NASTY, "screw"]}) for name, dataset in plan.datasets.items()
    }
    return dataclasses.replace(plan, name="smoke", datasets=datasets)


def write_results(plan: Plan, results: Path) -> None:
    """The files that the report reads, of every run."""
    rows = []
    for dataset, experiment, category, seed in plan.runs():
        folder = results / "runs" / dataset / experiment / category / str(seed)
        folder.mkdir(parents=True)
        model = hashlib.sha256(str(folder.relative_to(results / "runs")).encode()).hexdigest()
        (folder / "history.csv").write_text("epoch,lr,loss\n" + "1,0.1,2.0\n2,0.1,1.5\n" * (experiment == "adtr"))
        curve = "1,image_auroc,70.0\n2,image_auroc,90.0\n" * (experiment == "adtr")
        (folder / "curve.csv").write_text("epoch,metric,value\n" + curve)
        scores = [f"{category}/{n}.png,{1 - n % 2},test,{'good' if n % 2 else 'dent'},{score}\n"
                  for n, score in enumerate(SCORES[experiment], start=1)]  # fmt: skip
        (folder / "scores.csv").write_text(
            "image,label,split,defect,pred_score\n" + "".join(scores) + "d,1,rest,dent,9\n"
        )
        normal = "n,2.5,3\n" * 99 * (experiment == "padim")  # the threshold of 1 % false alarms is 2.5
        (folder / "calibration.csv").write_text("image,pred_score,map_max\n" + normal)
        value = VALUES[experiment] + (category == "screw") + 2 * seed
        run = {"study": plan.name, "dataset": dataset, "experiment": experiment, "category": category, "seed": seed}
        run |= {"value": value, "note": "", "provenance": f"{folder}@{model[:12]}"}
        own = [run | {"metric": metric} for metric in (MASKED if dataset == "smoke_mvtec" else UNMASKED)]
        pd.DataFrame(own).to_csv(folder / "metrics.csv", index=False)
        rows += own
        vouch(folder / "run.json", run_record(plan, dataset, experiment, seed, model), "history.csv")
        evaluation = {"model": model, "score": plan.params[dataset, experiment].score.model_dump(mode="json")}
        vouch(folder / "evaluation.json", evaluation, "curve.csv", "scores.csv", "metrics.csv", "calibration.csv")
    write_figures(plan, results / "figures")
    metrics = pd.DataFrame(rows)
    metrics.to_csv(results / "metrics.csv", index=False)
    write_tables(
        plan, metrics, noisy.draws(metrics), sizes.networks(Paths(plan, results.parents[1])), PARAMS, results / "tables"
    )
    tables = results / "tables"
    write_findings(plan, *findings.of(metrics), tables)
    names = [path.name for path in tables.iterdir()]
    vouch(tables / "record.json", {"printed": digests(PARAMS)}, "../metrics.csv", *names)


def write_figures(plan: Plan, folder: Path) -> None:
    """Pictures of every kind in each of its forms, and galleries of four images."""
    set_look()
    plot, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, 1], [50, 60], label="a & b")
    axes.legend()
    save(plot, folder, "drawing")
    for dataset, definition in plan.datasets.items():
        pictures = [folder / "datasets" / dataset / f"{kind}.png" for kind in dataset_kinds(plan, dataset)]
        for category in definition.categories:
            own = folder / "categories" / dataset / category
            own.mkdir(parents=True)
            (own / "gallery.json").write_text(json.dumps(gallery(category)))
            pictures += [own / f"{kind}.png" for kind in kinds_of(plan, dataset)]
        pictures[0].parent.mkdir(parents=True)
        for path in pictures:
            Image.new("RGB", (2, 2)).save(path)
            for form in (".svg", ".pdf"):
                shutil.copy(folder / f"drawing{form}", path.with_suffix(form))
        for path in {path.parent for path in pictures}:
            vouch(path / "record.json", {}, *(each.name for each in path.iterdir() if each.name != "record.json"))


def gallery(category: str) -> dict[str, Any]:
    images = [
        {"image": f"{category}/{n}.png", "picture": PIXEL, "contour": "" if n % 2 else "M10 10L90 10L90 90Z"}
        for n in range(1, 5)
    ]
    maps = base64.b64encode(bytes(range(16)) * 4).decode()
    runs = [{"title": title, "grid": 4, "maps": maps} for title in ("ADTR", "PaDiM", "SPADE")]
    return {"side": 256, "images": images, "runs": runs}


def run_record(plan: Plan, dataset: str, experiment: str, seed: int, model: str) -> dict[str, Any]:
    params = plan.params[dataset, experiment]
    used = {name: getattr(params, name).model_dump(mode="json") for name in params.method_sections()}
    features: dict[str, Any] = {"features": params.features.model_dump(mode="json")}
    features |= {"data": "da7a" * 16, "weights": "3e16" * 16}
    features |= {"shape": [12, 64, 512], "code": "fea7" * 4}
    told = {"code": "c0de" * 4, "commit": "c0331700c033", "time": "2026-01-02T03:04:05+00:00"}
    machine = {"device": "cpu", "precision": "float32", "cpu": "a CPU", "cores": 2, "python": "3.11", "torch": "2.0"}
    fitted = {"images": 12, "parameters": 59872, "seconds": 1.5 + seed, "model": model}
    return {"method": params.method, "seed": seed, "params": used, "features": features} | told | machine | fitted


def written(plan: Plan, results: Path, output: Path) -> tuple[str, str]:
    """report.html and report.md."""
    paths = Paths(plan, results.parents[1])
    paths.report = output
    stage.write(paths, PARAMS)
    return (output / "report.html").read_text(encoding="utf-8"), (output / "report.md").read_text(encoding="utf-8")


OWN = ["image AUROC", "pixel AUROC", "AUPRO", "image AUROC, all anomalous test images"]


class Page(HTMLParser):
    """The elements of a page: (tag, attributes); tables, and the links of their numbers, by the table's title."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[tuple[str, list[list[str]]]] = [("", [])]  # title, rows of cells' texts; the first is none
        self.links: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name: value or "" for name, value in attrs}
        self.elements.append((tag, names))
        title, rows = self.tables[-1]
        if tag == "table":
            self.tables.append((names.get("data-title", ""), []))
        elif tag == "tr":
            rows.append([])
        elif tag in ("td", "th"):
            rows[-1].append("")
        elif "data-runs" in names and "data-what" not in names:  # of a table, not of a gallery
            self.links.append((title, names))

    def handle_data(self, data: str) -> None:
        rows = self.tables[-1][1]
        if rows and rows[-1]:
            rows[-1][-1] += data

    def all(self, tag: str, *names: str) -> list[dict[str, str]]:
        return [attrs for found, attrs in self.elements if found == tag and all(name in attrs for name in names)]

    def own(self) -> list[list[str]]:
        """The first main table of the first data set, white space made single."""
        rows = next(rows for title, rows in self.tables if title.partition(": ")[2] in OWN)
        return [[" ".join(cell.split()) for cell in row] for row in rows]


class Made(NamedTuple):
    """The report of a whole study, and the folder above results/ and reports/."""

    html: str
    brief: str
    folder: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, plan = tmp_path_factory.mktemp("made"), study()
    write_results(plan, folder / "results/smoke")
    return Made(*written(plan, folder / "results/smoke", folder / "reports/smoke"), folder)


@pytest.fixture(scope="module")
def page(made: Made) -> Page:
    return Page(made.html)


@pytest.fixture
def results(made: Made, tmp_path: Path) -> Path:
    """A copy of the results, to be changed."""
    return shutil.copytree(made.folder / "results/smoke", tmp_path / "results/smoke")


# The page


def test_names_are_escaped_and_the_label_says_whose_recipe_it_is(made: Made) -> None:
    assert "&lt;b&gt;&amp;001" in made.html
    assert "not those of the paper’s recipe" in made.html
    assert "not those of the paper’s recipe" in made.brief
    assert "<b>" not in made.html + made.brief


def test_what_was_warned_of_in_the_data_is_counted_and_listed(made: Made, results: Path, tmp_path: Path) -> None:
    assert "The data" not in made.html + made.brief
    plan, manifest = study(), pd.DataFrame(columns=COLUMNS)
    manifest.attrs["warnings"] = {"odd": ["a", "<b>", "c", "d"], "even": ["e"]}
    write_manifest(Paths(plan, tmp_path).manifest("smoke_mvtec", "screw"), manifest)
    html, brief = written(plan, results, tmp_path / "report")
    for text in (html, brief, (tmp_path / "report/report.tex").read_text(encoding="utf-8")):
        assert "The check of the images gave 2 warnings, the first of them: smoke" in text
    for text in (html, brief):
        assert "smoke_mvtec/screw: odd (4): a, &lt;b" in text
        assert "smoke_mvtec/screw: even (1): e" in text
    assert "## The data" in brief
    assert 'href="#data"' in html


def test_the_page_asks_for_nothing_outside_itself(made: Made, page: Page) -> None:
    wanted = [attrs[name] for _, attrs in page.elements for name in ("src", "href", "srcset", "data") if name in attrs]
    assert len(wanted) > 20
    assert {link[:1] if link[:1] == "#" else link[:5] for link in wanted} == {"#", "data:"}
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttp|https?://", made.html)
    policy = next(attrs["content"] for attrs in page.all("meta", "http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_link_leads_somewhere(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)


def test_every_image_has_its_words(page: Page) -> None:
    images, drawings, plan = page.all("img"), [div for div in page.all("div", "role") if div["role"] == "img"], study()
    kinds = [kind for dataset in plan.datasets for kind in kinds_of(plan, dataset) * 2]
    kinds = [kind for kind in kinds if kind not in ("gallery", "maps")]  # the page draws them itself
    whole = [kind for dataset in plan.datasets for kind in dataset_kinds(plan, dataset)]
    assert len(drawings) + len(images) == len(kinds) + len(whole) + 3  # and three examples
    names = {drawing["aria-label"] for drawing in drawings}
    assert {"screw: ROC curves, seed 0", "screw: Training loss after each epoch, seed 0"} < names
    assert all(image["alt"] for image in images)


def test_a_drawing_shortens_its_points_and_not_its_numbers(tmp_path: Path) -> None:
    set_look()
    plot, axes = plt.subplots()
    axes.plot([0, 1], [0.45, 0.8], label="loss 0.1234")
    axes.set_yticks([0.45, 0.625, 0.8])
    axes.legend()
    save(plot, tmp_path, "drawing")
    told = re.findall(r">([^<>]*\d[^<>]*)<", drawing(tmp_path / "drawing.svg", "name"))
    assert {"0.450", "0.625", "0.800", "loss 0.1234"} <= set(told)


def test_a_drawing_takes_the_pages_colours_and_shares_no_id(made: Made) -> None:
    drawings = re.findall(r'aria-label="[^"]*"><svg.*?</svg>', made.html)
    assert len(drawings) > 10
    ids = re.findall(r' id="([^"]*)"', "".join(drawings))
    assert len(ids) == len(set(ids)) > 0
    for each in drawings:
        used = re.findall(r'url\(#([^)]*)|href="#([^"]*)', each)
        assert {"".join(name) for name in used} == set(re.findall(r' id="([^"]*)"', each))
        assert ">a &amp; b</text>" in each
        assert "currentColor" in each
        assert "var(--line)" in each
        assert not re.search("<style|#262626|#ffffff|font-family|xmlns", each)


def test_a_main_table_shows_mean_and_spread(page: Page) -> None:
    head, adtr, padim, _ = page.own()
    assert head == ["per cent", NASTY, "screw", "mean", "95 % interval"]
    assert adtr == ["ADTR1–4", "91.0 ± 1.4", "92.0 ± 1.4", "91.5 ± 1.4", "[91.4, 91.6]"]
    assert padim[1] == "93.0 ± 1.4"


def test_every_number_of_the_main_tables_leads_to_its_runs(page: Page) -> None:
    links = [link for title, link in page.links if title.partition(": ")[2] in OWN]
    assert len(links) == 3 * (3 + 2) * 3  # experiments, metrics of both data sets, columns
    assert [link["data-runs"] for link in links[:3]] == ["1 2", "3 4", "1 2 3 4"]
    for _, link in page.links:
        assert link["href"] == f"#run-{link['data-runs'].split()[0]}"
    of_table_1 = [link["data-runs"] for title, link in page.links if title.startswith("Table 1: ")]
    assert of_table_1[:2] == ["3 4", "3 4"]  # of screw, ADTR: ours and the difference


def test_a_run_on_features_in_bfloat16_says_so() -> None:
    plan = resolve("smoke", PARAMS, {"features.precision": "bfloat16"})
    record = run_record(plan, "smoke_mvtec", "padim", 0, "a model")
    assert report_runs.facts(record)["device"] == "cpu, float32, features in bfloat16"


def test_the_table_of_runs_tells_each_in_full(page: Page) -> None:
    rows = page.tables[-1][1][1:]
    title = study().datasets["smoke_mvtec"].title
    assert [row[0] for row in rows] == [str(number) for number in range(1, 21)]
    assert rows[0][1:10] == ["ADTR", title, NASTY, "0", "4", "12", "59,872", "1.5", "cpu, float32"]
    assert rows[4][5] == "–"  # PaDiM has no epochs
    titles = [attrs["title"] for attrs in page.all("code", "title")]
    models = [hashlib.sha256("/".join(map(str, run)).encode()).hexdigest() for run in study().runs()]
    assert set(models) < set(titles)
    assert {"da7a" * 16, "3e16" * 16, "c0331700c033", "c0de" * 4 + ", features " + "fea7" * 4} < set(titles)


def test_each_run_leads_to_its_parameters(page: Page) -> None:
    listed = {attrs["id"] for attrs in page.all("details", "id")} - {"parameters"}
    assert {row["data-params"] for row in page.all("tr", "data-params")} == listed
    adtr, padim, *_ = report_runs.parameters(study())
    assert adtr["id"] == "params-smoke_mvtec-adtr"
    assert {"train.epochs": "4", "features.layers": "[1, 2, 3, 4, 5]"}.items() < adtr["values"].items()
    assert "padim.channels" in padim["values"]
    assert "train.epochs" not in padim["values"]


def test_what_is_level_with_the_best_of_a_column_is_bold(results: Path, tmp_path: Path) -> None:
    table = results / "tables/smoke_mvtec_image_auroc.csv"
    cells = pd.read_csv(table)
    assert cells[cells.best].row.tolist() == ["PaDiM"] * 3  # 2 points ahead, and draws differ by 0.1
    cells.assign(best=cells.best | (cells.row == "ADTR") & (cells.column == "mean")).to_csv(table, index=False)
    vouch_again(results / "tables/record.json")
    page = written(study(), results, tmp_path / "out")[0]
    bold = {"good": [True, False], "data-1": [False, False, True, False, True, True, True, False]}
    for place, expected in bold.items():
        cells_there = Page(page[page.index(f'id="{place}"') :]).all("td", "data-value")
        assert [" best" in f" {attrs['class']}" for attrs in cells_there][: len(expected)] == expected


def test_an_undefined_value_is_a_dash_with_its_reason(results: Path, tmp_path: Path) -> None:
    metrics = pd.read_csv(results / "metrics.csv", dtype={"note": str})
    lost = (metrics.experiment == "padim") & (metrics.category == "screw") & (metrics.metric == "image_auroc")
    metrics.loc[lost, ["value", "note"]] = [math.nan, "undefined: no anomalous image"]
    metrics.to_csv(results / "metrics.csv", index=False)
    vouch_again(results / "tables/record.json")
    page, brief = written(study(), results, tmp_path / "out")
    assert Page(page).own()[2] == ["PaDiM5–8", "93.0 ± 1.4", "–", "–", "–"]
    for text in (page, brief):
        assert "PaDiM (screw, seed 0 and 1): undefined: no anomalous image." in text
        assert "Not compared with ADTR: PaDiM. The mean of PaDiM is undefined." in text


def test_a_data_set_without_masks_says_so(results: Path, tmp_path: Path) -> None:
    metrics = pd.read_csv(results / "metrics.csv")
    metrics[metrics.metric == "image_auroc"].to_csv(results / "metrics.csv", index=False)
    vouch_again(results / "tables/record.json")
    for text in written(study(), results, tmp_path / "out"):
        assert text.count("no masks, so that nothing is measured by pixels") == 1
        assert "Pixel AUROC" not in text
        assert "PRO curves" not in text
        assert "by t-SNE" not in text


def test_what_was_not_drawn_without_test_images_is_left_out(results: Path, tmp_path: Path) -> None:
    folder = results / "figures/categories/smoke_mvtec/screw"
    for path in [path for path in folder.iterdir() if path.stem in ("roc", "maps")]:
        path.unlink()
    drawn = [path.name for path in folder.iterdir() if path.stem != "record"]
    vouch(folder / "record.json", {}, *drawn)
    page = written(study(), results, tmp_path / "out")[0]
    assert page.count('aria-label="screw: ROC curves') == 1  # of the other data set
    assert page.count('aria-label="screw: Training loss') == 2


def test_the_papers_tables_stand_only_beside_its_benchmarks(made: Made, tmp_path: Path) -> None:
    plan = study()
    own = {name: dataset.model_copy(update={"benchmark": None}) for name, dataset in plan.datasets.items()}
    texts = written(dataclasses.replace(plan, datasets=own), made.folder / "results/smoke", tmp_path)
    assert ["Ablation study" in text for text in (made.html, made.brief, *texts)] == [True, True, False, False]


def test_all_forms_say_what_the_methods_are_how_far_behind_and_whether_training_has_settled(made: Made) -> None:
    forms = [made.html, made.brief, (made.folder / "reports/smoke/report.tex").read_text(encoding="utf-8")]
    for text in (re.sub(r"\$\\pm\$", "±", form) for form in forms):
        assert "What each method is" in text
        assert "How far behind the best" in text
        assert "2.0 [1.9, 2.1]" in text
        assert "ADTR +20.0 (epochs 1 to 2; interval ± 0.1). It changed by more than the 95" in text
        assert "interval (not paired) for ADTR: training had not settled." in text


# Bytes


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_same_results_give_the_same_bytes_and_no_figure_of_an_older_report_stays(made: Made) -> None:
    again = made.folder / "reports/again"
    (again / "figures").mkdir(parents=True)
    (again / "figures/old.png").write_text("of an older report")
    written(study(), made.folder / "results/smoke", again)
    assert contents(again) == contents(made.folder / "reports/smoke")


def test_a_number_that_was_edited_in_a_report_is_named(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder / "reports/smoke", tmp_path / "reports/smoke")
    assert set(Record(folder / "record.json").files) == set(contents(folder)) - {"record.json"}
    for name in ("report.html", "report.md", "report.tex"):
        (folder / name).write_text((folder / name).read_text().replace("9", "8", 1))
        with pytest.raises(UserError, match=rf"{name}: damaged or edited.*`adtr report` or Snakemake makes it again"):
            Record(folder / "record.json").read(name)


def test_the_brief_report_links_few_and_small_pictures_beside_it(made: Made) -> None:
    links = re.findall(r"\]\(([^)]*)\)", made.brief)
    folder = made.folder / "reports/smoke"
    assert len(links) == 5 + 4
    assert {"figures/smoke_mvtec-dots.png", "figures/smoke_cifar10-dots.png"} < set(links)
    forms = [link.replace(".png", ".pdf") for link in links if link.endswith(".png")]  # for LaTeX
    assert sorted(str(path.relative_to(folder)) for path in (folder / "figures").iterdir()) == sorted(links + forms)
    assert "results/" not in made.brief


def test_the_brief_report_names_the_runs_of_each_row(made: Made) -> None:
    assert "| ADTR | 91.0 ± 1.4 | 92.0 ± 1.4 | 91.5 ± 1.4 | [91.4, 91.6] | 1–4 |" in re.sub(" +", " ", made.brief)


def test_a_category_may_be_called_nan_or_001(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("category,seed,metric,value,note\n001,0,aupro,1.5,\nnan,0,aupro,,undefined: why\n")
    vouch(tmp_path / "record.json", {}, path.name)
    metrics = summary.read_metrics(Record(tmp_path / "record.json"), path.name)
    assert list(metrics.category) == ["001", "nan"]
    assert list(metrics.value.isna()) == [False, True]


# What must not be reported


def test_metrics_of_another_model_are_refused(results: Path, tmp_path: Path) -> None:
    for name in ("run", "evaluation"):
        path = results / f"runs/smoke_mvtec/padim/screw/1/{name}.json"
        vouch_again(path, model="0" * 64)
    with pytest.raises(UserError, match=r"padim/screw/1: its metrics are of another model"):
        written(study(), results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_of_other_parameters_are_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runs of other parameters, such as .*/adtr/"):
        written(study({"train.epochs": 9}), made.folder / "results/smoke", tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    [
        "metrics.csv",
        "runs/smoke_mvtec/adtr/screw/0/run.json",
        "figures/categories/smoke_cifar10/screw/roc.png",
        "figures/categories/smoke_cifar10/screw/gallery.json",
        "figures/datasets/smoke_mvtec/dots.png",
        "tables/comparison.csv",
    ],
)
def test_a_missing_file_is_named(results: Path, tmp_path: Path, name: str) -> None:
    (results / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        written(study(), results, tmp_path / "out")


@pytest.mark.parametrize("other", ["tables/record.json", "figures/categories/smoke_mvtec/screw/record.json"])
def test_another_record_in_the_place_of_a_data_sets_figures_is_refused(
    results: Path, tmp_path: Path, other: str
) -> None:
    """A page without its figures would look whole."""
    shutil.copy(results / other, results / "figures/datasets/smoke_mvtec/record.json")
    with pytest.raises(UserError, match=r"datasets/smoke_mvtec: its record does not name dots\.pdf"):
        written(study(), results, tmp_path / "out")


def test_a_form_that_fails_blocks_no_other(made: Made, results: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (results / "tables/table3.tex").unlink()
    dots = results / "figures/datasets/smoke_mvtec/dots.png"
    for path in (dots, dots.with_suffix(".svg")):
        path.write_text("no picture")
    vouch_again(dots.with_name("record.json"))
    (output / "report.tex").parent.mkdir()
    (output / "report.tex").write_text("old")
    message = r"(?s)^not written:\n  figures: .*dots\.png.*\n  report\.html: .*\n  report\.tex: "
    with pytest.raises(UserError, match=message):
        written(study(), results, output)
    assert (output / "report.md").read_text() == made.brief
    assert (output / "report.tex").read_text() == "old"


def test_ranks_that_differ_point_to_the_curves(made: Made) -> None:
    content = report_content.gather(Paths(study(), made.folder), PARAMS)
    differs = render(content | {"agrees": False, "ranks": ["They do not rank as in the paper."]})
    assert ("the order has settled" in made.html, "the order has settled" in differs) == (False, True)


def test_a_run_that_begins_with_another_needs_no_anomalies(made: Made) -> None:
    """As ADTR for longer, and distances of a finished run."""
    content = report_content.gather(Paths(study(), made.folder), PARAMS)
    first, *others = content["runs"]
    page = render(content | {"runs": [first | {"start": "abcdef0123", "anomalies": {}}, *others]})
    assert '<code title="abcdef0123">abcdef01</code></td><td></td><td>' in page


def test_a_span_of_runs_is_short() -> None:
    runs = [{"number": number} for number in (4, 1, 2, 3, 9, 2)]
    assert report_runs.span(runs) == "1–4, 9"
    assert report_runs.span([]) == ""


# Pictures


def test_a_copied_picture_is_small_and_of_a_kind_that_latex_reads(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000)).save(tmp_path / "wide.png")
    for kind, form in (("maps", "JPEG"), ("roc", "PNG")):
        with Image.open(io.BytesIO(figures.small(kind, tmp_path / "wide.png"))) as image:
            assert (image.format, image.size) == (form, (1800, 600))


def test_figures_of_other_names_are_other_files() -> None:
    """Where letters are not LaTeX's, or a hyphen stands where parts could end."""
    names = ["a", "b", "a-b", "a.b", "a_b", "螺丝", "瓶子", "é", "è", "", "a b"]
    parts = [(dataset, category) for dataset in names for category in names] + [(name,) for name in names]
    files = [figures.file_name(*each, "dots") for each in parts]
    assert len({file.casefold() for file in files}) == len(parts)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", file) for file in files)
    assert figures.file_name("mvtec", "metal_nut", "maps") == "mvtec-metal_nut-maps"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not on the PATH")
def test_the_print_compiles_where_it_lies_and_fits_its_page(made: Made, tmp_path: Path) -> None:
    alone = shutil.copytree(made.folder / "reports/smoke", tmp_path / "alone")
    assert (alone / "report.tex").read_text().startswith("% In this folder: pdflatex report.tex")
    command = ["pdflatex", "-interaction=nonstopmode", "report.tex"]
    log = subprocess.run(command, cwd=alone, capture_output=True, check=True).stdout.decode(errors="replace")
    assert not re.findall(r"Overfull \\hbox|^!.*|Missing character", log, re.M)
    assert (alone / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not on the PATH")
def test_titles_of_any_letters_are_in_all_forms_and_the_print_compiles(made: Made, tmp_path: Path) -> None:
    plan, title = study(), "生产线 4 ✓ Ω Я μ 日 😀 ₂ x\u200by [a](javascript:x) <img src=x> $5$ {A}"
    plan = dataclasses.replace(plan, study=plan.study.model_copy(update={"title": title}))
    page, brief = written(plan, made.folder / "results/smoke", tmp_path)
    assert html.escape(title) in page
    assert "<img src=x" not in page + brief
    assert "生产线 4 ✓ Ω Я μ 日 😀 ₂" in brief
    assert r"[a\](javascript:x)" in brief
    tex = (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert r"4 \adtrletter{2713}{U+2713} $\Omega$ \adtrletter{042F}{U+042F} $\mu$" in tex
    command = ["pdflatex", "-interaction=nonstopmode", "report.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout.decode(errors="replace")
    assert not re.findall(r"^!.*|Missing character", log, re.M)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([1, 5, 6, 9, 2], ["A clear find 3 all 2", "A narrow find 2 all 2", "A failure 4 1 of 2"]),
        ([1, 9, 2, 4, math.nan], ["The highest anomalous score 3 1 of 2", "A failure 2 1 of 2"]),
        ([math.nan, math.nan, 2, 4, 3], []),
    ],
    ids=["found and missed", "none above the normal ones", "no normal one"],
)
def test_the_examples_follow_the_order_of_the_scores(scores: list[float], said: list[str]) -> None:
    values = base64.b64encode(np.array(scores, np.float32).tobytes()).decode()
    images = [{"at": at, "picture": "", "image": str(at)} for at in range(5)]
    category = {"name": "screw", "kinds": [["good", 0, 2], ["dent", 1, 3]], "images": images}
    found = examples({"datasets": [{"categories": [category | {"runs": [{"scores": values}]}]}]})
    told = [f"{one['title']} {one['at']} {one['text'].partition('above ')[2]}" for one in found]
    assert told == [f"{text} normal images" for text in said]


# The page in a browser


@pytest.fixture
def view(browser: Any, made: Made) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end of the test it has asked for nothing, and its console is empty."""
    contexts, noise = [], list[str]()

    def opened(width: int = 1440, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        context.set_default_timeout(10_000)
        page, address = context.new_page(), (made.folder / "reports/smoke/report.html").as_uri()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: noise.append(request.url))
        page.goto(address)
        noise[:] = [line for line in noise if line != address and not line.startswith("data:")]
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [line for line in noise if not line.startswith("data:")] == []


def column(table: Any, place: int) -> list[str]:
    texts = table.locator(f"tbody tr > :nth-child({place})").all_text_contents()
    return [" ".join(text.split()) for text in texts]


def test_a_click_sorts_down_up_and_back(view: Callable[..., Any]) -> None:
    table = view().locator("#against .own").first
    head = table.locator("thead th").nth(3)
    order = ["ADTR1–4", "PaDiM5–8", "SPADE9–10"]
    for direction, names in (("descending", [1, 0, 2]), ("ascending", [2, 0, 1]), (None, [0, 1, 2])):
        head.locator("button").click()
        assert (head.get_attribute("aria-sort"), column(table, 1)) == (direction, [order[i] for i in names])


def test_intervals_sort_as_numbers_and_dashes_stay_last(view: Callable[..., Any]) -> None:
    page = view()
    table = page.locator("#comparison ~ .table table").first
    interval = column(table, 5)
    table.locator("thead th button").nth(4).press("Enter")
    ends = [[float(end) for end in text.replace("−", "-").strip("[]").split(", ")] for text in interval]
    assert column(table, 5) == [text for _, text in sorted(zip(map(sum, ends), interval, strict=True), reverse=True)]
    assert any(text.startswith("[−") for text in interval)
    ablation = page.locator(".paper").last
    for _ in range(2):
        ablation.locator("thead th button").nth(2).click()
        dashes = [text == "–" for text in column(ablation, 3)]
        assert dashes == sorted(dashes)
        assert set(dashes) == {True, False}


def test_categories_that_were_not_run_are_folded(view: Callable[..., Any]) -> None:
    page = view()
    heads = page.locator(".paper").first.locator("thead th")
    assert heads.locator("visible=true").count() == 3
    page.get_by_label("Show the categories that were not run").first.check()
    assert heads.locator("visible=true").count() == 17


def test_a_number_tells_its_runs_and_gives_the_focus_back(view: Callable[..., Any]) -> None:
    page = view()
    link, panel = page.locator("#against .own [data-runs]").first, page.locator("#panel")
    link.press("Enter")
    text = panel.text_content()
    assert panel.is_visible()
    assert page.locator("tr.hit").count() == 2
    for fact in ("ADTR", NASTY, "image AUROC", "da7ada7ada7a", "3e163e16", "c0331700c033", "2026-01-02 03:04", "a CPU"):
        assert fact in text
    assert "train.epochs4" in re.sub(r"\s", "", text)
    panel.get_by_label("close").press("Enter")
    assert not panel.is_visible()
    assert page.locator("tr.hit").count() == 0
    assert link.evaluate("link => link === document.activeElement")


def test_a_table_is_copied_as_it_is_sorted_without_numbers_of_runs(view: Callable[..., Any]) -> None:
    page = view()
    table = page.locator("#against .own").first
    table.locator("thead th button").nth(3).click()
    copied = {}
    for form in ("CSV", "Markdown", "LaTeX"):
        page.get_by_label(f": image AUROC as {form}").first.click()
        page.get_by_text("copied").wait_for()
        copied[form] = page.evaluate("navigator.clipboard.readText()")
        page.get_by_text("copied").wait_for(state="detached")
    first, second = copied["CSV"].splitlines()[:2]
    assert first == "per cent,'=<b>&001,screw,mean,95 % interval"
    assert second == 'PaDiM,93.0 ± 1.4,94.0 ± 1.4,93.5 ± 1.4,"[93.4, 93.6]"'
    assert copied["Markdown"].splitlines()[1:3] == [
        "| :--- | ---: | ---: | ---: | ---: |",
        "| PaDiM | **93.0 ± 1.4** | **94.0 ± 1.4** | **93.5 ± 1.4** | [93.4, 93.6] |",
    ]
    assert r"per cent & =<b>\&001 & screw & mean & 95 \% interval \\" in copied["LaTeX"]
    assert r"PaDiM & \textbf{93.0 $\pm$ 1.4} & \textbf{94.0 $\pm$ 1.4}" in copied["LaTeX"]


def shots(page: Any) -> list[str]:
    """The images that the gallery shows, as '4 true positive'."""
    items = page.locator(".shots li:not([hidden])")
    names = [re.search(r"/(\d)\.png", text) for text in items.all_text_contents()]
    verdicts = items.locator(".verdict").all_text_contents()
    return [f"{name[1]} {verdict}" for name, verdict in zip(names, verdicts, strict=True) if name]


def test_the_gallery_filters_and_orders_every_methods_images(view: Callable[..., Any]) -> None:
    page = view()
    images = ["1 true negative", "2 true positive", "3 false positive", "4 true positive"]
    assert sorted(shots(page)) == images
    page.locator("[name=order]").select_option("failures first")
    assert shots(page)[0] == "3 false positive"
    page.get_by_label("true positive").uncheck()
    assert shots(page) == ["3 false positive", "1 true negative"]
    page.locator("[name=defect]").select_option("dent")
    assert shots(page) == []
    page.get_by_label("true positive").check()
    assert sorted(shots(page)) == ["2 true positive", "4 true positive"]
    page.locator("[name=method]").select_option("PaDiM")
    assert sorted(shots(page)) == ["2 false negative", "4 true positive"]
    page.locator("[name=category]").select_option("all")
    assert len(shots(page)) == 4
    assert page.locator("#matrix td").all_text_contents() == ["2", "2", "2", "2"]
    page.locator("[name=category]").select_option("screw")
    assert "screw" in page.locator(".shots li").first.text_content()
    before = page.locator(".shots canvas").first.evaluate("canvas => getComputedStyle(canvas).opacity")
    page.get_by_label("opacity of the map").press("Home")
    after = page.locator(".shots canvas").first.evaluate("canvas => getComputedStyle(canvas).opacity")
    assert (before, after) == ("0.7", "0")
    assert page.locator(".shots path").first.is_visible()
    page.get_by_label("ground truth").uncheck()
    assert not page.locator(".shots path").first.is_visible()


def test_a_threshold_moves_by_key_and_by_number_and_counts_all_test_images(view: Callable[..., Any]) -> None:
    page = view()
    matrix, handle = page.locator("#matrix td"), page.get_by_label("Threshold on the image score")
    basis, doubt = page.locator("#basis"), page.locator("#doubt")
    assert matrix.all_text_contents() == ["2", "0", "1", "1"]  # above 1: of the best F1, 4 / 5
    assert "best F1, chosen on these test images" in basis.text_content()
    assert not doubt.is_visible()
    handle.focus()
    page.keyboard.press("ArrowRight")
    assert matrix.all_text_contents() == ["1", "1", "1", "1"]  # above 2, the next score
    assert basis.text_content() == "Moved by hand."
    rates = page.locator("#rates tr").all_text_contents()
    assert rates[:4] == [
        "precision50.0 %1 of 2",
        "recall50.0 %1 of 2",
        "false alarms50.0 %1 of 2",
        "misses50.0 %1 of 2",
    ]
    assert sorted(shots(page))[1] == "2 false negative"
    page.keyboard.press("End")
    assert matrix.all_text_contents() == ["0", "2", "0", "2"]
    page.get_by_label("threshold", exact=True).fill("3")
    assert matrix.all_text_contents() == ["1", "1", "0", "2"]  # an image is anomalous above it
    page.locator("#copy-command").click()
    command = page.evaluate("navigator.clipboard.readText()")
    run = re.escape("/runs/smoke_mvtec/adtr/=<b>&001/0'")
    assert re.fullmatch(rf"adtr predict '\S+{run} IMAGES --output predictions --threshold=3", command)
    page.get_by_label("threshold", exact=True).fill("2,5")
    assert page.locator("#command").text_content().endswith("--threshold=2.5")
    assert basis.text_content() == "Typed by hand."
    page.get_by_label("threshold", exact=True).fill("abc")
    assert page.locator("[aria-invalid=true]").count() == 1
    assert page.locator("#command").text_content().endswith("--threshold=2.5")
    for asked, normal in (("0", ["0", "2"]), ("50", ["1", "1"]), ("99", ["1", "1"])):
        page.get_by_label("false alarms, at most").fill(asked)
        assert matrix.all_text_contents()[2:] == normal, asked
        assert f"Typed: at most {asked} % false alarms of these 2 normal test images" in basis.text_content()
    page.get_by_text("back to the start").click()
    assert basis.text_content().startswith("Start: best F1")
    assert matrix.all_text_contents() == ["2", "0", "1", "1"]
    page.locator("[name=category]").select_option("all")
    assert page.get_by_text("each at its own threshold").is_visible()


def test_a_threshold_starts_where_it_was_calibrated_and_one_that_separates_nothing_is_told(
    view: Callable[..., Any],
) -> None:
    page = view()
    page.locator("[name=method]").select_option("PaDiM")
    assert "calibrated for 1 % false alarms, from 99 normal images" in page.locator("#basis").text_content()
    assert page.get_by_label("threshold", exact=True).input_value() == "2.5"
    page.locator("[name=method]").select_option("SPADE")
    assert page.locator("#matrix td").all_text_contents() == ["2", "0", "2", "0"]
    assert "calls everything anomalous" in page.locator("#doubt").text_content()


def test_the_keyboard_reaches_everything(view: Callable[..., Any]) -> None:
    page = view()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.url.endswith("#good")
    page.locator(".shots button").first.press("Enter")
    dialog = page.locator("dialog")
    first = dialog.locator("img").get_attribute("alt")
    assert dialog.locator("canvas").evaluate("canvas => canvas.width") == 512
    page.keyboard.press("ArrowRight")
    assert dialog.locator("img").get_attribute("alt") != first
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    scrolling = """() => [...document.querySelectorAll("main *")].filter(part => part.tabIndex < 0
      && part.scrollWidth > part.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(part).overflowX))
      .map(part => part.outerHTML)"""
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach(part => (part.open = true))")
    assert page.evaluate(scrolling) == []


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(
    width: int, scheme: str, view: Callable[..., Any]
) -> None:
    page = view(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => (part.open = true))")
    found = Axe().run(page).response["violations"]
    assert [(of["id"], of["help"], [node["target"] for node in of["nodes"]][:3]) for of in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_first_screen_holds_table_and_examples_and_the_contents_follow(view: Callable[..., Any]) -> None:
    page = view()
    for part in (".opening tbody tr", ".example", ".departure a"):
        box = page.locator(part).last.bounding_box()
        assert box["y"] + box["height"] <= 900
    assert page.locator(".example strong").all_text_contents() == ["A clear find", "A narrow find", "A failure"]
    titles = page.locator("h2, h3[id]").all_text_contents()
    assert page.locator("nav a").all_text_contents() == titles
    page.locator("#runs").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('runs').scrollIntoView()")
    page.locator("nav a[aria-current]", has_text="Runs").wait_for()
    assert page.locator("nav").bounding_box()["y"] == 0


def test_a_print_shows_all_but_the_parameters(view: Callable[..., Any]) -> None:
    page = view()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    closed = page.locator("details:not([open])")
    assert closed.count() == page.locator("#parameters details").count() > 0
