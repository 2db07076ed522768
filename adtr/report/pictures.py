"""The figures of a report: where they lie, what one sees in them, and their pictures as its forms need them.

Of each kind there is a caption, for who sees it, and a text in its place, for who does not.
"""

import base64
import io
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from adtr.config.study import Plan, run_folder
from adtr.errors import UserError
from adtr.figures import dataset_kinds, explained, kinds_of
from adtr.files import written_atomically
from adtr.report.runs import Row, Runs
from adtr.tables.paper import listed
from adtr.tables.summary import METRICS

ALTS = {
    "maps": "{category}: {first} on test images of every kind, seed {seed}: the images{truth} and the anomaly maps",
    "roc": "ROC curves on {category}, seed {seed}; image AUROC in per cent: {image_auroc}",
    "pro": "PRO curves on {category}, seed {seed}; AUPRO in per cent: {aupro}",
    "histogram": "Histograms of the image scores on {category}, seed {seed}: {experiments}, {images}",
    "training": "Training loss on {category}, seed {seed}; from the first epoch to the last: {losses}",
    "curve": "Metrics over the epochs on {category}, seed {seed}; {curves}",
    "gallery": "{category}: best, middle and worst scored of {images}, with the anomaly maps of {first}, seed {seed}",
    "confetti": "{category}: normal training images, their copies with confetti noise, and the masks of the noise",
    "bars": "Bars of {dataset} by category{paper}; {means}",
    "tsne": "Feature difference vectors of {explained} on {dataset}, seed {seed}, laid in a plane by t-SNE: circles "
    "are normal and triangles anomalous tokens, coloured by their anomaly score",
}
CAPTIONS = {
    "maps": "Test images and anomaly maps of {first}, seed {seed}, chosen at even steps of their scores. All maps "
    "share the colour scale at the right.",
    "roc": "ROC curves, seed {seed}, over all thresholds on the image score. Nearer to the upper left is better; the "
    "grey line is chance.",
    "pro": "Overlap with the defects against falsely found normal pixels, seed {seed}, up to the limit of AUPRO. "
    "Higher is better.",
    "histogram": "Image scores, seed {seed}, in per cent of the normal and of the anomalous test images; the last bin "
    "also holds the highest half per cent. The less the two overlap, the better.",
    "training": "Training loss after each epoch, seed {seed}.{continued}{untrained}",
    "curve": "Metrics of the models kept on the way, seed {seed}.{continued} The last epoch counts in the tables; none "
    "was chosen by these curves.",
    "gallery": "Test images and anomaly maps of {first}, seed {seed}: of the anomalous and of the normal images those "
    "scored best, in the middle and worst. Above each its score; below it its mask, where there is one, and its map.",
    "confetti": "Synthetic anomalies that ADTR+ is trained with: normal images, copies with confetti, masks.",
    "bars": "By category{paper}, from chance upwards; thin lines are the standard deviation over the seeds, where "
    "there are several.",
    "tsne": "Feature differences of {explained}, seed {seed}, in a plane (t-SNE): normal tokens and anomalous ones in "
    "equal numbers, coloured by their anomaly score.",
}
PHOTOGRAPHS = ("maps", "gallery", "confetti")  # the other kinds are drawings of few colours
WIDTH = 1100  # px, of what a committed report shows
VERDICTS = ["true positive", "false negative", "false positive", "true negative"]


