"""What the figures of a category are drawn from: a run of each experiment, the images and, for ADTR+, the confetti.

Shapes: N test images, G side of the feature grid in tokens, S side of the input in px.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from adtr.config.paths import bank_key, data_key, root_of
from adtr.config.study import Plan, run_folder
from adtr.data.images import verified_masks
from adtr.data.manifest import read_manifest
from adtr.figures import confetti_of


@dataclass(frozen=True)
class Run:
    """What the figures show of a run."""

    title: str
    size: int  # S
    scores: pd.DataFrame  # of the test split
    maps: np.ndarray  # (N, G, G), in the order of the scores
    history: pd.DataFrame  # by epoch: the loss
    curve: pd.DataFrame  # by epoch: metrics of the models kept on the way


@dataclass(frozen=True)
class Bank:
    """Noisy copies of normal images (Fig. 3): a manifest with a column `source`, and its folder."""

    manifest: pd.DataFrame
    folder: Path


@dataclass(frozen=True)
class Category:
    """A category of a data set, with a run of each experiment."""

    name: str
    runs: list[Run]
    images: pd.DataFrame  # the manifest
    root: Path
    aupro_limit: float
    bank: Bank | None = None

    def tested(self) -> pd.DataFrame:
        """The first run's scores with the mask of each image, N rows."""
        scores, images = self.runs[0].scores, self.images.set_index("image")
        marks = images[["mask", "mask_sha256"]].reindex(scores.image)
        return scores.assign(mask=marks["mask"].to_numpy(), mask_sha256=marks["mask_sha256"].to_numpy())

    def masks(self, size: int) -> np.ndarray:
        """(N, S, S) bool."""
        return verified_masks(self.root, self.tested(), size)


def read_run(folder: Path, title: str, size: int) -> Run:
    """Reads a run's files."""
    scores = pd.read_csv(folder / "scores.csv", keep_default_na=False)
    tested = (scores.split == "test").to_numpy()
    maps = np.load(folder / "maps.npy")[tested]
    history, curve = pd.read_csv(folder / "history.csv"), pd.read_csv(folder / "curve.csv")
    return Run(title, size, scores[tested].reset_index(drop=True), maps, history, curve)


def read_category(plan: Plan, dataset: str, name: str, results: Path) -> Category:
    """Reads a category of a study, with the runs of the first seed.

    Args:
        results: the folder of all results.
    """
    experiments, seed = plan.study.datasets[dataset], str(plan.study.seeds[0])
    key, root = data_key(dataset, plan.datasets[dataset]), root_of(plan.datasets[dataset].root)
    runs = [
        read_run(
            run_folder(results / plan.name, dataset, experiment, name, seed),
            plan.titles[experiment],
            plan.params[dataset, experiment].features.image_size,
        )
        for experiment in experiments
    ]
    bank, noisy = None, confetti_of(plan, dataset)
    if noisy:
        folder = results / "confetti" / key / bank_key(plan.params[dataset, noisy])
        bank = Bank(read_manifest(folder / f"{name}.csv"), folder)
    limit = plan.params[dataset, experiments[0]].score.aupro_limit
    return Category(name, runs, read_manifest(results / "manifests" / key / f"{name}.csv"), root, limit, bank)
