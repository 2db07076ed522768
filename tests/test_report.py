"""The report: what it says of numbers, and that each number leads to its runs. The results here are small but whole."""

import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from adtr import report
from adtr.config import read_yaml
from adtr.errors import UserError
from adtr.study import Plan, resolve

ROOT = Path(__file__).parent.parent
VALUES = {"adtr": 90.0, "padim": 92.0, "spade": 80.0}  # image AUROC; the second category has 1 more, the second seed 2
NASTY = "<b>&001"
MASKED = ["image_auroc", "pixel_auroc", "aupro"]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def study(settings: dict[str, Any] | None = None) -> Plan:
    """The study `smoke`, its first category of a name that HTML and Markdown would take for something else."""
    plan = resolve("smoke", ROOT / "params", settings)
    datasets = {
        name: dataset.model_copy(update={"categories": [NASTY, "screw"]}) for name, dataset in plan.datasets.items()
    }
    return dataclasses.replace(plan, datasets=datasets)


def write_results(plan: Plan, results: Path) -> pd.DataFrame:
    """The files that the report reads, of every run; gives the metrics."""
    rows = []
    for dataset, experiment, category, seed in plan.runs():
        folder = results / dataset / experiment / category / str(seed)
        folder.mkdir(parents=True)
        model = hashlib.sha256(str(folder.relative_to(results)).encode()).hexdigest()
        (folder / "run.json").write_text(json.dumps(run_record(plan, dataset, experiment, seed, model)))
        (folder / "history.csv").write_text("epoch,lr,loss\n" + "1,0.1,2.0\n2,0.1,1.5\n" * (experiment == "adtr"))
        (folder / "scores.csv").write_text("image,label,split\na,0,test\nb,1,test\nc,1,test\nd,1,rest\n")
        value = VALUES[experiment] + (category == "screw") + 2 * seed
        run = {"study": plan.name, "dataset": dataset, "experiment": experiment, "category": category, "seed": seed}
        run |= {"value": value, "note": "", "provenance": f"{folder}@{model[:12]}"}
        rows += [run | {"metric": metric} for metric in (MASKED if dataset == "smoke_mvtec" else MASKED[:1])]
    for dataset, kind in ((d, k) for d in plan.datasets for k in report.FIGURES):
        for category in plan.datasets[dataset].categories or []:
            path = results / "figures" / dataset / f"{category}-{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2)).save(path)
    metrics = pd.DataFrame(rows)
    metrics.to_csv(results / "metrics.csv", index=False)
    return metrics


def run_record(plan: Plan, dataset: str, experiment: str, seed: int, model: str) -> dict[str, Any]:
    params = plan.params[dataset, experiment]
    used = {name: getattr(params, name).model_dump(mode="json") for name in params.method_sections()}
    features = {"features": params.features.model_dump(mode="json"), "data": "da7a" * 16, "weights": "3e16" * 16}
    told = {"code": "c0de" * 4, "commit": "c0331700c033", "time": "2026-01-02T03:04:05+00:00", "device": "cpu"}
    machine = {"cpu": "a CPU", "cores": 2, "python": "3.11", "torch": "2.0"}
    fitted = {"images": 12, "parameters": 59872, "seconds": 1.5 + seed, "model": model}
    return {"seed": seed, "params": used, "features": features | {"code": "fea7" * 4}} | told | machine | fitted


def rewrite_metrics(results: Path, metrics: pd.DataFrame) -> None:
    metrics.to_csv(results / "metrics.csv", index=False)


def written(plan: Plan, results: Path, output: Path) -> tuple[str, str]:
    """report.html and report.md."""
    report.write(plan, results, read_yaml(ROOT / "params/tables.yaml"), output)
    return (output / "report.html").read_text(encoding="utf-8"), (output / "report.md").read_text(encoding="utf-8")


