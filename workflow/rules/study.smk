# The study: what it runs, with which parameters, and where its files lie.
# From the command line: --config study=demo set="train.epochs=5 train.lr=1e-3"

import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

from adtr.config.schema import as_options
from adtr.data.manifest import category_of, fingerprint, parts_of, root_of
from adtr.errors import UserError
from adtr.figures import (
    SUFFIXES,
    all_files,
    category_files,
    confetti_of,
    explained,
)
from adtr.tables.plots import FILES as PLOT_FILES
from adtr.provenance import code_digest
from adtr.data.sources import read_sources
from adtr.config.study import (
    bank_key,
    data_key,
    differences_file,
    feature_key,
    parse_settings,
    resolve,
    run_folder,
)
from adtr.tables.summary import misfits
from adtr.tables.stage import table_names

STUDY = str(config.get("study", "paper"))
SETTINGS = str(config.get("set", ""))
unknown = sorted(set(config) - {"study", "set"})
if unknown:
    raise WorkflowError(
        f"--config takes study=NAME and set='SECTION.NAME=VALUE …', not {', '.join(unknown)}"
    )
try:
    PLAN = resolve(STUDY, settings=parse_settings(SETTINGS))
except UserError as error:
    raise WorkflowError(str(error))

DATASETS = PLAN.datasets | PLAN.outliers
KEY_OF = {name: data_key(name, dataset) for name, dataset in DATASETS.items()}
DATA = {KEY_OF[name]: dataset for name, dataset in DATASETS.items()}  # by key
PLUS = [params for params in PLAN.params.values() if params.method == "adtr_plus"]
BANKS = {bank_key(params): params for params in PLUS}
RESULTS = f"results/{STUDY}"
OF_RUN = ("{dataset}", "{experiment}", "{category}", "{seed}")
RUN = str(run_folder(Path(RESULTS), *OF_RUN))
DIFFERENCES = str(differences_file(Path(RESULTS), *OF_RUN))
STATE = str(Path("state", STUDY, *OF_RUN))
STUDY_OPTIONS = f"--study {STUDY}" + (
    f" --set {shlex.quote(SETTINGS)}" if SETTINGS else ""
)
DRY_RUN = any(
    re.fullmatch("--dry-?run|-[a-zA-Z]*n[a-zA-Z]*", word) for word in sys.argv
)
TOUCH = any(re.fullmatch("--touch|-[a-zA-Z]*t[a-zA-Z]*", word) for word in sys.argv)
SOURCES = read_sources(Path("params/sources.yaml"))
VERSIONS = {
    name: version(name).partition("+")[0]
    for name in ("torch", "numpy", "pillow", "efficientnet-pytorch")
}
ENVIRONMENT = "../../environment.yml"
TABLE_CAPTION, FIGURE_CAPTION = "../report/tables.rst", "../report/figures.rst"


wildcard_constraints:
    dataset="|".join(DATASETS),
    data="|".join(DATA),
    experiment="|".join(sorted({experiment for _, experiment in PLAN.params})),
    category=r"[^/]+",
    part=r"[^/]+",
    bank=r"[^/]+",
    key=r"[^/]+",
    seed=r"\d+",


def experiments(trained):
    """A pattern of the experiments whose networks are trained, or of all others; one that nothing matches if none."""
    found = {
        e
        for (_, e), params in PLAN.params.items()
        if ("train" in params.method_sections()) == trained
    }
    return "|".join(sorted(found)) or "(?!)"


def params_of(wildcards):
    """The resolved parameters of an experiment on a data set."""
    return PLAN.params[wildcards.dataset, wildcards.experiment]


def manifest_of(wildcards):
    return f"results/manifests/{KEY_OF[wildcards.dataset]}/{wildcards.category}.csv"


def stores_of(wildcards, parts=None):
    """The feature stores that a run reads, all parts of its category or the first of them."""
    key = feature_key(params_of(wildcards).features)
    layout = PLAN.datasets[wildcards.dataset].layout
    chosen = parts_of(layout, wildcards.category)[slice(parts)]
    return [
        f"results/features/{KEY_OF[wildcards.dataset]}/{key}/{part}.npy"
        for part in chosen
    ]


