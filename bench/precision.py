"""What bfloat16 changes: the same seeds in float32 and in bfloat16, side by side, on a category of a study.

In bfloat16 are the trainings, or else the features (`--of features`), all other things in float32. Recipe and images
are the study's, with other parameters if so asked.
    python bench/precision.py --study demo --dataset elpv --category mono --seeds 5
"""

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from measure import machine
from tabulate import tabulate

from adtr.config.levels import parse_settings
from adtr.config.methods import Params
from adtr.config.paths import feature_key
from adtr.config.schema import Features, root_of
from adtr.config.study import resolve
from adtr.data.manifest import index
from adtr.data.sources import read_sources
from adtr.evaluate.measure import measure, score, truth_of
from adtr.features.extract import extract
from adtr.features.select import select
from adtr.features.weights import weights_file
from adtr.methods.adtr import anomaly_map, fit
from adtr.train.context import Context

PRECISIONS = ("float32", "bfloat16")
MEASURED = ("image_auroc", "pixel_auroc")


class Side(NamedTuple):
    """A category's images, and ADTR's parameters as words: classes made of files cannot be sent to a process."""

    manifest: pd.DataFrame
    study: str
    dataset: str
    settings: str
    folder: Path

    def plan(self) -> tuple[Params, Path]:
        """The parameters, and the data set's folder."""
        plan = resolve(self.study, settings=parse_settings(self.settings))
        return plan.params[self.dataset, "adtr"], root_of(plan.datasets[self.dataset].root)

    def stores(self, features: Features) -> dict[str, Path]:
        """Of each part; sides with the same features share them."""
        return {str(part): self.folder / feature_key(features) / f"{part}.npy" for part in self.manifest.part.unique()}


class Found(NamedTuple):
    """What a training came to."""

    losses: np.ndarray  # (epochs,)
    maps: np.ndarray  # (N, G, G)
    metrics: dict[str, float]  # per cent


def extracted(side: Side) -> None:
    """Writes the features of all parts."""
    params, root = side.plan()
    weights = weights_file(params.features, read_sources(Path("params/sources.yaml")), Path())
    for part, store in side.stores(params.features).items():
        if not store.is_file():
            extract(side.manifest[side.manifest.part == part], root, params.features, weights, store)


def trained(side: Side, seed: int) -> Found:
    """On one thread."""
    torch.set_num_threads(1)
    (params, root), manifest = side.plan(), side.manifest
    stores, size = side.stores(params.features), params.features.image_size
    normal, _ = select(manifest, stores, ["train"])
    fitted = fit(normal, params, Context(seed))
    features, images = select(manifest, stores, ["test"])
    maps = anomaly_map(fitted.state, features, params)
    rows = measure(score(maps, images, size, params.score), maps, truth_of(root, images, size), size, params.score)
    metrics = {str(row["metric"]): float(row["value"]) for row in rows if row["metric"] in MEASURED}
    return Found(np.array([row["loss"] for row in fitted.history]), maps, metrics)


def differences(seed: int, exact: Found, fast: Found) -> dict[str, float]:
    """Of the fast path from the exact one."""
    row: dict[str, float] = {"seed": seed}
    for metric, value in exact.metrics.items():
        row |= {metric: value, f"{metric}, difference": fast.metrics[metric] - value}
    last = fast.losses[-1] / exact.losses[-1] - 1
    apart = np.linalg.norm(fast.maps - exact.maps) / np.linalg.norm(exact.maps)
    return row | {"last loss, %": 100 * last, "maps, %": 100 * apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="demo")
    parser.add_argument("--dataset", default="elpv")
    parser.add_argument("--category", default="mono")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--of", choices=["training", "features"], default="training", help="what differs [training]")
    parser.add_argument("--set", default="", metavar="'train.epochs=5 ...'", help="other parameters than the study's")
    options = parser.parse_args()
    changed, kept = ("train", "features") if options.of == "training" else ("features", "train")
    manifest = index(resolve(options.study).datasets[options.dataset], options.category)
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(len(PRECISIONS), multiprocessing.get_context("spawn")) as pool,
    ):
        settings = [f"{options.set} {kept}.precision=float32 {changed}.precision={name}" for name in PRECISIONS]
        sides = [Side(manifest, options.study, options.dataset, each, Path(folder)) for each in settings]
        for side in sides:
            pool.submit(extracted, side).result()
        jobs = [(side, seed) for seed in range(options.seeds) for side in sides]
        found = list(pool.map(trained, *zip(*jobs, strict=True)))
    table = pd.DataFrame([differences(i, *found[2 * i : 2 * i + 2]) for i in range(options.seeds)]).set_index("seed")
    epochs = len(found[0].losses)
    summary = pd.DataFrame({"mean": table.mean(), "sd": table.std()}).T
    what = f"{options.study}, {options.dataset} {options.category}, {epochs} epochs {options.set}"
    print(f"{machine()}; {what}; bfloat16 in {options.of}\n")
    print(tabulate(pd.concat([table, summary]), "keys", "github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