class Page(HTMLParser):
    """The elements of a page: (tag, attributes), and the text of each table."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []  # rows of cells' texts
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

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
            "PaDiM is ahead of ADTR by 2.6 points of image AUROC (mean over 2 categories: ahead in 2).",
        ),
        (
            {"mono": 90.0, "poly": 80.0, "thin": 70.0},
            {"mono": 85.0, "poly": 99.0, "thin": 70.01},
            0.1,
            "PaDiM is behind ADTR by 4.7 points of image AUROC (mean over 3 categories: ahead in 1, level in 1, "
            "behind in 1).",
        ),
        (
            {"mono": 97.24},
            {"mono": 97.26},
            0.0,
            "PaDiM is level with ADTR in image AUROC, to a tenth of a point (category mono).",
        ),
        (
            {"mono": 91.0},
            {"mono": 90.0},
            1.0,
            "PaDiM is ahead of ADTR by 1.0 points of image AUROC (category mono). "
            "That is no more than the spread over the seeds.",
        ),
        (
            {"mono": 91.0, "poly": NAN},
            {"mono": 90.0, "poly": 90.0},
            0.0,
            "PaDiM and ADTR cannot be compared by image AUROC: the mean of PaDiM is undefined.",
        ),
        (
            {"mono": NAN},
            {"mono": NAN},
            NAN,
            "PaDiM and ADTR cannot be compared by image AUROC: the mean of PaDiM and ADTR is undefined.",
        ),
    ],
    ids=["ahead", "behind", "level", "within the spread", "one undefined", "both undefined"],
)
def test_a_sentence_says_what_the_numbers_say(
    padim: dict[str, float], adtr: dict[str, float], sd: float, said: str
) -> None:
    assert report.sentences(table(sd, ADTR=adtr, PaDiM=padim), "image AUROC", "ADTR") == [said]


def test_one_seed_has_no_spread_to_hide_a_gap_in() -> None:
    said = report.sentences(table(NAN, ADTR={"a": 90.0}, PaDiM={"a": 90.1}), "AUPRO", "ADTR")
    assert said == ["PaDiM is ahead of ADTR by 0.1 points of AUPRO (category a)."]


def test_one_experiment_is_compared_with_nothing() -> None:
    assert report.sentences(table(ADTR={"a": 90.0}), "AUPRO", "ADTR") == []


# The recipe


def departures(name: str, settings: dict[str, Any] | None = None) -> dict[str, tuple[str, str, str]]:
    plan = resolve(name, ROOT / "params", settings)
    found = report.departures(plan, read_yaml(ROOT / "params/default.yaml"))
    return {row["parameter"]: (row["paper"], row["here"], row["data sets"]) for row in found}


def test_the_paper_study_departs_from_nothing() -> None:
    assert departures("paper") == {}


def test_a_departure_shows_the_paper_and_what_was_used() -> None:
    assert departures("paper", {"train.epochs": 3, "features.weights": "random"}) == {
        "features.weights": ("imagenet", "random", "all"),
        "train.epochs": ("500", "3", "all"),
    }


def test_what_the_paper_changes_for_a_data_set_is_no_departure_there() -> None:
    assert departures("paper", {"train.batch_size": 128}) == {"train.batch_size": ("16", "128", "MVTec-AD")}


def test_a_baselines_parameter_is_not_adtrs() -> None:
    assert departures("paper", {"padim.channels": 50}) == {}


def test_every_departure_has_its_meaning() -> None:
    found = report.departures(resolve("smoke", ROOT / "params"), read_yaml(ROOT / "params/default.yaml"))
    assert len(found) > 5
    assert all(row["meaning"] for row in found)


def test_random_weights_and_made_up_images_are_warned_of() -> None:
    assert [text[:16] for text in report.warnings(study({"features.weights": "random"}))] == [
        "Random weights, ",
        "Images made by a",
    ]
    assert report.warnings(resolve("demo", ROOT / "params")) == []


def test_the_label_says_whose_recipe_it_is(made: tuple[str, str, Path]) -> None:
    assert "Not the paper’s recipe" in made[0]
    assert "Not the paper's recipe" in made[1]


def test_one_seed_is_said_to_tell_no_spread() -> None:
    plan = resolve("demo", ROOT / "params")
    more = dataclasses.replace(plan, study=plan.study.model_copy(update={"seeds": [0, 1]}))
    assert "One seed only" in report.about(plan)[0]
    assert "± is the standard deviation" in report.about(more)[0]


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
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|http-equiv|https?://", made[0])


def test_every_link_leads_somewhere(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)


def test_every_image_has_its_words(made: tuple[str, str, Path]) -> None:
    images = Page(made[0]).all("img")
    assert len(images) == 2 * 2 * 4  # data sets, categories, kinds
    assert all(image["alt"] for image in images)
    assert any("ADTR 91.0, PaDiM 93.0 and kNN (SPADE-like) 81.0" in image["alt"] for image in images)
    assert any("1 normal and 2 anomalous test images" in image["alt"] for image in images)


def test_a_main_table_shows_mean_and_spread(made: tuple[str, str, Path]) -> None:
    texts = [[" ".join(cell.split()) for cell in row] for row in Page(made[0]).tables[1]]
    assert texts[0] == ["per cent", NASTY, "screw", "mean"]
    assert texts[1] == ["ADTR1–4", "91.0 ± 1.4", "92.0 ± 1.4", "91.5 ± 1.4"]
    assert texts[2][1] == "93.0 ± 1.4"


def test_every_number_of_the_main_tables_leads_to_its_runs(made: tuple[str, str, Path]) -> None:
    links = Page(made[0]).all("a", "data-runs")
    cells = 3 * (3 + 1) * 3  # experiments, metrics of both data sets, columns
    assert len(links[:cells]) == cells
    plan = study()
    model = {
        number: hashlib.sha256("/".join(map(str, run)).encode()).hexdigest()[:12]
        for number, run in enumerate(plan.runs(), 1)
    }
    first = {"category": links[0], "mean": links[2]}
    assert first["category"]["data-runs"] == "1 2"
    assert first["mean"]["data-runs"] == "1 2 3 4"
    for link in links:
        runs = [int(run) for run in link["data-runs"].split()]
        assert link["href"] == f"#run-{runs[0]}"
        assert re.findall(r"model (\w+)", link["title"]) == [model[run] for run in runs]
        for fact in (
            "commit c0331700c033",
            "code c0dec0dec0de",
            "data da7a",
            "weights 3e16",
            "device cpu",
            "time 2026",
        ):
            assert fact in link["title"]
        assert re.findall(r"run (\d+): ", link["title"].replace(", ", ": ")) == [str(run) for run in runs]


def test_the_table_of_runs_tells_each_in_full(made: tuple[str, str, Path]) -> None:
    page = Page(made[0])
    rows = [row for row in page.tables[-1] if row[0].isdigit()]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 25)]
    assert rows[0][1:8] == [NASTY, "0", "4", "12", "59,872", "1.5", "cpu"]
    assert rows[4][3] == "–"  # PaDiM has no epochs
    titles = [attrs["title"] for attrs in page.all("code", "title")]
    assert "da7a" * 16 in titles
    assert "c0de" * 4 + ", features " + "fea7" * 4 in titles


def test_the_best_of_a_column_is_bold_unless_all_print_alike(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    metrics = write_results(plan, results)
    screw = (metrics.category == "screw") & (metrics.metric == "image_auroc")
    rewrite_metrics(results, metrics.assign(value=metrics.value.where(~screw, 99.96 + metrics.seed / 1000)))
    page = Page(written(plan, results, tmp_path / "out")[0])
    best = [" best" in f" {attrs['class']}" for attrs in page.all("td", "data-value")][:9]
    assert best == [False, False, False, True, False, True, False, False, False]


def test_an_undefined_value_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    metrics = write_results(plan, results)
    lost = (metrics.experiment == "padim") & (metrics.category == "screw") & (metrics.metric == "image_auroc")
    metrics.loc[lost, ["value", "note"]] = [NAN, "undefined: no anomalous image"]
    rewrite_metrics(results, metrics)
    page, brief = written(plan, results, tmp_path / "out")
    cells = [" ".join(cell.split()) for cell in Page(page).tables[1][2]]
    assert cells == ["PaDiM5–8", "93.0 ± 1.4", "–", "–"]
    for text in (page, brief):
        assert "PaDiM, screw, seed 0 and 1: undefined: no anomalous image." in text
        assert "PaDiM and ADTR cannot be compared by image AUROC: the mean of PaDiM is undefined." in text


def test_a_data_set_without_masks_says_so(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    metrics = write_results(plan, results)
    rewrite_metrics(results, metrics[metrics.metric == "image_auroc"])
    page, brief = written(plan, results, tmp_path / "out")
    assert page.count("Not measured: the data set has no masks.") == 2  # pixel AUROC, AUPRO
    assert brief.count("Not measured: the data set has no masks.") == 2


def test_the_papers_tables_stand_only_beside_its_benchmarks(made: tuple[str, str, Path], tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    own = {name: dataset.model_copy(update={"benchmark": None}) for name, dataset in plan.datasets.items()}
    write_results(plan, results)
    page, brief = written(dataclasses.replace(plan, datasets=own), results, tmp_path / "out")
    assert "Ablation study" in made[0]
    assert "Ablation study" in made[1]
    assert "Ablation study" not in page + brief
    assert "Not shown: no data set of this study is one of the paper’s benchmarks" in page


# Bytes


def test_the_same_results_give_the_same_bytes(made: tuple[str, str, Path]) -> None:
    page, brief, folder = made
    again = written(study(), folder / "results/smoke", folder / "reports/again")
    assert again == (page, brief)


def test_the_brief_report_links_figures_that_exist(made: tuple[str, str, Path]) -> None:
    links = re.findall(r"\]\(([^)]*)\)", made[1])
    assert len(links) == 2 * 2 * 4
    assert all("%3Cb%3E%26001" in link or "screw" in link for link in links)
    names = {link.replace("%3C", "<").replace("%3E", ">").replace("%26", "&") for link in links}
    assert all((made[2] / "reports/smoke" / name).is_file() for name in names)


def test_the_brief_report_names_the_runs_of_each_row(made: tuple[str, str, Path]) -> None:
    assert "| ADTR | 91.0 ± 1.4 | 92.0 ± 1.4 | 91.5 ± 1.4 | 1–4 |" in made[1]


def test_a_bar_in_a_name_keeps_a_markdown_table_whole() -> None:
    assert report._table(["a"], [{"a": "x|y"}]).splitlines()[2] == r"| x\|y |"


def test_a_category_may_be_called_nan_or_001(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("category,seed,metric,value,note\n001,0,aupro,1.5,\nnan,0,aupro,,undefined: why\n")
    metrics = report.read_metrics(path)
    assert list(metrics.category) == ["001", "nan"]
    assert list(metrics.value.isna()) == [False, True]


# What must not be reported


def test_metrics_of_another_model_are_refused(tmp_path: Path) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    write_results(plan, results)
    path = results / "smoke_mvtec/padim/screw/1/run.json"
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
    "name", ["metrics.csv", "smoke_mvtec/adtr/screw/0/run.json", "figures/smoke_cifar10/screw-roc.png"]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    plan, results = study(), tmp_path / "results/smoke"
    write_results(plan, results)
    (results / name).unlink()
    with pytest.raises(UserError, match=re.escape(name)):
        written(plan, results, tmp_path / "out")