def start_of(wildcards):
    """What ADTR+ goes on from: the model of a finished run of the same category and seed."""
    params = params_of(wildcards)
    run = RUN.format(**dict(wildcards) | {"experiment": params.adtr_plus.start})
    plus = params.method == "adtr_plus"
    return [f"{run}/{name}" for name in ("run.json", "model.safetensors") if plus]


def bank_of(wildcards):
    """The manifest and the feature store of the anomalies that ADTR+ is trained with."""
    params = params_of(wildcards)
    if params.method != "adtr_plus":
        return []
    bank, features = bank_key(params), feature_key(params.features)
    data, part, kind = KEY_OF[wildcards.dataset], wildcards.category, "confetti"
    if params.adtr_plus.anomalies == "outliers":
        data, part, kind = KEY_OF[params.outliers.dataset], "outliers", "outliers"
    return [
        f"results/{kind}/{data}/{bank}/{part}.csv",
        f"results/features/{data}/{features}/{bank}/{part}.npy",
    ]


def inputs_of(dataset, experiment, category):
    """The manifests and feature stores that a run is made of."""
    of = SimpleNamespace(dataset=dataset, experiment=experiment, category=category)
    bank = bank_of(of)
    stores = stores_of(of) + bank[1:]
    about = [store.removesuffix(".npy") + ".json" for store in stores]
    return [manifest_of(of), *bank[:1], *stores, *about]


def bank_manifest(wildcards):
    kind = BANKS[wildcards.bank].adtr_plus.anomalies
    return f"results/{kind}/{wildcards.data}/{wildcards.bank}/{wildcards.part}.csv"


def root_of_images(wildcards):
    """The folder that a manifest's images lie in: confetti is made here."""
    bank = dict(wildcards).get("bank")
    if bank and BANKS[bank].adtr_plus.anomalies == "confetti":
        return f"results/confetti/{wildcards.data}/{bank}"
    return DATA[wildcards.data].root


def origin_options(start, bank):
    """What `adtr train` is to know of the run and the anomalies that ADTR+ starts with."""
    if not start:
        return ""
    return f"--start {Path(start[0]).parent} --bank {bank[0]} --bank-features {bank[1]}"


def drawn_runs(wildcards):
    """The files of the runs that a category's figures show, and the confetti."""
    dataset, seed = wildcards.dataset, PLAN.study.seeds[0]
    noisy = confetti_of(PLAN, dataset)
    bank = noisy and bank_key(PLAN.params[dataset, noisy])
    confetti = f"results/confetti/{KEY_OF[dataset]}/{bank}/{wildcards.category}.csv"
    files = ("scores.csv", "maps.npy", "history.csv", "curve.csv")
    places = [
        RUN.format(**dict(wildcards) | {"experiment": experiment, "seed": seed})
        for experiment in PLAN.study.datasets[dataset]
    ]
    drawn = [f"{place}/{name}" for place in places for name in files]
    return drawn + [confetti] * bool(noisy)


def category_figures(dataset):
    """All that is drawn of a category, a pattern."""
    files = category_files(PLAN, dataset, "{category}")
    return [f"{RESULTS}/figures/{{dataset}}/{name}" for name in files]


def dataset_figures(kind):
    """What is drawn of a data set, a pattern."""
    return [f"{RESULTS}/figures/{{dataset}}-{kind}.{suffix}" for suffix in SUFFIXES]


def in_report(paths, suffix, **marks):
    """The files, those with the suffix marked for `snakemake --report`."""
    return [report(path, **marks) if path.endswith(suffix) else path for path in paths]


def difference_files(wildcards):
    """The feature differences that Figure 5 pools, of every category."""
    dataset, seed = wildcards.dataset, PLAN.study.seeds[0]
    experiment = explained(PLAN, dataset)
    return [
        DIFFERENCES.format(
            dataset=dataset, experiment=experiment, category=category, seed=seed
        )
        for category in PLAN.datasets[dataset].categories
    ]


def runs(pattern):
    """`pattern` for every run of the study."""
    return [
        pattern.format(dataset=d, experiment=e, category=c, seed=s)
        for d, e, c, s in PLAN.runs()
    ]


