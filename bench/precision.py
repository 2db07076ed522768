"""What bfloat16 changes: the same seeds trained in float32 and in bfloat16, side by side, on a category's features.

Manifest and features are those that a study has left in results/; its recipe, with other epochs if so asked.
    python bench/precision.py --study demo --dataset elpv --category mono --seeds 5
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from measure import machine
from tabulate import tabulate

from adtr.config import Params
from adtr.datasets import parts_of, read_manifest, root_of
from adtr.features import select
from adtr.images import verified_masks
from adtr.methods import Context
from adtr.methods.adtr import anomaly_map, fit
from adtr.score import measure, score
from adtr.study import data_key, feature_key, resolve

SIDES = ("float32", "bfloat16")
MEASURED = ("image_auroc", "pixel_auroc")


class Asked(NamedTuple):
    """A category of a study, as words."""

    study: str
    dataset: str
    category: str
    results: Path
    epochs: int | None  # the recipe's


class Found(NamedTuple):
    """What a training came to."""

    losses: np.ndarray  # (epochs,)
    maps: np.ndarray  # (N, G, G)
    metrics: dict[str, float]  # per cent


def params_of(asked: Asked, precision: str) -> Params:
    """Of ADTR."""
    params = resolve(asked.study).params[asked.dataset, "adtr"]
    changes = {"precision": precision, "epochs": asked.epochs or params.train.epochs}
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def trained(asked: Asked, precision: str, seed: int) -> Found:
    """On one thread."""
    torch.set_num_threads(1)
    params, dataset = params_of(asked, precision), resolve(asked.study).datasets[asked.dataset]
    key, size = data_key(asked.dataset, dataset), params.features.image_size
    manifest = read_manifest(asked.results / "manifests" / key / f"{asked.category}.csv")
    folder = asked.results / "features" / key / feature_key(params.features)
    stores = {part: folder / f"{part}.npy" for part in parts_of(dataset.layout, asked.category)}
    normal, _ = select(manifest, stores, ["train"])
    fitted = fit(normal, params, Context(seed))
    features, images = select(manifest, stores, ["test"])
    maps = anomaly_map(fitted.state, features, params)
    masks = verified_masks(root_of(dataset.root), images, size) if (images["mask"] != "").any() else None
    rows = measure(score(maps, images, size, params.score), maps, masks, size, params.score)
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
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="other than the recipe's")
    options = parser.parse_args()
    asked = Asked(options.study, options.dataset, options.category, options.results, options.epochs)
    jobs = [(asked, precision, seed) for seed in range(options.seeds) for precision in SIDES]
    with ProcessPoolExecutor(len(SIDES), multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(trained, *zip(*jobs, strict=True)))
    table = pd.DataFrame([differences(i, *found[2 * i : 2 * i + 2]) for i in range(options.seeds)]).set_index("seed")
    epochs = len(found[0].losses)
    summary = pd.DataFrame({"mean": table.mean(), "sd": table.std()}).T
    print(f"{machine()}; {options.study}, {options.dataset} {options.category}, {epochs} epochs\n")
    print(tabulate(pd.concat([table, summary]), "keys", "github", floatfmt=".3f"))


if __name__ == "__main__":
    main()
