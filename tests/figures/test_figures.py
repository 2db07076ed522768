"""Figures: files that open and are the same every time, and what they show, checked without looking."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
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
from matplotlib.lines import Line2D
from PIL import Image

from adtr import figures
from adtr.config.reader import read_yaml
from adtr.config.schema import Confetti
from adtr.config.study import Plan, resolve
from adtr.data.confetti import write_bank
from adtr.data.images import verified_masks
from adtr.data.manifest import index
from adtr.evaluate.measure import score, upsampled
from adtr.evaluate.metrics import aupro
from adtr.figures.category import Category, Run, spread
from adtr.figures.charts import SPAN, curve, pro, roc, training
from adtr.figures.dots import dots, panels
from adtr.figures.images import COPIES, confetti, extremes, gallery, maps, sample_of
from adtr.figures.look import ANOMALOUS, INK, LINE, NORMAL, save, scale_of, set_look
from adtr.figures.stage import KINDS, draw
from adtr.figures.thumbnails import MOST, contour, telling
from adtr.figures.tsne import embedded, pooled, possibility
from adtr.tables.colours import colours, is_grey
from adtr.tables.specs import read_specs

SIZE = 64
PARAMS = planted.REPOSITORY / "params"
NAMES = {"ADTR": "#D55E00", "ADTR+": "#C08600", "CNN": "#808080"}


def made_up(images: pd.DataFrame, seed: int) -> Run:
    """A run whose maps are noise, higher in anomalous images."""
    tested = images[images.split == "test"]
    rng = np.random.default_rng(seed)
    maps = (rng.random((len(tested), 8, 8)) + 0.4 * tested.label.to_numpy()[:, None, None]).astype(np.float32)
    scores = score(maps, tested, SIZE, planted.params().score)
    history = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.5 + seed]})
    metrics = ["image_auroc", "pixel_auroc"] * 2
    curve = pd.DataFrame({"epoch": [1, 1, 3, 3], "metric": metrics, "value": [70.0, 80, 75, 85]})
    title, colour = [*NAMES.items()][seed]
    return Run(title, colour, SIZE, scores, maps, history, curve, *(("ADTR", 3) if title == "ADTR+" else ()))


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test opened of pyplot's figures would stay open."""
    yield
    plt.close("all")


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
    always = {"roc", "training", "curve", "gallery", "maps"}
    assert set(figures.kinds_of(plan, "smoke_mvtec")) == always | {"pro", "confetti"}
    assert set(figures.kinds_of(plan, "smoke_cifar10")) == always  # its anomalies are outliers
    assert figures.dataset_kinds(plan, "smoke_mvtec") == ["dots", "tsne"]
    assert figures.dataset_kinds(plan, "smoke_cifar10") == ["dots"]
    assert "curve" not in figures.kinds_of(resolve("smoke", PARAMS, {"train.snapshots": 0}), "smoke_mvtec")
    assert set(KINDS) == always | {"pro", "confetti"}


# Files


def test_files_open(written: Path) -> None:
    names = {f"{kind}.{suffix}" for kind in KINDS for suffix in figures.SUFFIXES} | {"gallery.json"}
    names.add("record.json")
    assert {path.name for path in written.iterdir()} == names
    for path in written.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 200
    for path in written.glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_an_image_that_a_table_lists_twice_is_drawn_twice(screw: Category, tmp_path: Path) -> None:
    """As a VisA table may."""
    images = pd.concat([screw.images, screw.images[-1:]], ignore_index=True)
    draw(replace(screw, runs=[made_up(images, seed) for seed in range(3)], images=images), ["pro", "maps"], tmp_path)
    shown = [image["image"] for image in json.loads((tmp_path / "gallery.json").read_text())["images"]]
    assert sorted(shown) == sorted(images.image[images.split == "test"])


def test_without_test_images_only_what_needs_none_is_drawn(screw: Category, tmp_path: Path) -> None:
    runs = [replace(run, scores=run.scores[:0], maps=run.maps[:0]) for run in screw.runs]
    draw(replace(screw, runs=runs), KINDS, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"training.png", "confetti.png"}
    assert json.loads((tmp_path / "gallery.json").read_text())["images"] == []


