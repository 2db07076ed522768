"""The report: what it says of numbers, and that each number leads to its runs. The results here are small but whole."""

import contextlib
import dataclasses
import hashlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from adtr import report
from adtr.config.schema import read_yaml
from adtr.config.study import Plan, resolve
from adtr.data.sources import read_sources
from adtr.errors import UserError
from adtr.evaluate import bootstrap as statistics
from adtr.figures import dataset_kinds, kinds_of
from adtr.report import brief as report_brief
from adtr.report import content as report_content
from adtr.report import pdf, pictures, sentences
from adtr.report import runs as report_runs
from adtr.tables import stage as tables
from adtr.tables import summary

ROOT = Path(__file__).parents[2]
VALUES = {"adtr": 90.0, "padim": 92.0, "spade": 80.0}  # image AUROC; the second category has 1 more, the second seed 2
NASTY = "<b>&001"
MASKED = ["image_auroc", "pixel_auroc", "aupro"]
UNMASKED = ["image_auroc", "image_auroc_all"]
PIXEL = "data:image/webp;base64,UklGRhoAAABXRUJQVlA4TA4AAAAvAAAAAAfQ//73v/+BiOh/AAA="
NO_PDF = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not on the PATH")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in params/ are relative to the root; PDFs take seconds and have tests of their own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(report, "compile_pdf", lambda _: None)
    monkeypatch.setattr(statistics, "DRAWS", 100)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a busy disk makes seconds of it


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
        params = shutil.copytree(ROOT / "params", Path(folder) / "params")
        (params / "studies/small.yaml").write_text(STUDY)
        plan = resolve("small", params, settings)
    datasets = {
        name: dataset.model_copy(update={"categories": [NASTY, "screw"]}) for name, dataset in plan.datasets.items()
    }
    return dataclasses.replace(plan, name="smoke", datasets=datasets)


def write_results(plan: Plan, results: Path) -> pd.DataFrame:
    """The files that the report reads, of every run; gives the metrics."""
    rows = []
    for dataset, experiment, category, seed in plan.runs():
        folder = results / "runs" / dataset / experiment / category / str(seed)
        folder.mkdir(parents=True)
        model = hashlib.sha256(str(folder.relative_to(results / "runs")).encode()).hexdigest()
        (folder / "run.json").write_text(json.dumps(run_record(plan, dataset, experiment, seed, model)))
        (folder / "history.csv").write_text("epoch,lr,loss\n" + "1,0.1,2.0\n2,0.1,1.5\n" * (experiment == "adtr"))
        curve = "1,image_auroc,70.0\n2,image_auroc,90.0\n" * (experiment == "adtr")
        (folder / "curve.csv").write_text("epoch,metric,value\n" + curve)
        (folder / "scores.csv").write_text("image,label,split\na,0,test\nb,1,test\nc,1,test\nd,1,rest\n")
        value = VALUES[experiment] + (category == "screw") + 2 * seed
        run = {"study": plan.name, "dataset": dataset, "experiment": experiment, "category": category, "seed": seed}
        run |= {"value": value, "note": "", "provenance": f"{folder}@{model[:12]}"}
        own = [run | {"metric": metric} for metric in (MASKED if dataset == "smoke_mvtec" else UNMASKED)]
        pd.DataFrame(own).to_csv(folder / "metrics.csv", index=False)
        rows += own
    write_figures(plan, results / "figures")
    metrics = pd.DataFrame(rows)
    metrics.to_csv(results / "metrics.csv", index=False)
    specs, claims = read_yaml(ROOT / "params/tables.yaml"), read_yaml(ROOT / "params/paper/claims.yaml")
    tables.write(plan, metrics, summary.networks(plan, results), specs, claims, results / "tables")
    return metrics


def write_figures(plan: Plan, folder: Path) -> None:
    """Pictures of every kind, and galleries of four images whose scores are 1 to 4."""
    for dataset, definition in plan.datasets.items():
        names = [f"{dataset}-{kind}" for kind in dataset_kinds(plan, dataset)]
        for category in definition.categories or []:
            names += [f"{dataset}/{category}-{kind}" for kind in kinds_of(plan, dataset)]
            path = folder / dataset / f"{category}-gallery.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(gallery(category)))
        for name in names:
            Image.new("RGB", (2, 2)).save(folder / f"{name}.png")


def gallery(category: str) -> dict[str, Any]:
    verdicts = ["true negative", "false negative", "false positive", "true positive"]
    images: list[dict[str, Any]] = [
        {"image": f"{category}/{score}.png", "label": label, "defect": "dent" if label else "good"}
        | {"score": float(score), "verdict": verdict}
        | {"pictures": {"image": PIXEL, "map": PIXEL, "mask": PIXEL if label else None}}
        for score, label, verdict in zip((1, 2, 3, 4), (0, 1, 0, 1), verdicts, strict=True)
    ]
    told = {"category": category, "experiment": "ADTR", "threshold": 3.0, "f1": 0.5, "note": "For looking only."}
    return told | {"scale": [0.0, 4.0], "images": images}


