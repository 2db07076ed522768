"""What jobs are expected to take: seconds and megabytes. Asked of a cluster's queue, and summed by `adtr cost`.

Arithmetic on parameters and numbers of images with the speeds of params/cluster.yaml; nothing here is measured.
"""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field
from tabulate import tabulate

from adtr.config.methods import Model, Params
from adtr.config.paths import Paths, Store
from adtr.config.schema import Dataset, Features, Number, Positive, Section, Whole
from adtr.config.study import Plan, Run
from adtr.tables.specs import experiments_of

CHANNELS = 1000  # of a token, at most
PIXEL = 23  # bytes of an evaluation: mask, map, their sorted copies; measured with 100 and 300 images of 256 px


class Images(NamedTuple):
    """How many of a category are for training and for testing."""

    train: int
    test: int


class Cluster(Section):
    """How fast a cluster is taken to be, by params/cluster.yaml."""

    gpus: Whole = Field(description="of a job that computes with networks; 0 on a cluster without")
    start: Number = Field(gt=0, description="seconds of a process before its work begins")
    step: Number = Field(gt=0, description="seconds, least time of a training step")
    teraflops: Number = Field(gt=0, description="10^12 operations a second of a training")
    features: Number = Field(gt=0, description="images/s of the largest backbone at 256 px")
    baseline: Number = Field(gt=0, description="images/s of the slowest baseline's fit")
    evaluation: Number = Field(gt=0, description="images/s scored, measured and written")
    margin: Number = Field(ge=1, description="what is asked of the queue, over what is expected")
    longest: Positive = Field(description="minutes that a job may ask for")
    memory: Positive = Field(description="MB of a process before it reads features")
    images: dict[str, Images] = Field(description="of a category by layout, where no manifest tells")

    def minutes(self, seconds: float, attempt: int = 1) -> int:
        """What to ask of the queue for a job that should take so long; more at each attempt."""
        return min(attempt * math.ceil(self.margin * (self.start + seconds) / 60), self.longest)


def bank_images(params: Params, train: int) -> int:
    """How many anomalies ADTR+ is trained with: so many copies of each of `train` images, or outliers."""
    noisy = params.adtr_plus.anomalies == "confetti"
    return train * params.confetti.variants if noisy else params.outliers.count


def images_of(dataset: Dataset, manifest: Path, cluster: Cluster) -> Images:
    """The images of a category: those of its manifest, or as many as expected where there is none yet."""
    with suppress(ValueError):  # damaged: the stages that read it refuse it
        if manifest.is_file():
            return _counted(manifest)
    made = dataset.generated
    return Images(made.images, made.images) if made else cluster.images[dataset.layout]


@cache
def _counted(manifest: Path) -> Images:
    split = pd.read_csv(manifest, usecols=["split"]).split
    return Images(int((split == "train").sum()), int((split != "train").sum()))


def extraction(paths: Paths, store: Store, part: str, cluster: Cluster) -> float:
    """Seconds to extract the features of a store, which holds the images of a part or ADTR+'s anomalies."""
    dataset, features = paths.datasets[store.dataset], store.params.features
    images = images_of(dataset, paths.manifest(store.dataset, paths.category(store.dataset, part)), cluster)
    if store.anomalies:
        count = bank_images(store.params, images.train)
    elif dataset.layout.startswith("cifar"):  # training and test images have a part each
        count = images.test if part == "test" else images.train
    else:
        count = sum(images)
    return count / cluster.features * (features.image_size / 256) ** 2


def fit(params: Params, images: Images, cluster: Cluster) -> float:
    """Seconds of a training, or of a baseline's fit."""
    if not params.trains:
        return images.train / cluster.baseline
    tokens, each = params.features.grid_size**2, epoch_images(params, images.train)
    seen, steps = each * params.train.epochs, steps_of(params, images.train)
    operations = 6 * multiplications(params.model, tokens) * tokens * seen  # two of each; twice again backwards
    return max(steps * cluster.step, operations / (cluster.teraflops * 1e12))


def epoch_images(params: Params, train: int) -> int:
    """How many images an epoch has: outliers stand beside those of training, confetti in their place."""
    beside = params.method == "adtr_plus" and params.adtr_plus.anomalies == "outliers"
    return train + (params.outliers.count if beside else 0)


def steps_of(params: Params, train: int) -> int:
    """How many steps a training on `train` images has."""
    return math.ceil(epoch_images(params, train) / params.train.batch_size) * params.train.epochs


def multiplications(model: Model, tokens: int) -> int:
    """Of one token in one pass through the transformer; an ablation has hardly more."""
    attention = 4 * model.width**2 + 2 * tokens * model.width
    feedforward = 2 * model.width * model.ffn_width
    encoder = model.encoder_layers * (attention + feedforward)
    decoder = model.decoder_layers * (2 * attention + feedforward)
    return encoder + decoder + 2 * CHANNELS * model.width