def test_images_without_a_mask_leave_its_place_empty_and_do_not_count(screw: Category) -> None:
    images = screw.images.copy()
    marked = images.index[images["mask"] != ""]
    images.loc[marked[::2], "mask"] = ""
    some = replace(screw, images=images)
    known = images[images.split == "test"].index.isin([*marked[1::2], *images.index[images.label == 0]])
    expected = aupro(
        verified_masks(some.root, some.tested(), SIZE)[known], upsampled(some.runs[0].maps[known], SIZE), 0.3
    )
    assert f"ADTR  {100 * expected:.1f}" in pro(some).axes[0].get_legend_handles_labels()[1]
    drawn, whole = ([bool(axes.images) for axes in maps(of).axes] for of in (some, screw))
    lacking = (sample_of(some.tested())["label"] == 1) & (sample_of(some.tested())["mask"] == "")
    assert drawn.count(False) - whole.count(False) == lacking.sum() > 0
    plt.close("all")


def test_the_same_bytes_twice(screw: Category, written: Path, tmp_path: Path) -> None:
    kinds = ["roc", "curve", "maps"]
    draw(screw, kinds, tmp_path)
    for path in tmp_path.glob("*[!n]"):  # the record names fewer
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


def test_a_dollar_is_a_dollar_and_a_letter_without_a_font_stays_in_drawings(tmp_path: Path) -> None:
    """A browser may have the font."""
    set_look()
    figure, axes = plt.subplots()
    texts = ["cost $5 $6", "price_$$", "Я Ω \U000f0000"]
    for i, text in enumerate(texts):
        axes.text(0.1, 0.2 * i, text)
    with pytest.warns(UserWarning, match="missing from font"):
        save(figure, tmp_path, "x")
    drawn = (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert all(f">{text}</text>" in drawn for text in texts)
    assert ElementTree.parse(tmp_path / "x.svg")


def test_an_experiment_has_one_colour_and_at_most_seven_have_one() -> None:
    for study in ("paper", "screw", "smoke", "demo", "distance_elpv"):
        plan = resolve(study, PARAMS)
        of = colours(plan)
        assert of.keys() == {experiment for _, experiment in plan.params}
        assert len({colour.lower() for colour in of.values()}) == len(of)  # DVC's plots need it
        assert sum(not is_grey(colour) for colour in of.values()) == min(7, len(of))
        assert of.get("adtr", "#D55E00") == "#D55E00"


def test_colours_stand_out_from_a_light_and_a_dark_page() -> None:
    def luminance(colour: str) -> float:
        channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for colour in (*colours(resolve("paper", PARAMS)).values(), NORMAL, ANOMALOUS):
        for page in ("#ffffff", "#141619"):
            low, high = sorted([luminance(colour), luminance(page)])
            assert (high + 0.05) / (low + 0.05) >= 2.9, (colour, page)


def test_adtr_plus_begins_where_adtr_ends(screw: Category) -> None:
    for lines in (training(screw).axes[0].lines, curve(screw).axes[0].lines):
        adtr, plus = (next(points_of(each) for each in lines if each.get_label() == name) for name in ("ADTR", "ADTR+"))
        assert adtr[0].max() == 3
        assert plus[0].min() in (3, 4)
        assert plus[0].max() == 6
    assert plus[1][0] == adtr[1][-1]


def points_of(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def test_a_figure_is_text_of_a_font_and_colours_that_a_page_may_change(written: Path) -> None:
    svg = (written / "roc.svg").read_text()
    assert ">image AUROC, in %</text>" in svg
    assert INK in svg
    assert LINE in svg


# Curves


def test_the_area_under_the_drawn_pro_curve_is_aupro(screw: Category) -> None:
    axes = pro(screw).axes[0]
    masks = verified_masks(screw.root, screw.tested(), SIZE)
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


def test_several_grey_curves_share_a_line_of_the_legend(screw: Category) -> None:
    count = len(screw.runs)
    for greys in (1, 2, count):
        runs = [replace(run, colour="#787878" if i < greys else "#D55E00") for i, run in enumerate(screw.runs)]
        axes = roc(replace(screw, runs=runs)).axes[0]
        texts = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
        assert ("other experiments" in texts) == (greys > 1)
        assert len(texts) == (count - greys + 1 if greys > 1 else count)


def test_no_axis_of_per_cent_ends_far_above_100(screw: Category, smoke: Plan) -> None:
    runs = [
        replace(run, curve=run.curve.assign(value=run.curve.epoch.map({1: 40.0}).fillna(100.0))) for run in screw.runs
    ]
    panels_of_curve = curve(replace(screw, runs=runs)).axes
    drawn = dots(
        panels(smoke, "smoke_mvtec", summary_of_two().assign(mean=99.0, low=98.0, high=100.0), read_specs(PARAMS))
    )
    for axes, ends, ticks in [
        *((axes, axes.get_ylim(), axes.get_yticks()) for axes in panels_of_curve),
        *((axes, axes.get_xlim(), axes.get_xticks()) for axes in drawn.axes),
    ]:
        low, high = ends
        assert 100 < high <= 100 + 0.03 * (high - low), axes.get_ylabel()
        assert max(tick for tick in ticks if tick <= high) <= 100


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
    full, truth = upsampled(screw.runs[0].maps, SIZE), verified_masks(screw.root, screw.tested(), SIZE)
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
    assert [run["title"] for run in content["runs"]] == [*NAMES]
    for run, drawn in zip(screw.runs, content["runs"], strict=True):
        levels = np.frombuffer(base64.b64decode(drawn["maps"]), np.uint8).reshape(-1, 8, 8) / 255
        scale = scale_of(run)
        assert levels == pytest.approx(np.clip(scale(run.maps[places]), 0, 1), abs=0.005)


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


# Dots


def summary_of_two() -> pd.DataFrame:
    """ADTR's image AUROC is 80 on screw with an interval, ADTR+'s is 40 without one; both are 70 on carpet."""
    rows = [("adtr", "screw", 80.0, 75.0, 84.0), ("adtr_plus", "screw", 40, np.nan, np.nan)]
    rows += [(experiment, name, 70, 65, 75) for experiment in ("adtr", "adtr_plus") for name in ("carpet", "mean")]
    table = pd.DataFrame(rows, columns=["experiment", "category", "mean", "low", "high"])
    return table.assign(dataset="smoke_mvtec", metric="image_auroc")


def test_dots_have_intervals_and_the_papers_values_beside_them(smoke: Plan) -> None:
    found = panels(smoke, "smoke_mvtec", summary_of_two(), read_specs(PARAMS))
    assert list(found) == ["image AUROC"]
    table = found["image AUROC"].set_index(["category", "title"])
    assert table.printed["screw", "ADTR"] == 94.0
    assert table.printed["mean", "ADTR"] == pytest.approx((100 + 94.0) / 2)  # over carpet and screw
    assert table.colour["screw", "ADTR"] == colours(smoke)["adtr"]
    axes = dots(found).axes[0]
    ours = [each for each in axes.lines if each.get_color() == colours(smoke)["adtr"]]
    drawn = [(*x, *y) for x, y in map(points_of, ours)]
    height = next(line[1] for line in drawn if line[0] == 80)
    assert {(80, height), (75, 84, height, height), (94.0, height)} <= set(drawn)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["ADTR", "ADTR+"] * 3  # the mean, carpet, screw
    assert axes.get_xlim()[0] <= 40 < 50  # below chance is not cut


def test_a_data_set_that_the_paper_does_not_know_has_dots_of_its_own(smoke: Plan) -> None:
    datasets = {"smoke_mvtec": smoke.datasets["smoke_mvtec"].model_copy(update={"benchmark": None})}
    other = replace(smoke, datasets=datasets)
    table = panels(other, "smoke_mvtec", summary_of_two(), read_specs(PARAMS))["image AUROC"]
    assert table.printed.isna().all()
    one = summary_of_two().query("category != 'carpet'")
    assert set(panels(other, "smoke_mvtec", one, read_specs(PARAMS))["image AUROC"].category) == {"screw"}


def test_of_many_lines_grey_experiments_share_one() -> None:
    paper = resolve("paper", PARAMS)
    names = ["adtr", "no_query", "pixels", "resnet18", "last_layer", "no_attention"]
    rows = [(e, f"c{i}", 60.0 + i, 55.0, 70.0) for e in names for i in range(12)]
    many = pd.DataFrame(rows, columns=["experiment", "category", "mean", "low", "high"])
    many = many.assign(dataset="mvtec", metric="image_auroc")
    figure = dots(panels(paper, "mvtec", many, read_specs(PARAMS)))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"c{i}" for i in range(12)]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    greys = sum(is_grey(colours(paper)[name]) for name in names)
    assert greys > 0
    assert len(texts) == len(names) - greys + 1  # the last: other experiments
    assert "other experiments" in texts


# Feature differences


def test_figure_5_draws_from_all_categories_alike() -> None:
    marks = [np.arange(600) < 300] * 2
    chosen = pooled(marks, each=300)
    assert np.concatenate(marks)[chosen].sum() == 300
    assert len(chosen) == len(set(chosen)) == 600
    assert 250 < (chosen < 600).sum() < 350
    assert len(pooled([np.arange(600) < 5] * 2, 300)) == 20


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
