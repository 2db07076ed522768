"""A category of a study, read for its figures: a run of each experiment, the images and, for ADTR+, the confetti.

Shapes: N test images, G side of the feature grid in tokens, S side of the input in px.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from adtr.config import study
from adtr.config.paths import Paths
from adtr.config.schema import root_of
from adtr.data.manifest import read_manifest
from adtr.errors import UserError
from adtr.figures import confetti_of
from adtr.records import Record
from adtr.tables.colours import colours


@dataclass(frozen=True)
class Run:
    """A run, as its figures need it."""

    title: str
    colour: str
    size: int  # S
    scores: pd.DataFrame  # of the test split
    maps: np.ndarray  # (N, G, G), in the order of the scores
    history: pd.DataFrame  # by epoch: the loss
    curve: pd.DataFrame  # by epoch: metrics of the snapshots
    start: str = ""  # the title of the experiment that its training starts from
    before: int = 0  # epochs that were trained until there


@dataclass(frozen=True)
class Category:
    """A category of a data set, with a run of each experiment."""

    name: str
    runs: list[Run]
    images: pd.DataFrame  # the manifest
    root: Path
    aupro_limit: float
    bank: tuple[pd.DataFrame, Path] | None = None  # confetti: a manifest with a column `source`, and its folder

    def tested(self) -> pd.DataFrame:
        """The first run's scores with the mask of each image, N rows."""
        images = self.images[self.images.split == "test"].reset_index(drop=True)  # in the order of the scores
        return self.runs[0].scores.join(images[["sha256", "mask", "mask_sha256"]])


def spread(ranked: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows at even steps of rank, the middle of each step; all of them where there are not so many."""
    count = min(count, len(ranked))
    return ranked.iloc[[int((i + 0.5) * len(ranked) / count) for i in range(count)]]


def read_category(paths: Paths, dataset: str, name: str) -> Category:
    """Reads a category of a study, with the runs of the first seed."""
    plan, seed = paths.plan, paths.plan.study.seeds[0]
    definition, experiments = plan.datasets[dataset], plan.study.datasets[dataset]
    manifest = read_manifest(paths.manifest(dataset, name))
    runs = [_read_run(paths, study.Run(dataset, e, name, seed), manifest) for e in experiments]
    bank, noisy = None, confetti_of(plan, dataset)
    if noisy and (files := paths.bank(dataset, noisy, name)):
        bank = read_manifest(files[0]), files[0].parent
    limit = plan.params[dataset, experiments[0]].score.aupro_limit
    return Category(name, runs, manifest, root_of(definition.root), limit, bank)


def _read_run(paths: Paths, run: study.Run, images: pd.DataFrame) -> Run:
    plan, folder, params = paths.plan, paths.run(run), paths.plan.params[run[:2]]
    evaluated = Record(folder / "evaluation.json")
    scores = evaluated.table("scores.csv", keep_default_na=False, dtype={"image": str, "defect": str})
    tested = (scores.split == "test").to_numpy()
    if scores[tested].image.tolist() != images[images.split == "test"].image.tolist():
        raise UserError(f"{folder}: scores of other images than those of {run.category}: remove it, make it again")
    maps = np.load(io.BytesIO(evaluated.read("maps.npy")))[tested]
    tables = Record(folder / "run.json").table("history.csv"), evaluated.table("curve.csv")
    title, colour, size = plan.titles[run.experiment], colours(plan)[run.experiment], params.features.image_size
    begins = plan.titles[params.start] if params.trains and params.start else ""
    before = plan.epochs_before(run.dataset, run.experiment)
    return Run(title, colour, size, scores[tested].reset_index(drop=True), maps, *tables, begins, before)