def run_record(plan: Plan, dataset: str, experiment: str, seed: int, model: str) -> dict[str, Any]:
    params = plan.params[dataset, experiment]
    used = {name: getattr(params, name).model_dump(mode="json") for name in params.method_sections()}
    features: dict[str, Any] = {"features": params.features.model_dump(mode="json")}
    features |= {"data": "da7a" * 16, "weights": "3e16" * 16}
    features |= {"shape": [12, 64, 512], "code": "fea7" * 4}
    told = {"code": "c0de" * 4, "commit": "c0331700c033", "time": "2026-01-02T03:04:05+00:00"}
    machine = {"device": "cpu", "precision": "float32", "cpu": "a CPU", "cores": 2, "python": "3.11", "torch": "2.0"}
    fitted = {"images": 12, "parameters": 59872, "seconds": 1.5 + seed, "model": model}
    return {"seed": seed, "params": used, "features": features} | told | machine | fitted


def rewrite_metrics(results: Path, metrics: pd.DataFrame) -> None:
    metrics.to_csv(results / "metrics.csv", index=False)


def written(plan: Plan, results: Path, output: Path) -> tuple[str, str]:
    """report.html and report.md."""
    report.write(plan, results, read_yaml(ROOT / "params/tables.yaml"), output)
    return (output / "report.html").read_text(encoding="utf-8"), (output / "report.md").read_text(encoding="utf-8")


OWN = ["image AUROC", "pixel AUROC", "AUPRO", "image AUROC, all anomalous test images"]


class Page(HTMLParser):
    """The elements of a page: (tag, attributes), and the text of each table."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []  # rows of cells' texts
        self.within = False  # a table
        self.titles: list[str] = []  # of the tables
        self.links: list[tuple[str, dict[str, str]]] = []  # of the numbers: the table that each stands in
        self.feed(text)
        self.own = [i for i, title in enumerate(self.titles) if title in OWN]  # the main tables of the data sets

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.tables.append([])
            self.titles.append(dict(attrs).get("data-title") or "")
        self.within = tag == "table" or self.within
        if "data-runs" in dict(attrs) and self.within:
            self.links.append((self.titles[-1], self.elements[-1][1]))
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.within = tag != "table" and self.within

    def handle_data(self, data: str) -> None:
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data

    def all(self, tag: str, *names: str) -> list[dict[str, str]]:
        return [attrs for found, attrs in self.elements if found == tag and all(name in attrs for name in names)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """The report of a whole study: HTML, Markdown, and the folder above results/ and reports/."""
    folder, plan = tmp_path_factory.mktemp("made"), study()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(report, "compile_pdf", lambda _: None)
        patch.setattr(statistics, "DRAWS", 100)
        patch.setattr(os, "fsync", lambda _: None)
        write_results(plan, folder / "results/smoke")
        return *written(plan, folder / "results/smoke", folder / "reports/smoke"), folder


# Sentences


def table(sd: float = 0.0, **means: dict[str, float]) -> pd.DataFrame:
    """A table's cells from the means of each row, with the mean over categories."""
    rows = [
        {"row": row, "column": column, "mean": mean, "sd": sd, "n": 2}
        for row, values in means.items()
        for column, mean in {**values, "mean": sum(values.values()) / len(values)}.items()
    ]
    return pd.DataFrame(rows)


NAN = float("nan")


@pytest.mark.parametrize(
    ("padim", "adtr", "sd", "said"),
    [
        (
            {"mono": 93.0, "poly": 88.2},
            {"mono": 88.0, "poly": 88.0},
            0.1,
            "Ahead of ADTR: PaDiM by 2.6 (ahead in 2).",
        ),
        (
            {"mono": 90.0, "poly": 80.0, "thin": 70.0},
            {"mono": 85.0, "poly": 99.0, "thin": 70.01},
            0.1,
            "Behind ADTR: PaDiM by 4.7 (ahead in 1, level in 1, behind in 1).",
        ),
        (
            {"mono": 97.24},
            {"mono": 97.26},
            0.0,
            "Level with ADTR: PaDiM.",
        ),
        (
            {"mono": 91.0},
            {"mono": 90.0},
            1.0,
            "Ahead of ADTR: PaDiM by 1.0 (no more than the spread over the seeds).",
        ),
        (
            {"mono": 91.0, "poly": NAN},
            {"mono": 90.0, "poly": 90.0},
            0.0,
            "Not compared with ADTR: PaDiM. The mean of PaDiM is undefined.",
        ),
        (
            {"mono": NAN},
            {"mono": NAN},
            NAN,
            "Not compared with ADTR: PaDiM. The mean of PaDiM and ADTR is undefined.",
        ),
    ],
    ids=["ahead", "behind", "level", "within the spread", "one undefined", "both undefined"],
)
def test_a_sentence_says_what_the_numbers_say(
    padim: dict[str, float], adtr: dict[str, float], sd: float, said: str
) -> None:
    assert sentences.sentences(table(sd, ADTR=adtr, PaDiM=padim), "image AUROC", "ADTR") == [said]


