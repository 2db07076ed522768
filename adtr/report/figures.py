"""The figures of a report: where they lie, their captions, and their pictures for each form of the report."""

import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from adtr.config.paths import Paths
from adtr.config.study import Run
from adtr.errors import UserError
from adtr.figures import dataset_kinds, explained, kinds_of
from adtr.figures.thumbnails import webp
from adtr.files import digest, saved
from adtr.records import Record, again
from adtr.report.runs import Row
from adtr.tables.render import listed

CAPTIONS = {  # the first sentence is the text in place of the picture
    "maps": "Test images and anomaly maps of {first}, seed {seed}. Sampled at even steps of their scores. All maps "
    "share the colour scale at the right.",
    "roc": "ROC curves, seed {seed}. Over all thresholds on the image score; nearer to the upper left is better, the "
    "grey line is chance.",
    "pro": "PRO curves, seed {seed}. Overlap with the defects against false positives among normal pixels, up to the "
    "limit of AUPRO; higher is better.",
    "training": "Training loss after each epoch, seed {seed}.{continued}{untrained}",
    "curve": "Metrics over the epochs, seed {seed}.{continued} The last epoch counts in the tables; none was selected "
    "by these curves.",
    "confetti": "Synthetic anomalies for the training of ADTR+. Normal images, copies with confetti, masks.",
    "dots": "Metrics by category{paper}. Means over the seeds; lines are 95 % intervals for other test images.",
    "tsne": "Feature differences of {explained}, seed {seed}, in a plane (t-SNE). Normal and anomalous tokens in equal "
    "numbers, coloured by their anomaly score.",
}
QUESTION_OF = {"dots": "against", "roc": "fails", "pro": "fails", "tsne": "fails"}  # sections of the page; "" is none
QUESTION_OF |= {"training": "ran", "curve": "ran", "confetti": "ran", "maps": ""}
BRIEF = ("dots", "tsne", "maps", "roc", "curve", "confetti")  # in the brief report and in print
PHOTOGRAPHS = ("maps", "confetti")  # the other kinds are drawings of few colours
WIDTH = 1800  # px at most, of a figure beside the report: twice what a screen shows


def of_dataset(paths: Paths, dataset: str, masks: bool) -> list[Row]:
    """The figures of a data set as a whole."""
    plan = paths.plan
    values = {"seed": plan.study.seeds[0], "explained": plan.titles.get(explained(plan, dataset) or "", "")}
    values["paper"] = ", the paper beside ours" if plan.datasets[dataset].benchmark else ""
    record = Record(paths.dataset_figures(dataset) / "record.json")
    kinds = [kind for kind in dataset_kinds(plan, dataset) if kind != "tsne" or masks]
    return _figures(kinds, record, plan.datasets[dataset].title, [dataset], values)


def of_category(paths: Paths, dataset: str, category: str, masks: bool) -> Row:
    """The figures of a category, and its numbers of test images."""
    plan, seed = paths.plan, paths.plan.study.seeds[0]
    experiments = plan.study.datasets[dataset]
    folder = paths.run(Run(dataset, experiments[0], category, seed))
    scores = Record(folder / "evaluation.json").table("scores.csv")
    labels = scores[scores.split == "test"].label
    params = {plan.titles[experiment]: plan.params[dataset, experiment] for experiment in experiments}
    starts = {title: plan.titles[p.adtr_plus.start] for title, p in params.items() if p.method == "adtr_plus"}
    continued = [f" {title} begins where {start} ends; its loss is another sum." for title, start in starts.items()]
    untrained = [title for title, p in params.items() if not p.trains]
    values = {
        "seed": seed,
        "first": plan.titles[experiments[0]],
        "continued": "".join(continued),
        "untrained": f" Fitted without epochs: {listed(untrained)}." if untrained else "",
    }
    record = Record(paths.category_figures(dataset, category) / "record.json")
    kinds = [kind for kind in CAPTIONS if kind in kinds_of(plan, dataset) and (kind != "pro" or masks)]
    figures = _figures(kinds, record, category, [dataset, category], values)
    counts = (int((labels == 0).sum()), int((labels == 1).sum()))
    return {"category": category, "seed": str(seed), "counts": counts, "figures": figures}


def _figures(kinds: Iterable[str], record: Record, subject: str, of: list[str], values: Row) -> list[Row]:
    """Those of these kinds that were drawn: without test images, not all are.

    Raises:
        UserError: the record is not that of the files beside it.
    """
    folder = record.path.parent
    others = {path.name for path in folder.iterdir() if path.name[0] != "."} - {record.path.name, *record.files}
    if others:
        raise UserError(f"{folder}: its record does not name {listed(sorted(others))}: {again(folder)}")
    return [_figure(kind, record, subject, of, values) for kind in kinds if f"{kind}.png" in record.files]


def _figure(kind: str, record: Record, subject: str, of: list[str], values: Row) -> Row:
    path = record.check(f"{kind}.png")
    drawn = {form: record.check(f"{kind}.{form}") for form in ("svg", "pdf") if kind not in PHOTOGRAPHS}
    caption = CAPTIONS[kind].format(**values)
    alt = f"{subject}: {caption.partition('. ')[0].rstrip('.')}"
    file = file_name(*of, kind) + (".jpg" if kind in PHOTOGRAPHS else ".png")
    names = {"kind": kind, "path": path, "drawn": drawn, "subject": subject, "question": QUESTION_OF[kind]}
    return names | {"caption": caption, "alt": alt, "file": f"figures/{file}"}


def file_name(*parts: str) -> str:
    """A name that LaTeX reads, of letters, digits, hyphens and underscores, and that no other parts have."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(parts))
    return name if all(re.fullmatch(r"\w+", part, re.ASCII) for part in parts) else f"{name}-{digest(parts)[:8]}"


def selection(sections: Iterable[Row]) -> list[Row]:
    """The few figures of the brief report and the print: of each data set, and of its first category with test images.

    `dataset` is the data set's name.
    """
    chosen = []
    for section in sections:
        first = next((of for of in section["categories"] if any(of["counts"])), section["categories"][0])
        figures = [*section["figures"], *first["figures"]]
        chosen += [figure | {"dataset": section["name"]} for figure in figures if figure["kind"] in BRIEF]
    return chosen


def small(kind: str, path: Path) -> bytes:
    """A small copy of a figure, which LaTeX reads as well: JPEG, or PNG of few colours."""
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    if pixels.width > WIDTH:
        pixels = pixels.resize((WIDTH, round(pixels.height * WIDTH / pixels.width)), Image.Resampling.LANCZOS)
    if kind in PHOTOGRAPHS:
        return saved(lambda file: pixels.save(file, "JPEG", quality=85, optimize=True))
    few = pixels.quantize(64, dither=Image.Dither.NONE)
    plain = len(few.getcolors() or []) <= 16  # packed in fewer bits, to which pdfTeX adds random ones
    return saved(lambda file: (pixels if plain else few).save(file, "PNG", optimize=True))


def embedded(figure: Row) -> str:
    """A photograph as a data URI of WebP, for the page."""
    with Image.open(figure["path"]) as image:
        pixels = image.convert("RGB")
    pixels.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    return "data:image/webp;base64," + webp(pixels, quality=60)
