"""How the demo's size and training were chosen: ADTR on solar cells with other parameters, on images held out.

Of a category's normal training images every fourth is held out. The anomalies are the cells of defect probability 1/3
and 2/3, which are in neither training nor test; in the AUROC each counts by its probability. No test image is scored.
A setting is trained for a third more epochs than it names, so that it sees as many images as the demo with all of them.
    python bench/demo_budget.py --folder /tmp/budget
    python bench/demo_budget.py --folder /tmp/budget --category mono --seeds 2 --try 'train.epochs=3 train.batch_size=4'
Features are kept in the folder for the next call. As on a processor without AVX-512, for the column of images a second:
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python bench/demo_budget.py --folder /tmp/budget
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measure import machine
from tabulate import tabulate

from adtr.config import PARAMS
from adtr.config.levels import parse_settings
from adtr.config.methods import Params
from adtr.config.paths import feature_key
from adtr.config.schema import Dataset, root_of
from adtr.config.study import resolve
from adtr.data.manifest import index
from adtr.data.sources import read_sources
from adtr.evaluate.measure import score
from adtr.features.extract import extract
from adtr.features.select import select
from adtr.features.weights import weights_file
from adtr.files import sha256
from adtr.methods.adtr import anomaly_map, fit
from adtr.train.context import Context

TRIED = [
    f"train.epochs=3 train.batch_size={batch} train.lr={lr}"
    for batch in (16, 8, 4, 2)
    for lr in ("2.5e-4", "5e-4", "1e-3")
]


def cells(dataset: Dataset, category: str) -> pd.DataFrame:
    """A manifest of splits train and held, without a test image; its column probability is of a defect."""
    root, manifest = root_of(dataset.root), index(dataset, category)
    normal = manifest[manifest.split == "train"]
    held = np.arange(len(normal)) % 4 == 3
    normal = normal.assign(split=np.where(held, "held", "train"), probability=0.0)
    labels = pd.read_csv(root / "labels.csv", sep=r"\s+", names=["image", "probability", "type"])
    doubtful = labels[(labels.type == category) & ~labels.probability.isin([0, 1])].drop(columns="type")
    digests = [sha256(root / image) for image in doubtful.image]
    fixed = {"mask": "", "mask_sha256": "", "label": 1, "split": "held", "defect": "doubtful", "part": category}
    return pd.concat([normal, doubtful.assign(sha256=digests, **fixed)], ignore_index=True)


def weighted_auroc(scores: np.ndarray, weight: np.ndarray) -> float:
    """In per cent: how often an anomaly outscores a normal image, of weight 0, each anomaly counted by its weight."""
    normal, anomalous = scores[weight == 0], scores[weight > 0, None]
    above = (anomalous > normal).mean(1) + (anomalous == normal).mean(1) / 2
    return float(100 * np.average(above, weights=weight[weight > 0]))


def adtr_params(settings: Mapping[str, Any]) -> Params:
    """Of the demo, with other values."""
    return resolve("demo", settings=settings).params["elpv", "adtr"]


def tried(manifest: pd.DataFrame, store: Path, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What a setting comes to, on one thread."""
    epochs = adtr_params(settings).train.epochs
    params = adtr_params({**settings, "train.epochs": round(epochs * 4 / 3)})
    stores = {str(manifest.part[0]): store}
    normal, _ = select(manifest, stores, ["train"])
    features, images = select(manifest, stores, ["held"])
    began = time.process_time()
    fitted = fit(normal, params, Context(seed))
    speed = params.train.epochs * len(normal) / (time.process_time() - began)
    maps, probability = anomaly_map(fitted.state, features, params), images.probability.to_numpy()
    sure = (probability == 0) | (probability > 0.5)
    scores = score(maps, images, params.features.image_size, params.score).pred_score.to_numpy()
    return {
        "AUROC": weighted_auroc(scores, probability),
        "of 2/3 only": weighted_auroc(scores[sure], probability[sure]),
        "loss": fitted.history[-1]["loss"],
        "loss held out": float((maps[probability == 0] ** 2).mean()) / normal.shape[2],
        "images/s of processor time": speed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where features are kept")
    parser.add_argument("--category", action="append", help="mono or poly, may be given twice [both]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--try", action="append", dest="settings", metavar="'train.lr=5e-4 ...'", help="[TRIED]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, rows = resolve("demo").datasets["elpv"], []
    for category in options.category or ["mono", "poly"]:
        manifest = cells(dataset, category)
        for setting in options.settings or TRIED:
            settings = parse_settings(setting)
            features = adtr_params(settings).features
            store = options.folder / feature_key(features) / f"{category}.npy"
            if not store.is_file():
                weights = weights_file(features, read_sources(PARAMS / "sources.yaml"), Path())
                extract(manifest, root_of(dataset.root), features, weights, store, threads=2)
            for seed in range(options.seeds):
                found = tried(manifest, store, settings, seed)
                rows.append({"setting": setting, "category": category, "seed": seed} | found)
                print(rows[-1], flush=True)
    print(f"\n{machine()}, {torch.backends.cpu.get_cpu_capability()}\n")
    print(tabulate(pd.DataFrame(rows), "keys", "github", floatfmt=".3f", showindex=False))


if __name__ == "__main__":
    main()
