"""How the recipe `fast` was chosen: ADTR with other parameters of training, by its loss on normal images held out.

Of a category's normal training images every fifth is held out; no test image is read from the feature store. The loss
is Eq. 1 in evaluation mode, so with standardised features 1.0 is the reconstruction by the mean. Between two measured
epochs the epoch of a given loss is interpolated.
    adtr index --study demo elpv/mono && adtr features --study demo elpv/adtr/mono
    python bench/recipe.py --set 'train.epochs=6 train.batch_size=16' --set 'train.epochs=6 train.batch_size=4'
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch
from measure import machine
from tabulate import tabulate

from adtr.config.levels import parse_settings
from adtr.config.methods import Params
from adtr.config.paths import Paths
from adtr.config.study import Run, resolve
from adtr.data.manifest import read_manifest
from adtr.features.select import TRAIN, select
from adtr.methods.adtr import anomaly_map, fit
from adtr.train.context import Context

SHARE = 5  # one image of so many is held out


def images_of(study: str, run: Run, settings: str) -> tuple[Params, np.ndarray, np.ndarray]:
    """A run's parameters, and the features (n, G·G, C) of its normal training images: to train on, and held out."""
    plan = resolve(study, settings=parse_settings(settings))
    paths = Paths(plan)
    manifest = read_manifest(paths.manifest(run.dataset, run.category))
    parts = manifest[manifest.split.isin(TRAIN)].part.unique()
    stores = {part: paths.store(run.dataset, run.experiment, part) for part in parts}
    features, _ = select(manifest, stores, TRAIN)
    held_out = np.arange(len(features)) % SHARE == SHARE - 1
    return plan.params[run.dataset, run.experiment], features[~held_out], features[held_out]


def losses(params: Params, normal: np.ndarray, held_out: np.ndarray, seed: int) -> tuple[dict[int, float], float]:
    """Eq. 1 on the images held out after each epoch that `train.snapshots` keeps; processor time of the training, s."""
    began = time.process_time()
    fitted = fit(normal, params, Context(seed))
    seconds = time.process_time() - began
    states = fitted.snapshots | {params.train.epochs: fitted.state}
    maps = {epoch: anomaly_map(state, held_out, params) for epoch, state in states.items()}
    return {epoch: float(np.square(m).mean()) / normal.shape[2] for epoch, m in sorted(maps.items())}, seconds


def epochs_to(limit: float, by_epoch: dict[int, float]) -> float:
    """The epochs until a loss is first reached, interpolated; the first one measured, if by then; nan if never."""
    epochs, values = np.array(list(by_epoch)), np.array(list(by_epoch.values()))
    below = int(np.argmax(values <= limit))
    around = [below, max(0, below - 1)]
    return float(np.interp(limit, values[around], epochs[around])) if values[below] <= limit else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="demo", help="whose recipe, features and data set are used [demo]")
    parser.add_argument("--run", default="elpv/adtr/mono/0", help="DATASET/EXPERIMENT/CATEGORY/SEED [%(default)s]")
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of the run's seed")
    parser.add_argument("--set", action="append", dest="settings", metavar="'train.lr=5e-4 …'", help="a row; repeat it")
    parser.add_argument("--also", default="", metavar="'train.epochs=6 …'", help="parameters of every row")
    parser.add_argument("--every", type=int, default=1, help="epochs between two measurements [1]")
    parser.add_argument("--loss", type=float, nargs="+", default=[0.5, 0.35], help="epochs to these [0.5 0.35]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, experiment, category, seed = options.run.split("/")
    rows = []
    for setting in options.settings or [""]:
        for each in options.seeds or [int(seed)]:
            run = Run(dataset, experiment, category, each)
            params, normal, held_out = images_of(options.study, run, f"{options.also} {setting}")
            train = params.train.model_copy(update={"snapshots": params.train.epochs // options.every})
            found, seconds = losses(params.model_copy(update={"train": train}), normal, held_out, each)
            to = {limit: epochs_to(limit, found) for limit in options.loss}
            rows.append(
                {"setting": setting, "seed": each}
                | {f"epoch {epoch}": loss for epoch, loss in found.items()}
                | {f"epochs to {limit:g}": epochs for limit, epochs in to.items()}
                | {f"images to {limit:g}": epochs * len(normal) for limit, epochs in to.items()}
                | {"seconds": seconds}
            )
            print(rows[-1], flush=True)
    print(f"\n{machine()}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{category}: {len(normal)} images to train on, {len(held_out)} held out; {options.also}\n")
    print(tabulate(pd.DataFrame(rows), "keys", "github", floatfmt=".3f", showindex=False))


if __name__ == "__main__":
    main()