def test_one_seed_has_no_spread_to_hide_a_gap_in() -> None:
    said = sentences.sentences(table(NAN, ADTR={"a": 90.0}, PaDiM={"a": 90.1}), "AUPRO", "ADTR")
    assert said == ["Ahead of ADTR: PaDiM by 0.1."]


def test_the_widest_gap_comes_first_and_level_stands_between() -> None:
    scores = {"ADTR": 90.0, "KDE": 80.0, "PaDiM": 91.0, "SPADE": 95.0, "CNN": 90.01, "PatchCore": 70.0}
    said = sentences.sentences(table(NAN, **{name: {"a": mean} for name, mean in scores.items()}), "AUPRO", "ADTR")
    assert said == [
        "Ahead of ADTR: SPADE by 5.0; PaDiM by 1.0.",
        "Level with ADTR: CNN.",
        "Behind ADTR: PatchCore by 20.0; KDE by 10.0.",
    ]


@pytest.mark.parametrize(("metric", "count"), [("image AUROC", 2), ("AUPRO", 1)])
def test_an_auroc_below_half_is_pointed_out(metric: str, count: int) -> None:
    said = sentences.sentences(table(NAN, ADTR={"a": 50.0}, KDE={"a": 25.5}), metric, "ADTR")
    assert said[1:] == ["Below 50, no better than scores that know nothing: KDE 25.5."][: count - 1]


def test_one_experiment_is_compared_with_nothing() -> None:
    assert sentences.sentences(table(ADTR={"a": 90.0}), "AUPRO", "ADTR") == []


def test_the_test_images_leave_a_standard_error() -> None:
    (said,) = sentences.uncertainty("ADTR", [89.3, 89.3], [(58, 51), (58, 51)])
    assert said.startswith(
        "116 normal and 102 anomalous test images leave the mean of ADTR a standard error of 2.3 points"
    )  # 3.2 of one category, over the root of two
    assert sentences.uncertainty("ADTR", [NAN], [(58, 0)]) == []
    assert sentences.uncertainty("ADTR", [100.0], [(58, 51)]) == []


# The recipe


def departures(name: str, settings: dict[str, Any] | None = None) -> dict[tuple[str, str], tuple[str, ...]]:
    plan = resolve(name, ROOT / "params", settings)
    found = report_content.departures(plan)
    return {(row["parameter"], row["recipe"]): (row["here"], row["experiments"], row["data sets"]) for row in found}


def test_the_paper_study_departs_from_nothing() -> None:
    assert departures("paper") == {}


def test_a_departure_shows_the_paper_and_what_was_used() -> None:
    assert departures("paper", {"train.epochs": 3, "features.weights": "random"}) == {
        ("features.weights", "imagenet"): ("random", "all", "all"),
        ("train.epochs", "500"): ("3", "all but ADTR+", "all"),
        ("train.epochs", "300"): ("3", "ADTR+", "all"),
    }


def test_what_the_paper_changes_for_a_data_set_is_no_departure_there() -> None:
    assert departures("paper", {"train.batch_size": 128}) == {("train.batch_size", "16"): ("128", "all", "MVTec-AD")}


def test_a_baselines_parameter_departs_in_that_baseline() -> None:
    assert departures("paper", {"padim.channels": 50}) == {("padim.channels", "100"): ("50", "PaDiM", "all")}


def test_an_ablations_own_change_is_no_departure_but_a_studys_is() -> None:
    found = departures("screw")
    lite = "all but Pixels, EfficientNet-Lite1, EfficientNet-Lite2 and Autoencoder"
    assert found["features.backbone", "efficientnet_b4"] == ("efficientnet_lite0", lite, "all")
    assert not [key for key, _ in found if key == "features.layers"]


def test_every_departure_has_its_meaning() -> None:
    found = report_content.departures(resolve("smoke", ROOT / "params"))
    assert len(found) > 5
    assert all(row["meaning"] for row in found)


def test_random_weights_and_made_up_images_are_warned_of() -> None:
    assert [text[:16] for text in report_content.warnings(study({"features.weights": "random"}))] == [
        "Random weights, ",
        "Images made by a",
    ]
    assert report_content.warnings(resolve("demo", ROOT / "params")) == []


