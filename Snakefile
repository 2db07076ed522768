# ADTR Bench: from images to a report. `snakemake all_tables` runs the study `paper`; another: --config study=NAME

import gc
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from adtr.config import PARAMS
from adtr.config.study import EVALUATED, TRAINED
from adtr.errors import UserError
from adtr.workflow import Workflow, failures

min_version("9.20")
# A plan makes many objects that stay: to look through them again and again takes seconds
gc.set_threshold(100_000)

try:
    study = Workflow(config)
    MISSING = study.missing_data() + study.missing_weights()
except (UserError, OSError) as error:
    raise WorkflowError(str(error))


include: "workflow/rules/data.smk"  # generated images, manifests, features
include: "workflow/rules/runs.smk"  # training, evaluation
include: "workflow/rules/results.smk"  # metrics, tables, figures, report


# A job of a cluster has its own GPU
resource_scopes:
    gpu_slots="local",


localrules:
    generate,
    tables,
    plots,
    dataset_figures,
    write_report,


wildcard_constraints:
    dataset="[^/]+",
    data="[^/]+",
    category="[^/]+",
    part="[^/]+",
    key="[^/]+",
    bank="[^/]+",


BEGAN = time.time()
NO_LOG = "no log ends in an error: the same command with `--quiet reason` shows each job, and what a cluster says of it"
if MISSING:
    logger.warning("\n  ".join(["Missing:", *MISSING]))


onstart:
    if MISSING:
        raise WorkflowError(
            "data or weights are missing: `adtr fetch` lists what it gets; or set `root` of the data set in params/datasets.yaml"
        )


onsuccess:
    for message in study.data_warnings():
        logger.warning(message)


onerror:
    for message in study.data_warnings():
        logger.warning(message)
    for message in failures(Path("logs"), BEGAN) or [NO_LOG]:
        logger.error(message)


rule all_tables:
    default_target: True
    input:
        study.tables,


rule all_features:
    input:
        study.features,


rule all_runs:
    input:
        study.runs(*TRAINED, *EVALUATED),


rule figures:
    input:
        study.figures,


rule report:
    input:
        study.reports,


for n in (1, 2, 3, 4):

    rule:
        name:
            f"table{n}"
        input:
            study.table_files(f"table{n}"),


if Path(workflow.main_snakefile).resolve().parent == PARAMS.parent:

    # A misspelt target is the name of no rule: Snakemake asks for a file of that name. Not as a module of another workflow
    rule unknown_target:
        input:
            study.unknown_target,
        output:
            "{target}",
        wildcard_constraints:
            target="[^/.]+",
