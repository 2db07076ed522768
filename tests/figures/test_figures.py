"""Figures: files that open and are the same every time, and what they show, checked without looking."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import planted
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image

from adtr import figures
from adtr.config.reader import read_yaml
from adtr.config.schema import Confetti
from adtr.config.study import Plan, resolve
from adtr.data.confetti import write_bank
from adtr.data.manifest import index
from adtr.evaluate.measure import score, upsampled
from adtr.evaluate.metrics import aupro
from adtr.figures.bars import bars, panels
from adtr.figures.category import Category, Run, spread
from adtr.figures.charts import SPAN, curve, line, pro, roc, training
from adtr.figures.images import COPIES, confetti, extremes, gallery, maps, sample_of
from adtr.figures.look import save, set_look
from adtr.figures.stage import KINDS, draw
from adtr.figures.thumbnails import MOST, contour, telling
from adtr.figures.tsne import embedded, pooled, possibility
from adtr.tables.specs import read_specs

SIZE = 64
PARAMS = planted.REPOSITORY / "params"
NAMES = ["ADTR", "ADTR+", "CNN"]


def made_up(images: pd.DataFrame, seed: int) -> Run:
    """A run whose maps are noise, higher in anomalous images."""
    tested = images[images.split == "test"]
    rng = np.random.default_rng(seed)
    maps = (rng.random((len(tested), 8, 8)) + 0.4 * tested.label.to_numpy()[:, None, None]).astype(np.float32)
    scores = score(maps, tested, SIZE, planted.params().score)
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.5 + seed]})
    metrics = ["image_auroc", "pixel_auroc"] * 2
    curve = pd.DataFrame({"epoch": [1, 1, 3, 3], "metric": metrics, "value": [70.0, 80, 75, 85]})
    return Run(NAMES[seed], SIZE, scores, maps, history, curve)


@pytest.fixture(scope="module")
def screw(mvtec_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Category:
    dataset = resolve("smoke", PARAMS).datasets["smoke_mvtec"]
    images = index(dataset.model_copy(update={"root": str(mvtec_root)}), "screw")
    folder = tmp_path_factory.mktemp("bank")
    params = Confetti.model_validate(read_yaml(planted.REPOSITORY / "params/default.yaml")["confetti"])
    bank = write_bank(images, mvtec_root, SIZE, params, folder), folder
    return Category("screw", [made_up(images, seed) for seed in range(3)], images, mvtec_root, 0.3, bank)


@pytest.fixture(scope="module")
def written(screw: Category, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    draw(screw, KINDS, folder)
    return folder


# Which figures there are


def test_kinds_follow_from_what_the_study_runs() -> None:
    plan = resolve("smoke", PARAMS)
    always = {"roc", "histogram", "training", "curve", "gallery", "maps"}
    assert set(figures.kinds_of(plan, "smoke_mvtec")) == always | {"pro", "confetti"}
    assert set(figures.kinds_of(plan, "smoke_cifar10")) == always  # its anomalies are outliers
    assert figures.dataset_kinds(plan, "smoke_mvtec") == ["bars", "tsne"]
    assert figures.dataset_kinds(plan, "smoke_cifar10") == ["bars"]
    assert "curve" not in figures.kinds_of(resolve("smoke", PARAMS, {"train.snapshots": 0}), "smoke_mvtec")
    assert set(KINDS) == always | {"pro", "confetti"}


def test_names_are_known_without_matplotlib() -> None:
    """Snakemake asks for them at every start."""
    code = "import sys, adtr.figures; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(planted.REPOSITORY)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# Files


def test_files_open(written: Path) -> None:
    names = {f"{kind}.{suffix}" for kind in KINDS for suffix in ("png", "svg")} | {"gallery.json"}
    names.add("record.json")
    assert {path.name for path in written.iterdir()} == names
    for path in written.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 200
    for path in written.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_same_bytes_twice(screw: Category, written: Path, tmp_path: Path) -> None:
    kinds = ["roc", "curve", "maps"]
    draw(screw, kinds, tmp_path)
    for path in tmp_path.glob("*[!n]"):  # the record names fewer
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_a_dollar_is_a_dollar_and_a_letter_without_a_font_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_look()
    figure, axes = plt.subplots()
    texts = ["cost $5 $6", "price_$$", "Я Ω \U000f0000"]
    drawn = [axes.text(0.1, 0.2 * i, text) for i, text in enumerate(texts)]
    save(figure, tmp_path, "x")
    assert [text.get_text() for text in drawn] == ["cost $5 $6", "price_$$", "Я Ω ?"]
    assert "no font here has '\\U000f0000'" in caplog.text
    assert ElementTree.parse(tmp_path / "x.svg")


def test_no_two_experiments_look_alike() -> None:
    looks = [(line(i)["color"], line(i)["linestyle"]) for i in range(28)]
    assert len(set(looks)) == 28


# Curves


def test_the_area_under_the_drawn_pro_curve_is_aupro(screw: Category) -> None:
    axes = pro(screw).axes[0]
    masks = screw.masks(SIZE)
    for run, shown in zip(screw.runs, axes.lines, strict=True):
        x, y = np.asarray(shown.get_xdata(), float), np.asarray(shown.get_ydata(), float)
        expected = aupro(masks, upsampled(run.maps, SIZE), 0.3)
        assert x[-1] == 30
        assert np.trapezoid(y, x) / 100 / 30 == pytest.approx(expected, abs=1e-3)
        assert shown.get_label() == f"{run.title}  {100 * expected:.1f}"


def test_a_legend_covers_no_curve(screw: Category) -> None:
    for make in (roc, pro, training, curve):
        figure = make(screw)
        figure.canvas.draw()
        axes = figure.axes[-1]
        assert axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1  # type: ignore[union-attr]


def test_the_curve_has_a_panel_a_metric_that_was_measured(screw: Category) -> None:
    assert [axes.get_ylabel() for axes in curve(screw).axes] == ["image AUROC, %", "pixel AUROC, %"]
    runs = [replace(run, curve=run.curve.query("metric == 'image_auroc'")) for run in screw.runs]
    figure = curve(replace(screw, runs=runs))
    assert [axes.get_ylabel() for axes in figure.axes] == ["image AUROC, %"]
    assert np.diff(figure.axes[0].get_ylim()) >= SPAN


def test_what_cannot_be_drawn_says_so(screw: Category) -> None:
    runs = [replace(run, history=run.history[:0], curve=run.curve[:0]) for run in screw.runs]
    for make, said in ((training, "trains in epochs"), (curve, "no snapshots")):
        figure = make(replace(screw, runs=runs))
        assert said in figure.axes[0].texts[0].get_text()


# Pictures


def images_of(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.images]


@pytest.mark.parametrize("make", [maps, gallery])
def test_all_maps_share_one_colour_scale(screw: Category, make: Callable[[Category], Figure]) -> None:
    drawn = [image for image in images_of(make(screw)) if image.get_cmap().name == "inferno"]
    limits = {image.get_clim() for image in drawn}
    assert len(drawn) >= 9
    assert limits == {(screw.runs[0].maps.min(), np.quantile(screw.runs[0].maps, 0.999))}


def test_the_maps_are_those_of_their_images(screw: Category) -> None:
    shown = images_of(maps(screw))
    chosen = sample_of(screw.tested())
    full, truth = upsampled(screw.runs[0].maps, SIZE), screw.masks(SIZE)
    assert len(shown) == 3 * len(chosen)
    for i, row in enumerate(chosen.index):
        assert (np.asarray(shown[len(chosen) + i].get_array()) == truth[row]).all()
        assert (np.asarray(shown[2 * len(chosen) + i].get_array()) == full[row]).all()


def scored(kinds: dict[str, int], *, masks: bool) -> pd.DataFrame:
    defects = [kind for kind, count in kinds.items() for _ in range(count)]
    scores = np.random.default_rng(0).permutation(len(defects)).astype(float)
    label = [int(kind != "good") for kind in defects]
    mask = ["m.png" if marked and masks else "" for marked in label]
    return pd.DataFrame({"defect": defects, "pred_score": scores, "label": label, "mask": mask})


@pytest.mark.parametrize(
    ("kinds", "counts"),
    [
        ({"good": 5, "a": 20, "b": 20}, {"good": 1, "a": 5, "b": 4}),
        ({"good": 5, "a": 20, "b": 1, "c": 2}, {"good": 1, "a": 6, "b": 1, "c": 2}),
        ({"good": 5, "a": 2}, {"good": 1, "a": 2}),
        ({"good": 3} | dict.fromkeys("abcdefghijkl", 4), {"good": 1} | dict.fromkeys("abcdefghijkl", 1)),
        ({"a": 3}, {"a": 3}),
    ],
    ids=["two kinds", "few of some", "fewer than columns", "more kinds than columns", "no normal image"],
)
def test_the_columns_cover_all_kinds_of_defect(kinds: dict[str, int], counts: dict[str, int]) -> None:
    shown = sample_of(scored(kinds, masks=True))
    assert shown.defect.value_counts().to_dict() == counts
    assert shown.index.is_unique


def test_without_masks_half_of_the_columns_are_normal() -> None:
    shown = sample_of(scored({"good": 30, "cat": 30, "dog": 9}, masks=False))
    assert list(shown.label) == [0] * 5 + [1] * 5


def test_images_are_spread_evenly_over_the_ranks() -> None:
    ranked = pd.DataFrame({"rank": range(100)})
    assert list(spread(ranked, 4)["rank"]) == [12, 37, 62, 87]
    assert list(spread(ranked[:3], 4)["rank"]) == [0, 1, 2]
    assert spread(ranked[:0], 4).empty


@pytest.mark.parametrize(("label", "scores"), [(1, [9, 8, 5, 4, 1, 0]), (0, [0, 1, 4, 5, 8, 9])])
def test_the_gallery_has_the_best_the_middle_and_the_worst(label: int, scores: list[int]) -> None:
    tested = pd.DataFrame({"label": label, "pred_score": range(10)})
    shown = extremes(tested, label, count=2)
    assert shown.pred_score.tolist() == scores
    assert shown.place.tolist() == ["best "] * 2 + ["middle "] * 2 + ["worst "] * 2
    assert extremes(tested[:2], label).pred_score.tolist() == sorted([0, 1], reverse=label == 1)


def test_confetti_shows_the_copy_below_its_source(screw: Category) -> None:
    assert screw.bank is not None
    pixels = [np.asarray(image.get_array()) for image in images_of(confetti(screw))]
    assert len(pixels) == 3 * COPIES
    for source, copy, mask in zip(pixels[:6], pixels[6:12], pixels[12:], strict=True):
        assert ((source != copy).any(axis=2) == mask).all()


# The gallery's data


def test_the_gallery_holds_pictures_contours_and_every_methods_maps(screw: Category, written: Path) -> None:
    assert (written / "gallery.json").stat().st_size < 150_000
    content, tested = json.loads((written / "gallery.json").read_text()), screw.tested()
    places = [tested.image.tolist().index(image["image"]) for image in content["images"]]
    assert len(set(places)) == len(places) == min(MOST, len(tested))
    for image, place in zip(content["images"], places, strict=True):
        assert Image.open(io.BytesIO(base64.b64decode(image["picture"]))).size == (SIZE, SIZE)
        assert bool(image["contour"]) == bool(tested.label[place])
    assert [run["title"] for run in content["runs"]] == NAMES
    for run, drawn in zip(screw.runs, content["runs"], strict=True):
        levels = np.frombuffer(base64.b64decode(drawn["maps"]), np.uint8).reshape(-1, 8, 8) / 255
        expected = np.clip(run.maps[places], drawn["low"], drawn["high"])
        assert drawn["low"] + levels * (drawn["high"] - drawn["low"]) == pytest.approx(expected, abs=0.005)


def test_the_first_images_of_the_gallery_tell_most() -> None:
    labels, kinds = [0] * 8 + [1] * 8, ["good"] * 8 + ["dent"] * 5 + ["hole"] * 3
    tested, first = pd.DataFrame({"label": labels, "defect": kinds}), np.arange(16.0)
    other = first.copy()
    other[[2, 13]] = 30, -1  # most wrong for both together: 13 among the anomalous, 2 among the normal ones
    order = telling(tested, [first, other])
    assert sorted(order) == [*range(16)]
    assert order[:3] == [8, 7, 15]  # the first method's lowest anomaly, its highest normal one, its clearest find
    assert {2, 13} < set(order[:10])
    assert {kinds[i] for i in order[:6]} == {"good", "dent", "hole"}


def test_a_contour_goes_around_each_region() -> None:
    mask = np.zeros((32, 32), bool)
    mask[4:10, 6:20], mask[28:, 28:] = True, True
    path = contour(mask)
    assert (path.count("M"), path.count("Z")) == (2, 2)
    numbers = [[int(n) for n in re.findall(r"\d+", part)] for part in path.split("Z")[:2]]
    sides = [(min(part[::2]), min(part[1::2]), max(part[::2]), max(part[1::2])) for part in numbers]
    assert [abs(a - b) <= 1 for a, b in zip(sides[0], (6, 4, 20, 10), strict=True)] == [True] * 4
    assert contour(np.zeros((8, 8), bool)) == ""


# Bars


METRICS = pd.DataFrame(
    [
        ("smoke_mvtec", experiment, "screw", seed, metric, value + seed)
        for experiment, value in (("adtr", 80.0), ("adtr_plus", 40.0))
        for metric in ("pixel_auroc", "image_auroc")
        for seed in (0, 1)
    ],
    columns=["dataset", "experiment", "category", "seed", "metric", "value"],
)


def test_bars_stand_beside_the_papers(smoke: Plan) -> None:
    found = panels(smoke, "smoke_mvtec", METRICS, read_specs(PARAMS))
    assert list(found) == ["pixel AUROC, %", "image AUROC, %"]
    table = found["pixel AUROC, %"]
    screw = table[table.category == "screw"]
    assert list(zip(screw.method, screw.printed, strict=True)) == [
        ("ADTR", True), ("ADTR", False), ("ADTR+", True), ("ADTR+", False)
    ]  # fmt: skip
    assert screw["mean"].tolist() == [99.3, 80.5, 99.3, 40.5]
    assert screw.sd.tolist()[1] == pytest.approx(0.5**0.5)
    assert table.category.nunique() == 15
    axes = bars(found).axes[0]
    heights = {round(patch.get_height() + 50, 1) for patch in axes.patches if isinstance(patch, Rectangle)}
    assert {99.3, 80.5, 40.5} <= heights  # of the paper, above chance, below it


def test_a_data_set_that_the_paper_does_not_know_has_its_own_bars() -> None:
    plan = resolve("smoke", PARAMS)
    plan.datasets["smoke_mvtec"] = plan.datasets["smoke_mvtec"].model_copy(update={"benchmark": None})
    found = panels(plan, "smoke_mvtec", METRICS, read_specs(PARAMS))
    assert [list(table.method) for table in found.values()] == [["ADTR", "ADTR+"]] * 2
    assert not any(table.printed.any() for table in found.values())


# Feature differences


def test_figure_5_draws_from_all_categories_alike() -> None:
    marks = [np.arange(600) < 300] * 2
    chosen = pooled(marks, each=300, seed=0)
    assert np.concatenate(marks)[chosen].sum() == 300
    assert len(chosen) == len(set(chosen)) == 600
    assert 250 < (chosen < 600).sum() < 350
    assert len(pooled([np.arange(600) < 5] * 2, 300, 0)) == 20


def test_possibility_is_the_score_between_its_percentiles() -> None:
    vectors = np.zeros((101, 4))
    vectors[:, 2] = -np.arange(101)
    found = possibility(vectors)
    assert found[[0, 1, 50, 99, 100]] == pytest.approx([0, 0, 0.5, 1, 1])


def test_the_plane_tells_clusters_apart_and_is_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32) + 20 * (np.arange(60) < 30)[:, None]
    points = embedded(vectors)
    assert (points == embedded(vectors)).all()
    middles = [points[:30].mean(axis=0), points[30:].mean(axis=0)]
    spread = max(points[:30].std(), points[30:].std())
    assert np.linalg.norm(middles[0] - middles[1]) > spread