def test_runs_of_one_experiment_on_different_devices_are_told() -> None:
    run = {"experiment": "ADTR", "dataset": "Cups", "device": "cpu, float32"}
    others = [run | {"experiment": "PaDiM"}, run | {"device": "a GPU, bfloat16"}]
    assert report_content.mixtures([run, run]) == []
    assert report_content.mixtures([run, *others]) == [
        "Trained on different devices: ADTR on Cups (a GPU, bfloat16; cpu, float32)."
    ]


def test_the_label_says_whose_recipe_it_is(made: tuple[str, str, Path]) -> None:
    assert "Not the paper’s recipe" in made[0]
    assert "Not the paper's recipe" in made[1]


NOTHING = pd.DataFrame(columns=["dataset", "metric"])


def test_one_seed_is_said_to_tell_no_spread() -> None:
    plan = resolve("demo", ROOT / "params")
    more = dataclasses.replace(plan, study=plan.study.model_copy(update={"seeds": [0, 1]}))
    assert "One seed only" in report_content.about(plan, NOTHING)[0]
    assert "± is the standard deviation" in report_content.about(more, NOTHING)[0]


@pytest.mark.parametrize(("asked", "told"), [("float32", "8 × 8 tokens;"), ("bfloat16", "8 × 8 tokens, in bfloat16;")])
def test_features_that_are_not_in_float32_are_told(asked: str, told: str) -> None:
    plan = resolve("demo", ROOT / "params", settings={"features.precision": asked})
    assert told in report_content.about(plan, NOTHING)[1]


# The page


def test_names_are_escaped(made: tuple[str, str, Path]) -> None:
    page, brief, _ = made
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;001" in page
    assert "<b>" not in brief


