"""How a study was run: its setting in sentences, warnings, and every parameter that is not the paper's."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from adtr.config.describe import description_of, meaning
from adtr.config.levels import flatten
from adtr.config.schema import FOLDERS, Dataset
from adtr.config.study import Plan
from adtr.data.sources import Source
from adtr.evaluate.bootstrap import reference_of
from adtr.report.runs import Row, written
from adtr.tables.render import DASH, Sheet, listed

AUTHORS = {  # of the data sets, by source; licences and pages are in params/sources.yaml
    "mvtec": "P. Bergmann et al., “MVTec AD”, CVPR 2019 and IJCV 2021",
    "mvtec_loco": "P. Bergmann et al., “Beyond Dents and Scratches”, IJCV 2022",
    "visa": "Y. Zou et al., “SPot-the-Difference”, ECCV 2022",
    "btad": "P. Mishra et al., “VT-ADL”, ISIE 2021",
    "kolektorsdd": "D. Tabernik et al., Journal of Intelligent Manufacturing 2020",
    "kolektorsdd2": "J. Božič et al., Computers in Industry 2021",
    "cifar10": "A. Krizhevsky, “Learning Multiple Layers of Features from Tiny Images”, 2009",
    "elpv": "C. Buerhop-Lutz et al., EU PVSEC 2018; S. Deitsch et al., Solar Energy 2019",
    "dagm": "competition of the DAGM symposium, 2007",
}
ELPV = {"licence": "CC BY-NC-SA 4.0", "page": "https://github.com/zae-bayern/elpv-dataset"}  # comes as a package
DAGM = {"licence": "see its page", "page": "https://zenodo.org/records/12750201"}  # is fetched by hand

VERIFIED = (
    "Verified: when a stage read a file that these numbers rest on, its sha256 was the one that the stage before had "
    "put down."
)


def about(plan: Plan, masked: Iterable[str]) -> list[str]:
    """What was run: experiments, recipe and seeds, and of each data set the features and the epochs.

    Args:
        masked: the data sets that were measured by pixels.
    """
    used, seeds = {experiment for _, experiment in plan.params}, plan.study.seeds
    names = listed(title for experiment, title in plan.titles.items() if experiment in used)
    one = "One seed only: how far another moves these numbers is not known."
    spread = one if len(seeds) == 1 else "± is the standard deviation over the seeds."
    runs = f"{names}. Recipe “{plan.study.recipe}”; seed {listed(seeds)}; {len(list(plan.runs()))} runs. {spread}"
    settings = [_setting(plan, name, name in masked) for name in plan.datasets]
    return [runs, *settings, VERIFIED]


def methods(plan: Plan) -> Sheet:
    """What each experiment is: its method, and its parameters that are not those of the reference, as text."""
    rows = []
    for experiment in dict.fromkeys(experiment for _, experiment in plan.params):
        variants = dict[tuple[str, str], list[str]]()  # with the data sets that they are run on
        for dataset, names in plan.study.datasets.items():
            if experiment in names:
                variant = description_of(plan.params[dataset, experiment].method), _changed(plan, dataset, experiment)
                variants.setdefault(variant, []).append(plan.datasets[dataset].title)
        for (method, changed), titles in variants.items():
            where = f" on {listed(titles)}" if len(variants) > 1 else ""
            rows.append([plan.titles[experiment] + where, method, changed])
    columns = ["experiment", "method", "parameters that differ from the reference’s, and the method’s own"]
    return Sheet("What each method is", pd.DataFrame(rows, columns=columns))


def _changed(plan: Plan, dataset: str, experiment: str) -> str:
    reference = reference_of(plan.study.datasets[dataset])
    if experiment == reference:
        return "the reference of the others"
    own, others = (flatten(plan.params[dataset, e].decisive(), "") for e in (experiment, reference))
    section = f"{plan.params[dataset, experiment].method}."
    keys = [key for key in own if key in others or key.startswith(section)]
    changed = [key for key in keys if key != "method" and others.get(key, [None])[0] != own[key][0]]
    return "; ".join(f"{key} {written(own[key][0])}" for key in changed) or DASH


def _setting(plan: Plan, name: str, masks: bool) -> str:
    """Features, epochs and scores of a data set: those of the reference, then the experiments with other features."""
    dataset, experiments = plan.datasets[name], plan.study.datasets[name]
    params = {plan.titles[e]: plan.params[name, e] for e in experiments}
    first = plan.params[name, reference_of(experiments)]
    features, side = first.features, first.score.pooling
    text = f"features of a frozen {features.backbone} with {features.weights} weights, from images of "
    text += f"{features.image_size} px, on a grid of {features.grid_size} × {features.grid_size} tokens"
    text += f", in {features.precision}" if features.precision != "float32" else ""
    others = [title for title, p in params.items() if p.features != features]
    text = text.replace("imagenet", "ImageNet") + (f" ({listed(others)}: others, see parameters)" if others else "")
    trained = [p for p in params.values() if p.trains and p.method != "adtr_plus"]
    epochs = listed(dict.fromkeys(p.train.epochs for p in trained))
    text += f"; networks trained for {epochs} epochs" if epochs else ""
    plus = {title: p.train.epochs for title, p in params.items() if p.method == "adtr_plus"}
    text += "".join(f", {title} for {count} more" for title, count in plus.items())
    text += f"; image score: {first.score.image_score} of the map, averaged over {side} × {side} tokens, "
    text += "or a method’s own"
    if masks:
        text += f"; pixel metrics at {features.image_size} px, AUPRO up to a false positive rate of "
        text += str(first.score.aupro_limit)
    elif dataset.layout in FOLDERS:
        text += "; no masks, so that nothing is measured by pixels"
    return f"{dataset.title}: {text}. {dataset.note}".strip()


def mixtures(runs: Iterable[Row]) -> list[str]:
    """Experiments whose runs were trained on different devices or in different precision."""
    devices = pd.DataFrame(runs).groupby(["experiment", "dataset"], sort=False).device.unique()
    return [
        f"Trained on different devices: {experiment} on {dataset} ({'; '.join(sorted(names))})."
        for (experiment, dataset), names in devices.items()
        if len(names) > 1
    ]


def warnings(plan: Plan) -> list[str]:
    """What keeps a study's numbers from being evidence."""
    random: dict[str, list[str]] = {}
    for (dataset, experiment), params in plan.params.items():
        if params.features.weights == "random":
            random.setdefault(plan.datasets[dataset].title, []).append(plan.titles[experiment])
    where = "; ".join(f"{dataset} ({listed(names)})" for dataset, names in random.items())
    generated = listed(dataset.title for dataset in plan.datasets.values() if dataset.generated)
    texts = [f"Random weights, a backbone that was never trained: {where}."] if where else []
    texts += [f"Images made by a program, for tests: {generated}."] if generated else []
    return [f"{text} The numbers test the software and nothing else." for text in texts]