def of_dataset(plan: Plan, dataset: str, metrics: pd.DataFrame, results: Path) -> list[Row]:
    """The figures of a data set as a whole."""
    summary = metrics[(metrics.dataset == dataset) & metrics.metric.isin(["image_auroc", "pixel_auroc"])]
    grouped = summary.groupby(["metric", "experiment"], sort=False).value.mean()
    printed = bool(plan.datasets[dataset].benchmark)
    shown = {key: value for key, value in grouped.items() if not printed or key[1] in ("adtr", "adtr_plus")}
    means = listed(f"{plan.titles[e]} {METRICS[metric]} {value:.1f}" for (metric, e), value in shown.items())
    told = {"dataset": plan.datasets[dataset].title, "seed": plan.study.seeds[0], "means": f"ours, mean: {means}"}
    told["paper"] = ", the paper beside ours" if printed else ""
    told["explained"] = plan.titles.get(explained(plan, dataset) or "", "")
    folder = results / "figures"
    kinds = [kind for kind in dataset_kinds(plan, dataset) if kind != "tsne" or has_masks(metrics, dataset)]
    return [_figure(kind, folder / f"{dataset}-{kind}.png", told) for kind in kinds]


def has_masks(metrics: pd.DataFrame, dataset: str) -> bool:
    """Whether anything was measured by pixels."""
    return bool(((metrics.dataset == dataset) & (metrics.metric == "pixel_auroc")).any())


def of_category(plan: Plan, dataset: str, category: str, metrics: pd.DataFrame, runs: Runs, results: Path) -> Row:
    """The figures of a category, with the names and numbers that say what one sees in them, and its gallery."""
    seed, names = str(plan.study.seeds[0]), {e: plan.titles[e] for e in plan.study.datasets[dataset]}
    folders = {names[e]: run_folder(results, dataset, e, category, seed) for e in names}
    first = next(iter(names))
    labels = pd.read_csv(folders[names[first]] / "scores.csv").query("split == 'test'").label
    losses = {title: pd.read_csv(folder / "history.csv").loss for title, folder in folders.items()}
    measured = metrics[(metrics.dataset == dataset) & (metrics.category == category) & (metrics.seed == seed)]
    told = {
        "dataset": plan.datasets[dataset].title,
        "category": category,
        "seed": seed,
        "first": names[first],
        "experiments": listed(names.values()),
        "counts": (int((labels == 0).sum()), int((labels == 1).sum())),
        "images": f"{(labels == 0).sum()} normal and {(labels == 1).sum()} anomalous test images",
        "image_auroc": _values(measured, "image_auroc", names),
        "aupro": _values(measured, "aupro", names),
        "losses": listed(f"{e} {loss.iloc[0]:.3g} to {loss.iloc[-1]:.3g}" for e, loss in losses.items() if len(loss)),
        "continued": _continued(plan, dataset),
        "untrained": _untrained([e for e, loss in losses.items() if loss.empty]),
        "curves": _curves(folders),
    }
    folder, kinds = results / "figures" / dataset, kinds_of(plan, dataset)
    of_pixels = (measured.metric == "pixel_auroc").any()
    told["truth"] = ", their ground truth" if of_pixels else ""
    drawn = [kind for kind in ALTS if kind in kinds and (kind != "pro" or of_pixels)]
    shown = [_figure(kind, folder / f"{category}-{kind}.png", told) for kind in drawn]
    gallery = _gallery(folder / f"{category}-gallery.json", runs[dataset, first, category, seed])
    counts = {"sampled": len(gallery["images"]), "tested": len(labels)}
    return told | counts | {"figures": shown, "gallery": gallery}


def _figure(kind: str, path: Path, told: Row) -> Row:
    if not path.is_file():
        raise UserError(f"{path}: no such file: `adtr figures` draws it")
    return {"kind": kind, "path": path, "alt": ALTS[kind].format(**told), "caption": CAPTIONS[kind].format(**told)}


def _values(measured: pd.DataFrame, metric: str, names: dict[str, str]) -> str:
    values = measured[measured.metric == metric].set_index("experiment").value
    return listed(f"{names[e]} {value:.1f}" for e, value in values.items())


def _continued(plan: Plan, dataset: str) -> str:
    starts = {e: plan.params[dataset, e].adtr_plus.start for e in plan.study.datasets[dataset]}
    plus = {e: start for e, start in starts.items() if plan.params[dataset, e].method == "adtr_plus"}
    told = [
        f" The epochs of {plan.titles[e]} count from the end of {plan.titles[start]}; its loss is another sum."
        for e, start in plus.items()
    ]
    return "".join(told)