def test_the_page_asks_for_nothing_outside_itself(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    wanted = [attrs[name] for _, attrs in page.elements for name in ("src", "href", "srcset", "data") if name in attrs]
    assert len(wanted) > 20
    assert {link[:1] if link[:1] == "#" else link[:5] for link in wanted} == {"#", "data:"}
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|https?://", made[0])
    policy = next(attrs["content"] for attrs in page.all("meta", "http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_link_leads_somewhere(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)


def test_every_image_has_its_words(made: tuple[str, str, Path]) -> None:
    images, plan = Page(made[0]).all("img"), study()
    kinds = [kind for dataset in plan.datasets for kind in kinds_of(plan, dataset) * 2 if kind != "gallery"]
    whole = [kind for dataset in plan.datasets for kind in dataset_kinds(plan, dataset)]
    assert len(images) == len(kinds) + len(whole) + 2 * 2 * (4 + 4 + 2)  # and the galleries: images, maps, masks
    assert all(image["alt"] for image in images)
    alts = " ".join(image["alt"] for image in images)
    assert "ADTR 91.0, PaDiM 93.0 and SPADE 81.0" in alts
    assert "1 normal and 2 anomalous test images" in alts
    assert "ADTR image AUROC 70.0 after 1 to 90.0 after 2" in alts
    assert "ADTR 2 to 1.5" in alts


def test_a_main_table_shows_mean_and_spread(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    texts = [[" ".join(cell.split()) for cell in row] for row in page.tables[page.own[0]]]
    assert texts[0] == ["per cent", NASTY, "screw", "mean"]
    assert texts[1] == ["ADTR1–4", "91.0 ± 1.4", "92.0 ± 1.4", "91.5 ± 1.4"]
    assert texts[2][1] == "93.0 ± 1.4"


def test_every_number_of_the_main_tables_leads_to_its_runs(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    links = [link for title, link in page.links if title in OWN]
    assert len(links) == 3 * (3 + 2) * 3  # experiments, metrics of both data sets, columns
    assert [link["data-runs"] for link in links[:3]] == ["1 2", "3 4", "1 2 3 4"]
    for _, link in page.links:
        assert link["href"] == f"#run-{link['data-runs'].split()[0]}"


def test_a_difference_leads_to_the_runs_of_our_number(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    table = next(i for i, title in enumerate(page.titles) if title.startswith("Table 1: "))
    links = [link["data-runs"] for title, link in page.links if title == page.titles[table]]
    assert links[:2] == ["3 4", "3 4"]  # of screw, ADTR: ours and the difference


def test_a_run_on_features_in_bfloat16_says_so() -> None:
    plan = resolve("smoke", ROOT / "params", {"features.precision": "bfloat16"})
    record = run_record(plan, "smoke_mvtec", "padim", 0, "a model")
    assert report_runs._facts(record)["device"] == "cpu, float32, features in bfloat16"


def test_the_table_of_runs_tells_each_in_full(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    rows = [row for row in page.tables[-1] if row[0].isdigit()]
    title = study().datasets["smoke_mvtec"].title
    assert [row[0] for row in rows] == [str(number) for number in range(1, 25)]
    assert rows[0][1:10] == ["ADTR", title, NASTY, "0", "4", "12", "59,872", "1.5", "cpu, float32"]
    assert rows[4][5] == "–"  # PaDiM has no epochs
    titles = [attrs["title"] for attrs in page.all("code", "title")]
    models = [hashlib.sha256("/".join(map(str, run)).encode()).hexdigest() for run in study().runs()]
    assert set(models) < set(titles)
    assert {"da7a" * 16, "3e16" * 16, "c0331700c033", "c0de" * 4 + ", features " + "fea7" * 4} < set(titles)


def test_each_run_leads_to_its_parameters(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    listed = {attrs["id"] for attrs in page.all("details", "id")}
    assert {row["data-params"] for row in page.all("tr", "data-params")} == listed
    adtr = report_runs.parameters(study())[0]
    assert (adtr["id"], adtr["values"]["train.epochs"], adtr["values"]["features.layers"]) == (
        "params-smoke_mvtec-adtr",
        "4",
        "[1, 2, 3, 4, 5]",
    )
    padim = report_runs.parameters(study())[1]["values"]
    assert "padim.channels" in padim
    assert "train.epochs" not in padim


def test_the_best_of_a_column_is_bold_unless_all_print_alike(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    metrics = write_results(plan, results)
    screw = (metrics.category == "screw") & (metrics.metric == "image_auroc")
    rewrite_metrics(results, metrics.assign(value=metrics.value.where(~screw, 99.96 + metrics.seed / 1000)))
    page = written(plan, results, tmp_path / "out")[0]
    own = Page(page[page.index('<section id="data-1">') :])
    best = [" best" in f" {attrs['class']}" for attrs in own.all("td", "data-value")][:9]
    assert best == [False, False, False, True, False, True, False, False, False]


def test_an_undefined_value_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    metrics = write_results(plan, results)
    lost = (metrics.experiment == "padim") & (metrics.category == "screw") & (metrics.metric == "image_auroc")
    metrics.loc[lost, ["value", "note"]] = [NAN, "undefined: no anomalous image"]
    rewrite_metrics(results, metrics)
    page, brief = written(plan, results, tmp_path / "out")
    parsed = Page(page)
    cells = [" ".join(cell.split()) for cell in parsed.tables[parsed.own[0]][2]]
    assert cells == ["PaDiM5–8", "93.0 ± 1.4", "–", "–"]
    for text in (page, brief):
        assert "PaDiM, screw, seed 0 and 1: undefined: no anomalous image." in text
        assert "Not compared with ADTR: PaDiM. The mean of PaDiM is undefined." in text


def test_a_data_set_without_masks_says_so(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    metrics = write_results(plan, results)
    rewrite_metrics(results, metrics[metrics.metric == "image_auroc"])
    page, brief = written(plan, results, tmp_path / "out")
    for text in (page, brief):
        assert text.count("no masks, so that nothing is measured by pixels") == 1
        assert "Pixel AUROC" not in text
        assert "AUPRO in per cent" not in text
        assert "by t-SNE" not in text


def test_the_papers_tables_stand_only_beside_its_benchmarks(made: tuple[str, str, Path], tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    own = {name: dataset.model_copy(update={"benchmark": None}) for name, dataset in plan.datasets.items()}
    write_results(plan, results)
    page, brief = written(dataclasses.replace(plan, datasets=own), results, tmp_path / "out")
    assert "Ablation study" in made[0]
    assert "Ablation study" in made[1]
    assert "Ablation study" not in page + brief
    assert "own arithmetic" not in page


# Bytes


def test_the_same_results_give_the_same_bytes(made: tuple[str, str, Path]) -> None:
    page, brief, folder = made
    again = written(study(), folder / "results/smoke", folder / "reports/again")
    assert again == (page, brief)
    for path in (folder / "reports/smoke").rglob("*.*"):
        other = folder / "reports/again" / path.relative_to(folder / "reports/smoke")
        assert path.read_bytes() == other.read_bytes()


def test_the_brief_report_links_few_and_small_pictures_beside_it(made: tuple[str, str, Path]) -> None:
    links = re.findall(r"\]\(([^)]*)\)", made[1])
    folder = made[2] / "reports/smoke"
    assert len(links) == 12
    assert {"figures/smoke_mvtec-bars.png", "figures/smoke_cifar10-bars.png"} < set(links)
    assert sorted(str(path.relative_to(folder)) for path in (folder / "figures").iterdir()) == sorted(links)
    assert "results/" not in made[1]


def test_the_brief_report_names_the_runs_of_each_row(made: tuple[str, str, Path]) -> None:
    assert "| ADTR | 91.0 ± 1.4 | 92.0 ± 1.4 | 91.5 ± 1.4 | 1–4 |" in made[1]


def test_a_bar_in_a_name_keeps_a_markdown_table_whole() -> None:
    assert report_brief._table(["a"], [{"a": "x|y"}]).splitlines()[2] == r"| x\|y |"


def test_a_category_may_be_called_nan_or_001(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("category,seed,metric,value,note\n001,0,aupro,1.5,\nnan,0,aupro,,undefined: why\n")
    metrics = summary.read_metrics(path)
    assert list(metrics.category) == ["001", "nan"]
    assert list(metrics.value.isna()) == [False, True]


# What must not be reported


def test_metrics_of_another_model_are_refused(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    write_results(plan, results)
    path = results / "runs/smoke_mvtec/padim/screw/1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "0" * 64}))
    with pytest.raises(UserError, match=r"padim/screw/1: its metrics are of another model"):
        written(plan, results, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_of_other_parameters_are_refused(tmp_path: Path) -> None:
    results = tmp_path / "results/smoke"
    write_results(study(), results)
    with pytest.raises(UserError, match=r"adtr/.*run\.json: made with other parameters"):
        written(study({"train.epochs": 9}), results, tmp_path / "out")


@pytest.mark.parametrize(
    "name",
    [
        "metrics.csv",
        "runs/smoke_mvtec/adtr/screw/0/run.json",
        "figures/smoke_cifar10/screw-roc.png",
        "figures/smoke_cifar10/screw-gallery.json",
        "figures/smoke_mvtec-bars.png",
        "tables/comparison.csv",
        "tables/table3.tex",
    ],
)
def test_a_missing_file_is_named(made: tuple[str, str, Path], tmp_path: Path, name: str) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    shutil.copytree(made[2] / "results/smoke", results)
    (results / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        written(plan, results, tmp_path / "out")


# Ranks, intervals


def ablation(**ours: float) -> pd.DataFrame:
    """Cells of Table 4: three variants of part a, of which the paper says 97, 95 and 94, and one of part b."""
    printed = {"(a) Full": 97.0, "(a) Less": 95.0, "(a) Least": 94.0, "(b) Full": 97.0}
    rows = [{"row": row, "column": "paper", "mean": mean} for row, mean in printed.items()]
    means = {row: ours.get(row.split()[-1], NAN) for row in printed}
    return pd.DataFrame(rows + [{"row": row, "column": "ours", "mean": mean} for row, mean in means.items()])


@pytest.mark.parametrize(
    ("ours", "agrees", "said"),
    [
        (
            {"Full": 80.0, "Less": 70.0, "Least": 60.0},
            True,
            "(a) Part: the same order. Paper: Full 97.0 > ",
        ),
        ({"Full": 80.0, "Less": 60.0, "Least": 70.0}, False, "Ours: Full 80.0 > Least 70.0 > Less 60.0."),
        ({"Full": 80.0, "Less": 60.01, "Least": 60.02}, False, "Ours: Full 80.0 > Least 60.0 = Less 60.0."),
        ({"Full": 80.0, "Least": 90.0}, False, "Paper: Full 97.0 > Least 94.0. Ours: Least 90.0 > Full 80.0."),
        ({"Full": 80.0}, None, ""),
    ],
    ids=["same", "two swapped", "nearly level", "one not run", "one alone"],
)
def test_ranks_are_compared_with_the_papers(ours: dict[str, float], agrees: bool | None, said: str) -> None:
    found, lines = sentences.ranking(ablation(**ours), {"a": "Part", "b": "Other"})
    assert found is agrees
    assert said in " ".join(lines)
    assert ("do not rank" in " ".join(lines)) == (agrees is False)


def test_ranks_that_differ_bring_the_curves(made: tuple[str, str, Path]) -> None:
    content = report.gather(study(), made[2] / "results/smoke", read_yaml(ROOT / "params/tables.yaml"))
    curves = made[0].count("the curves over the epochs show")
    differs = report.render(content | {"agrees": False, "ranks": ["They do not rank as in the paper."]})
    assert curves == 0
    assert differs.count("the curves over the epochs show") == 2


def test_an_interval_without_zero_sets_an_experiment_apart() -> None:
    rows = [("adtr_plus", 0.1, 2.0), ("cnn", -3.0, -0.2), ("pixels", -1.0, 0.0), ("kde", NAN, NAN), ("padim", 1.0, 2.0)]
    table = pd.DataFrame(rows, columns=["experiment", "low", "high"]).assign(dataset="elpv", metric="image_auroc")
    plan = resolve("demo", ROOT / "params")
    assert sentences.certain(plan, table) == [
        "By image AUROC on ELPV (solar cells), ahead of ADTR: ADTR+ and PaDiM; behind ADTR: CNN; "
        "not told apart from ADTR: Pixels; without an interval against ADTR: KDE."
    ]


def test_a_span_of_runs_is_short() -> None:
    runs = [{"number": number} for number in (4, 1, 2, 3, 9, 2)]
    assert report_runs.span(runs) == "1–4, 9"
    assert report_runs.span([]) == ""


# Pictures


def credit(**changes: Any) -> dict[str, Any]:
    plan = resolve("paper", ROOT / "params")
    dataset = plan.datasets["mvtec"].model_copy(update=changes)
    own = dataclasses.replace(plan, datasets={"mvtec": dataset})
    return report_content.credits(own, read_sources(ROOT / "params/sources.yaml"))[0]


def test_pictures_name_their_owners() -> None:
    mvtec, own = credit(root="/another/disk"), credit(root="/another/disk", benchmark=None)
    assert (mvtec["licence"], mvtec["by"][:14]) == ("CC BY-NC-SA 4.0", "P. Bergmann et")
    assert (own["licence"], own["by"]) == ("not known here", "images of your own")
    assert credit(layout="elpv")["page"] == "https://github.com/zae-bayern/elpv-dataset"
    assert credit(layout="cifar10", root="data/cifar-10-batches-py")["by"].startswith("A. Krizhevsky")


def section(name: str, kinds: list[str]) -> dict[str, Any]:
    figures = [{"kind": kind, "path": Path(kind)} for kind in kinds]
    first, second = ({"category": category, "figures": figures} for category in ("x", "y"))
    return {"name": name, "figures": [{"kind": "bars", "path": Path("bars")}], "categories": [first, second]}


def test_of_many_data_sets_each_has_its_share_of_pictures() -> None:
    found = pictures.chosen([section("a", ["roc", "maps", "gallery"]), section("b", ["roc", "maps", "curve"])], 5)
    assert [(figure["name"], figure["kind"], figure["section"]) for figure in found] == [
        ("a", "bars", 0),
        ("a-x", "maps", 0),
        ("b", "bars", 1),
        ("b-x", "maps", 1),
        ("b-x", "curve", 1),
    ]


def test_a_copied_picture_is_small_and_of_a_kind_that_latex_reads(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000)).save(tmp_path / "wide.png")
    for kind, form in (("maps", "JPEG"), ("roc", "PNG")):
        path = pictures.copied({"kind": kind, "name": "a b", "path": tmp_path / "wide.png"}, tmp_path)
        with Image.open(path) as image:
            assert (path.stem, image.format, image.size) == (f"a_b-{kind}", form, (1100, 367))


# Print


@pytest.fixture
def print_folder(made: tuple[str, str, Path], tmp_path: Path) -> Path:
    """A copy of the report alone, without results."""
    return shutil.copytree(made[2] / "reports/smoke", tmp_path / "alone")


@NO_PDF
def test_the_print_compiles_where_it_lies_and_fits_its_page(print_folder: Path) -> None:
    command = ["pdflatex", "-interaction=nonstopmode", "report.tex"]
    log = subprocess.run(command, cwd=print_folder, capture_output=True, check=True).stdout.decode(errors="replace")
    assert not re.findall(r"Overfull \\hbox|^!.*|Missing character", log, re.M)
    first, second = (pdf.compile_pdf(print_folder / "report.tex").read_bytes() for _ in range(2))  # type: ignore[union-attr]
    assert first.startswith(b"%PDF")
    assert first == second


def test_without_latex_one_line_says_so_and_no_old_pdf_stays(
    print_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (print_folder / "report.pdf").write_text("old")
    monkeypatch.setenv("PATH", str(print_folder))
    assert pdf.compile_pdf(print_folder / "report.tex") is None
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["pdflatex is not on the PATH"]
    assert not (print_folder / "report.pdf").exists()


def fake_latex(folder: Path, says: str) -> None:
    path = folder / "pdflatex"
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit 1\n")
    path.chmod(0o755)


def test_a_missing_package_is_named(
    print_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_latex(print_folder, "! LaTeX Error: File `booktabs.sty'\\'' not found.")
    monkeypatch.setenv("PATH", f"{print_folder}:/bin:/usr/bin")
    assert pdf.compile_pdf(print_folder / "report.tex") is None
    assert "LaTeX has no booktabs.sty" in caplog.text


def test_a_document_that_does_not_compile_is_an_error(print_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_latex(print_folder, "! Undefined control sequence.")
    monkeypatch.setenv("PATH", f"{print_folder}:/bin:/usr/bin")
    with pytest.raises(UserError, match=r"report.tex: does not compile: ! Undefined control sequence"):
        pdf.compile_pdf(print_folder / "report.tex")


def test_letters_that_the_font_lacks_are_no_error() -> None:
    assert pdf.tex("50 % of a_b \u2603 é – “x”") == r"50 \% of a\_b ? é -- ``x''"


# The page in a browser

STEPS = """
const said = {}, wait = ms => new Promise(done => setTimeout(done, ms));
const names = table => [...table.tBodies[0].rows].map(row => row.cells[0].firstChild.textContent);
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
(async () => {
  const own = document.querySelector("#data-1 table"), head = own.tHead.rows[0].cells[2], button = head.firstChild;
  said.button = button.tagName;
  said.sorted = [names(own)];
  for (const _ of [1, 2, 3]) {
    button.click();
    said.sorted.push([head.getAttribute("aria-sort"), ...names(own)]);
  }
  const table4 = [...document.querySelectorAll(".paper")].at(-1);
  for (const _ of [1, 2]) table4.tHead.rows[0].cells[2].firstChild.click();
  said.dashes = [...table4.tBodies[0].rows].map(row => row.cells[2].textContent.trim() === "–");
  const table1 = document.querySelector(".paper"), shown = () => [...table1.tHead.rows[0].cells]
    .filter(cell => getComputedStyle(cell).display !== "none").map(cell => cell.textContent.trim());
  said.folded = [shown()];
  for (const _ of [1, 2]) {
    table1.closest(".scroll").previousElementSibling.click();
    said.folded.push(shown());
  }
  const link = own.querySelector("[data-runs]");
  link.click();
  const panel = document.getElementById("panel");
  said.clicked = [panel.hidden, panel.textContent, document.querySelectorAll("tr.hit").length];
  panel.querySelector("button").focus();
  press("Escape");
  said.escaped = [panel.hidden, document.activeElement === link, document.querySelectorAll("tr.hit").length];
  link.dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" }));
  await wait(300);
  said.hovered = panel.hidden;
  link.dispatchEvent(new PointerEvent("pointerleave", { pointerType: "mouse" }));
  await wait(400);
  said.left = panel.hidden;
  const browser = document.querySelector(".browser"), form = browser.querySelector("form");
  const seen = () => [...browser.querySelectorAll(".shots li")].filter(shot => !shot.hidden)
    .map(shot => shot.dataset.category.slice(0, 1) + shot.dataset.score);
  const change = (element, value) => {
    element.value = value;
    for (const kind of ["input", "change"]) element.dispatchEvent(new Event(kind, { bubbles: true }));
  };
  said.gallery = [form.hidden, seen()];
  change(form.category, "screw");
  said.category = seen();
  form.querySelector("[value='true positive']").click();
  said.verdict = seen();
  change(form.querySelector("[type=range]"), 1.5);
  said.score = [seen(), form.querySelector(".status").textContent];
  said.width = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.title = "SAID" + JSON.stringify(said);
})();
"""


def in_browser(page: Path, profile: Path) -> tuple[dict[str, Any], str]:
    """What STEPS found on a page, and all that the browser logged; nothing of the browser stays."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    options += ["--enable-logging=stderr", "--window-size=700,900", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *options, "--virtual-time-budget=4000", "--dump-dom", page.as_uri()]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, log = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    found = re.search(r"<title>SAID(.*?)</title>", out, re.S)
    assert found, f"the page's script did not end: {log[-2000:]}"
    return json.loads(html.unescape(found[1])), log


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page's script is not tried")
def test_the_page_sorts_tells_and_filters(made: tuple[str, str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(made[0].replace("</body>", f"<script>{STEPS}</script></body>"), encoding="utf-8")
    said, log = in_browser(page, tmp_path / "profile")
    assert "CONSOLE" not in log
    assert said["button"] == "BUTTON"
    order = ["ADTR", "PaDiM", "SPADE"]
    assert said["sorted"] == [
        order,
        ["descending", "PaDiM", "ADTR", "SPADE"],
        ["ascending", "SPADE", "ADTR", "PaDiM"],
        [None, *order],
    ]
    assert said["dashes"] == sorted(said["dashes"])
    assert set(said["dashes"]) == {True, False}
    few, all_of_them, again = said["folded"]
    assert few == again == ["per cent", "screw", "mean"]
    assert len(all_of_them) == 17
    hidden, text, hits = said["clicked"]
    assert (hidden, hits) == (False, 2)
    for fact in ("ADTR", NASTY, "image AUROC", "da7ada7ada7a", "3e163e16", "c0331700c033", "2026-01-02 03:04", "a CPU"):
        assert fact in text
    assert "train.epochs4" in re.sub(r"\s", "", text)
    assert said["escaped"] == [True, True, 0]
    assert (said["hovered"], said["left"]) == (False, True)
    every = [f"{category}{score}" for category in "<s" for score in ("1.0", "2.0", "3.0", "4.0")]
    assert (said["gallery"][0], sorted(said["gallery"][1])) == (False, every)
    assert sorted(said["category"]) == ["s1.0", "s2.0", "s3.0", "s4.0"]
    assert sorted(said["verdict"]) == ["s1.0", "s2.0", "s3.0"]
    assert (sorted(said["score"][0]), said["score"][1]) == (["s2.0", "s3.0"], "2 of 8 images")
    assert said["width"] <= 0