def evaluation(params: Params, images: Images, cluster: Cluster) -> float:
    """Seconds to score the test images with the model and each one kept on the way, and to measure the scores."""
    size = max(params.features.image_size / 256, 0.25) ** 2
    return images.test / cluster.evaluation * size * (1 + params.train.snapshots)


def memory(features: Features, images: int, cluster: Cluster) -> int:
    """MB of a process that holds the features of so many images, and a working copy in float32."""
    return cluster.memory + math.ceil(images * features.grid_size**2 * CHANNELS * (2 + 4) / 1e6)


def evaluation_memory(params: Params, images: Images, masks: bool, cluster: Cluster) -> int:
    """MB of an evaluation: features, of test images and of what a baseline's model may hold; with `masks` pixels."""
    kept, pixels = images.test if params.trains else sum(images), images.test * params.features.image_size**2
    return memory(params.features, kept, cluster) + math.ceil(pixels * PIXEL / 1e6) * masks


def expected(plan: Plan, cluster: Cluster, specs: Mapping[str, Any]) -> str:
    """What a study should take, as text: GPU hours by experiment and by the paper's tables, and jobs.

    Args:
        specs: the paper's tables, params/tables.yaml.
    """
    runs = _summed((*run[:2], seconds) for run, seconds in run_seconds(plan, cluster).items())
    stores = _summed((dataset, "(features)", seconds) for dataset, seconds in store_seconds(plan, cluster))
    shown = pd.concat([stores, runs])
    jobs = int(stores.number.sum() + 2 * runs.number.sum())
    parts = [
        tabulate(shown, ["data set", "experiment", "number", "hours"], floatfmt=".1f", showindex=False),
        tabulate(_tables(plan, runs, specs), ["table", "runs", "hours"], floatfmt=".1f", showindex=False),
        f"In all {shown.hours.sum():.1f} hours, each run counted once; about {jobs} jobs that compute: features, and a "
        "training and an evaluation a run.",
        "Expected by the speeds of params/cluster.yaml; nothing was measured.",
    ]
    return "\n\n".join(parts)


def assumptions(plan: Plan) -> str:
    """Which data sets are not indexed yet, so that their numbers of images are assumed; empty if there is none."""
    paths = Paths(plan)
    real = (names for names in plan.categories() if not plan.datasets[names[0]].generated)
    unknown = [names for names in real if not paths.manifest(*names).is_file()]
    if not unknown:
        return ""
    datasets = ", ".join(dict.fromkeys(dataset for dataset, _ in unknown))
    return (
        f"Numbers of images are those of params/cluster.yaml where data is not indexed yet: {datasets}. "
        f"To count them: `adtr index --study {plan.name} {'/'.join(unknown[0])}` and so on, or begin the study."
    )


def run_seconds(plan: Plan, cluster: Cluster) -> dict[Run, float]:
    """Seconds that each run takes, its training and its evaluation."""
    paths, found = Paths(plan), {}
    for run in plan.runs():
        params, manifest = plan.params[run[:2]], paths.manifest(run.dataset, run.category)
        images = images_of(plan.datasets[run.dataset], manifest, cluster)
        found[run] = 2 * cluster.start + fit(params, images, cluster) + evaluation(params, images, cluster)
    return found


def store_seconds(plan: Plan, cluster: Cluster) -> list[tuple[str, float]]:
    """Of each feature store of a study, which experiments share: its data set, and the seconds that it takes."""
    paths = Paths(plan)
    stores = paths.all_stores.items()
    return [(store.dataset, cluster.start + extraction(paths, store, path.stem, cluster)) for path, store in stores]


def _summed(rows: Iterable[tuple[str, str, float]]) -> pd.DataFrame:
    """Of jobs, their data set, experiment and seconds: dataset, experiment, number of jobs, hours."""
    table = pd.DataFrame(rows, columns=["dataset", "experiment", "seconds"]).assign(number=1)
    table["hours"] = table.seconds / 3600
    return table.groupby(["dataset", "experiment"], sort=False, as_index=False)[["number", "hours"]].sum()


def _tables(plan: Plan, runs: pd.DataFrame, specs: Mapping[str, Any]) -> pd.DataFrame:
    """Of the runs that each of the paper's tables shows; those of two tables count in both: table, number, hours."""
    rows = []
    for name, spec in specs.items():
        standing = [key for key, dataset in plan.datasets.items() if dataset.benchmark == spec["benchmark"]]
        used = runs[runs.dataset.isin(standing) & runs.experiment.isin(experiments_of(spec))]
        rows.append({"table": f"Table {name[-1]}", "number": used.number.sum(), "hours": used.hours.sum()})
    return pd.DataFrame(rows)
