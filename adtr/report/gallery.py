"""What the page's gallery and threshold work with: every method's scores of all test images, pictures of some."""

import base64
import json
import math
import shlex
from operator import itemgetter

import matplotlib
import numpy as np
import pandas as pd

from adtr.config.paths import Paths
from adtr.config.study import Run
from adtr.figures.look import SCORES
from adtr.figures.thumbnails import CONTOUR, base64_of
from adtr.records import Record
from adtr.report import thresholds
from adtr.report.runs import Row, Runs
from adtr.tables.summary import row_order

IMAGES = 240  # with pictures, of all categories together, if each has EACH
EACH = (8, 32)  # of a category, at least and at most


def gallery(paths: Paths, runs: Runs) -> Row:
    """All of it, for JSON: colours of a map, and of each data set the methods and categories.

    Raises:
        UserError: a file is missing or damaged.
    """
    plan = paths.plan
    each = min(max(IMAGES // len([*plan.categories()]), EACH[0]), EACH[1])
    colours = (matplotlib.colormaps[SCORES](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    datasets = [
        {
            "title": plan.datasets[name].title,
            "methods": [plan.titles[experiment] for experiment in row_order(plan, name)],
            "categories": [*filter(None, (_category(paths, runs, name, c, each) for c in of.categories))],
        }
        for name, of in plan.datasets.items()
    ]
    datasets = [dataset for dataset in datasets if dataset["categories"]]
    return {"colours": base64_of(colours.tobytes()), "contour": CONTOUR, "datasets": datasets}


def _category(paths: Paths, runs: Runs, dataset: str, category: str, most: int) -> Row | None:
    """A category: kinds of images in the order of the scores, runs of all methods, images with their pictures.

    A kind is a defect, its label and the number of its images; `at` is an image's place in the order. None
    without test images.
    """
    plan, seed = paths.plan, paths.plan.study.seeds[0]
    shown = Record(paths.category_figures(dataset, category) / "record.json")
    pictures = json.loads(shown.read("gallery.json"))
    if not pictures["images"]:
        return None
    maps = {run["title"]: run for run in pictures["runs"]}
    entries, order = [], pd.DataFrame()
    for experiment in row_order(plan, dataset):
        folder, title = paths.run(Run(dataset, experiment, category, seed)), plan.titles[experiment]
        evaluation = Record(folder / "evaluation.json")
        scores = evaluation.table("scores.csv", dtype=str, keep_default_na=False)
        order = scores[scores.split == "test"].sort_values(["label", "defect", "image"], kind="stable")
        values = np.array([float(text or "nan") for text in order.pred_score], np.float32)
        calibration = evaluation.table("calibration.csv").pred_score.to_numpy(np.float32)
        asked = plan.params[dataset, experiment].threshold.false_alarms
        start, basis = thresholds.start((order.label == "1").to_numpy(), values, calibration, asked)
        run, drawn = runs[dataset, experiment, category, str(seed)], maps[title]
        entry = {"number": run["number"], "path": shlex.quote(str(folder)), "start": start, "basis": basis}
        size = drawn["grid"] ** 2 * min(most, len(pictures["images"]))
        cut = base64_of(base64.b64decode(drawn["maps"])[:size])
        entries.append(entry | {"scores": base64_of(values.tobytes()), "grid": drawn["grid"], "maps": cut})
    places = {image: place for place, image in enumerate(order.image)}
    images = [image | {"at": places[image["image"]]} for image in pictures["images"][:most]]
    kinds = [[defect, int(label), len(of)] for (label, defect), of in order.groupby(["label", "defect"], sort=False)]
    return {"name": category, "side": pictures["side"], "kinds": kinds, "runs": entries, "images": images}


def examples(content: Row) -> list[Row]:
    """A clear find, a narrow one and a failure of the first data set's first method, of the images with pictures.

    By the order of the scores, as a threshold may be one that separates nothing: an anomalous image is found if its
    score is above those of all normal test images of its category. How far is counted in standard deviations of the
    category's scores.
    """
    found = list[Row]()
    for place, category in enumerate(content["datasets"][0]["categories"] if content["datasets"] else []):
        scores = np.frombuffer(base64.b64decode(category["runs"][0]["scores"]), np.float32)
        labels = np.repeat([label for _, label, _ in category["kinds"]], [count for *_, count in category["kinds"]])
        normal = scores[(labels == 0) & ~np.isnan(scores)]
        anomalous = [(at, image) for at, image in enumerate(category["images"]) if labels[image["at"]]]
        for at, image in anomalous if len(normal) else []:
            score = float(scores[image["at"]])
            below, deviation = int((normal < score).sum()), max(float(np.nanstd(scores)), 1e-12)
            share = f"all {below}" if below == len(normal) else f"{below} of {len(normal)}"
            far = (score - float(normal.max())) / deviation
            one = {"category": place, "at": at, "picture": image["picture"], "far": far}
            name, text = image["image"], f"score {score:.4g}, above {share} normal images"
            name = name if name.startswith(f"{category['name']}/") else f"{category['name']}, {name}"
            found.append(one | {"name": name, "text": text})
    ranked = sorted((one for one in found if not math.isnan(one["far"])), key=itemgetter("far"))
    hits, misses = ([one for one in ranked if (one["far"] > 0) is hit] for hit in (True, False))
    best = "A clear find" if hits else "The highest anomalous score"
    chosen = [{"title": best} | one for one in ranked[-1:]]
    chosen += [{"title": "A narrow find"} | one for one in hits[:-1][:1]]
    return chosen + [{"title": "A failure"} | one for one in misses[:1] if one is not ranked[-1]]