def _untrained(names: list[str]) -> str:
    return f" Without epochs: {listed(names)}." if names else ""


def _curves(folders: dict[str, Path]) -> str:
    """The metrics after the first kept model and after the last, of each experiment that has several."""
    found = []
    for title, folder in folders.items():
        curve = pd.read_csv(folder / "curve.csv")
        for metric in ("pixel_auroc", "image_auroc"):
            values = curve[curve.metric == metric]
            if len(values) > 1 and values.value.notna().all():
                ends = f"{values.value.iloc[0]:.1f} after {values.epoch.iloc[0]} to {values.value.iloc[-1]:.1f}"
                found.append(f"{title} {METRICS[metric]} {ends} after {values.epoch.iloc[-1]}")
                break
    return listed(found)


def _gallery(path: Path, run: Row) -> Row:
    """The gallery's data, with the run that gave the scores."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}): `adtr figures` makes it") from None
    order = {verdict: place for place, verdict in enumerate(VERDICTS)}
    images = sorted(content["images"], key=lambda image: (order.get(image["verdict"], 9), -image["score"]))
    return content | {"images": images, "run": run}


# Pictures


@cache
def embedded(kind: str, path: Path) -> str:
    """A picture as a data URI: photographs as lossy WebP, drawings as lossless WebP."""
    with Image.open(path) as image:
        pixels, buffer = image.convert("RGB"), io.BytesIO()
        if kind in PHOTOGRAPHS:
            pixels.save(buffer, "WEBP", quality=82, method=4)
        else:
            few = pixels.quantize(256, dither=Image.Dither.NONE).convert("RGB")
            few.save(buffer, "WEBP", lossless=True, quality=50, method=3)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def chosen(sections: Iterable[Row], most: int = 12) -> list[Row]:
    """The few figures that the brief report and the print show: of each data set, then of its first category.

    The kinds that say most come first, so that of many data sets each has a share.
    """
    ranked = ["bars", "maps", "curve", "tsne", "roc", "confetti", "histogram", "pro", "training"]
    found = []
    for place, section in enumerate(sections):
        first = section["categories"][0]
        own = [figure | {"category": "", "name": section["name"]} for figure in section["figures"]]
        name = f"{section['name']}-{first['category']}"
        own += [figure | {"category": first["category"], "name": name} for figure in first["figures"]]
        found += [(ranked.index(figure["kind"]), place, figure) for figure in own if figure["kind"] in ranked]
    kept = sorted(found, key=lambda item: item[:2])[:most]
    return [figure | {"section": place} for _, place, figure in sorted(kept, key=lambda item: (item[1], item[0]))]


def copied(figure: Row, folder: Path) -> Path:
    """Writes a small copy of a figure for a committed report, which LaTeX reads as well: JPEG or PNG of few colours."""
    with Image.open(figure["path"]) as image:
        pixels = image.convert("RGB")
    if pixels.width > WIDTH:
        pixels = pixels.resize((WIDTH, round(pixels.height * WIDTH / pixels.width)), Image.Resampling.LANCZOS)
    photograph = figure["kind"] in PHOTOGRAPHS
    path = folder / (file_name(f"{figure['name']}-{figure['kind']}") + (".jpg" if photograph else ".png"))
    with written_atomically(path) as part:
        if photograph:
            pixels.save(part, "JPEG", quality=85, optimize=True)
        else:
            few = pixels.quantize(64, dither=Image.Dither.NONE)
            plain = (
                len(few.getcolors() or []) <= 16
            )  # Pillow packs these in fewer bits, to which pdfTeX adds random ones
            (pixels if plain else few).save(part, "PNG", optimize=True)
    return path


def file_name(name: str) -> str:
    """A name that Markdown, LaTeX and every file system take as it is."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name)
