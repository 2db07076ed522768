# The study: what it runs, with which parameters, and where its files lie.
# From the command line: --config study=demo set="train.epochs=5 train.lr=1e-3"

import shlex

from snakemake.exceptions import WorkflowError

from adtr.config import as_options, feature_key, parse_settings, resolve
from adtr.datasets import fingerprint, parts_of
from adtr.errors import UserError
from adtr.provenance import code_digest

STUDY = config.get("study", "paper")
SETTINGS = str(config.get("set", ""))
try:
    PLAN = resolve(STUDY, settings=parse_settings(SETTINGS))
except UserError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{STUDY}"
RUN = f"{RESULTS}/{{dataset}}/{{experiment}}/{{category}}/{{seed}}"
STUDY_OPTIONS = f"--study {STUDY}" + (
    f" --set {shlex.quote(SETTINGS)}" if SETTINGS else ""
)
ENVIRONMENT = "../../environment.yml"


wildcard_constraints:
    dataset="|".join(PLAN.datasets),
    experiment="|".join(sorted({experiment for _, experiment in PLAN.params})),
    category=r"[^/]+",
    part=r"[^/]+",
    key=r"[^/]+",
    seed=r"\d+",


def params_of(wildcards):
    """The resolved parameters of an experiment on a data set."""
    return PLAN.params[wildcards.dataset, wildcards.experiment]


def manifest_of(wildcards):
    return f"results/manifests/{wildcards.dataset}/{wildcards.category}.csv"


def stores_of(wildcards, parts=None):
    """The feature stores that a run reads, all parts of its category or the first of them."""
    key = feature_key(params_of(wildcards).features)
    layout = PLAN.datasets[wildcards.dataset].layout
    chosen = parts_of(layout, wildcards.category)[slice(parts)]
    return [f"results/features/{wildcards.dataset}/{key}/{part}.npy" for part in chosen]


def runs(pattern):
    """`pattern` for every run of the study."""
    return [
        pattern.format(dataset=d, experiment=e, category=c, seed=s)
        for d, e, c, s in PLAN.runs()
    ]