def departures(plan: Plan) -> pd.DataFrame:
    """Every parameter that is not the paper's or, if the paper lacks it, not our default; and where, as text."""
    rows = []
    for pair, params in plan.params.items():
        names = {"experiments": plan.titles[pair[1]], "data sets": plan.datasets[pair[0]].title}
        for key, (value, _) in flatten(params.decisive(), "").items():
            paper = plan.paper[pair][key]
            row = {"parameter": key, "recipe": written(paper), "here": written(value), "changed": value != paper}
            rows.append(row | names)
    used = pd.DataFrame(rows)
    readers = used.groupby(["parameter", "data sets"]).experiments.agg(list)
    changed = used[used.changed].groupby(["parameter", "recipe", "here", "data sets"], sort=False)
    table = changed.experiments.agg(list).reset_index()
    keys = zip(table.parameter, table["data sets"], table.experiments, strict=True)
    table["experiments"] = [_all_but(readers[key, dataset], titles) for key, dataset, titles in keys]
    alike = table.groupby(["parameter", "recipe", "here", "experiments"], sort=False, as_index=False)
    table = alike["data sets"].agg(list)
    table["data sets"] = ["all" if len(names) == len(plan.datasets) else listed(names) for names in table["data sets"]]
    return table.assign(meaning=table.parameter.map(meaning))


def _all_but(titles: list[str], subset: list[str]) -> str:
    others = [title for title in titles if title not in subset]
    if not others and len(titles) > 1:
        return "all"
    return f"all but {listed(others)}" if 0 < len(others) < len(subset) else listed(subset)


def credits(plan: Plan, sources: Mapping[str, Source]) -> list[Row]:
    """The authors of the images that the report shows, and their licences."""
    return [{"title": dataset.title} | _credit(dataset, sources) for dataset in plan.datasets.values()]


def _credit(dataset: Dataset, sources: Mapping[str, Source]) -> Row:
    if dataset.generated:
        return {"by": "made by this program", "licence": "that of the program", "page": ""}
    if dataset.layout == "elpv":
        return {"by": AUTHORS["elpv"], **ELPV}
    if dataset.layout == "dagm" and Path(dataset.root) == Path("data/dagm"):
        return {"by": AUTHORS["dagm"], **DAGM}
    # A benchmark's images are its own wherever they lie
    name = dataset.layout if dataset.benchmark else _source(dataset, sources)
    if name not in sources:
        return {"by": "images of your own", "licence": "not known here", "page": ""}
    source = sources[name]
    return {"by": AUTHORS.get(name, ""), "licence": source.licence or "not known here", "page": source.page or ""}


def _source(dataset: Dataset, sources: Mapping[str, Source]) -> str:
    """The source that is unpacked where a data set lies; of several in one folder, the one of its layout's name."""
    places = [Path(dataset.root) / category for category in dataset.categories]
    for name, source in sources.items():
        own = source.kind == "archive" and all(place.is_relative_to(source.destination) for place in places)
        if own and (source.destination != "data" or name == dataset.layout):
            return name
    return ""