def tell_missing_data():
    """Tells what data is missing, all at once, and stops before the first job; a data set once indexed may be gone."""
    wanted = [
        dataset
        for key, dataset in DATA.items()
        if not dataset.generated
        and not Path(f"results/manifests/{key}").is_dir()
        and not Path(f"results/outliers/{key}").is_dir()
    ]
    missing = [
        f"{dataset.title}: {root_of(dataset.root)}"
        for dataset in wanted
        if not root_of(dataset.root).is_dir()
    ]
    if missing and DRY_RUN:
        logger.warning("\n  ".join(["Missing yet:", *missing]))
    elif missing:
        advice = "`adtr fetch` gets MVTec-AD and CIFAR; or set the `root` of the data set in params/datasets.yaml"
        raise WorkflowError(
            "\n  ".join(["these folders are missing:", *missing, advice])
        )


def stop_touching_misfits():
    """Refuses to record runs of other parameters as those that are asked for."""
    if other := next(misfits(PLAN, Path(RESULTS)), None):
        raise WorkflowError(
            f"runs of other parameters, such as {other}, cannot be taken for these.\n"
            f"  `adtr prune --study {STUDY}` removes them; or ask with the parameters that they were made with"
        )


def stop_with_unknown_results():
    """Refuses runs that were brought here without Snakemake's records: it would take them for whatever is asked for."""
    records = Path(".snakemake/metadata")
    known = records.is_dir() and any(records.iterdir())
    found = Path(RESULTS, "runs").is_dir() and any(Path(RESULTS, "runs").iterdir())
    if workflow.is_main_process and found and not known and not TOUCH:
        raise WorkflowError(
            f"{RESULTS}/runs was not made here. If it is of these parameters and this code, say so first:\n"
            f"  snakemake all_runs all_tables plots figures report --forceall --touch --config study={STUDY}\n"
            "and if not, remove it. (`dvc exp run --temp` and `--queue` copy it, and do not work here.)"
        )


def generated(wildcards):
    """The mark of generated images, nothing for real ones."""
    name = next(name for name, key in KEY_OF.items() if key == wildcards.data)
    return f"results/generated/{name}/.done" if DATA[wildcards.data].generated else []


def index_params(wildcards):
    dataset, names = DATA[wildcards.data], ("layout", "root", "seed", "train_share")
    words = [
        f"--{name.replace('_', '-')} {shlex.quote(str(getattr(dataset, name)))}"
        for name in names
    ]
    return " ".join(words)


def manifest_with(wildcards):
    """The manifest of a category that holds the part."""
    return f"results/manifests/{wildcards.data}/{category_of(DATA[wildcards.data].layout, wildcards.part)}.csv"


def weights_of(features):
    """The checksum that the weights must have; those of a package carry it in their file's name."""
    source = SOURCES.get(features.backbone)
    return (
        source.sha256 if source and features.weights != "random" else features.weights
    )


def features_of_key(wildcards):
    return next(
        p.features
        for p in PLAN.params.values()
        if feature_key(p.features) == wildcards.key
    )


def method_options(wildcards):
    params = params_of(wildcards)
    return as_options(*(getattr(params, name) for name in params.method_sections()))


def train_threads(wildcards):
    params = params_of(wildcards)
    return params.train.threads if "train" in params.method_sections() else 1


def table_files(*names):
    return expand(
        f"{RESULTS}/tables/{{name}}.{{suffix}}", name=names, suffix=["csv", "md", "tex"]
    )


TABLES = [
    f"{RESULTS}/metrics.csv",
    f"{RESULTS}/study.yaml",
    *table_files(*table_names(PLAN)),
]
PLOTS = [f"{RESULTS}/{name}" for name in PLOT_FILES]
FIGURES = [f"{RESULTS}/figures/{name}" for name in all_files(PLAN)]
SCORES = runs(
    f"{RUN}/metrics.csv"
)  # of targets whose own files may have come with a clone
REPORTS = [f"reports/{STUDY}/report.{suffix}" for suffix in ("html", "md", "tex")]

stop_with_unknown_results()
if TOUCH:
    stop_touching_misfits()
if DRY_RUN:
    tell_missing_data()
