"""Why do distances of what ADTR leaves mislead on MVTec-AD? The images that they are fitted on, or their scale?

ADTR is trained without a share of the normal training images (`threshold.calibration`). Each distance is fitted on
what it leaves of three sets: all that it was trained on, as many of these as were held out, and those held out. It
stands beside the L2 norm (Eq. 3), with its gap to it and the gap's 95 % interval for other test images. The mean
lengths of what is left come first: of training images, of those held out, of normal test images.
    snakemake results/held_out/runs/mvtec/adtr/screw/0/model.safetensors --cores 1 --config study=held_out
    python bench/held_out.py --study held_out mvtec/screw
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from measure import machine
from tabulate import tabulate

from adtr.config.levels import parse_settings
from adtr.config.methods import Params
from adtr.config.paths import Paths
from adtr.config.schema import root_of
from adtr.config.study import Run, resolve
from adtr.data.manifest import read_manifest
from adtr.evaluate import bootstrap
from adtr.evaluate.measure import Truth, measure, score, truth_of, upsampled
from adtr.evaluate.pixels import count
from adtr.evaluate.stage import check_images
from adtr.features.select import CALIBRATION, TRAIN, held_out, select
from adtr.methods import adtr, residual
from adtr.tables.uncertainty import of_run
from adtr.train.context import Context
from adtr.train.outdated import trained_otherwise
from adtr.train.run import read_model

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
Measured = dict[str, tuple[float, np.ndarray]]
DISTANCES = {"standardised L2": "standardized", "Mahalanobis": "mahalanobis"}
POSITIONS = {
    "each position": {},
    "each position, equal scale": {"equal_scale": True},
    "all positions": {"shared": True},
}


def maps_of(
    state: dict[str, torch.Tensor], sets: dict[str, np.ndarray], test: np.ndarray, params: Params, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Anomaly maps (N, G, G) of the test features (N, G·G, C): each distance, fitted on each of `sets` (n, G·G, C)."""

    def maps(features: np.ndarray, **settings: str | bool) -> np.ndarray:
        asked = params.model_copy(update={"residual": params.residual.model_copy(update=settings)})
        return residual.anomaly_map(residual.fit(features, asked, Context(seed, start=state)).state, test, asked)

    yield f"L2 of {params.residual.channels} channels", maps(next(iter(sets.values())), distance="l2")
    for name, distance in DISTANCES.items():
        for fitted_on, features in sets.items():
            for positions, settings in POSITIONS.items():
                yield f"{name}, {positions}, {fitted_on}", maps(features, distance=distance, **settings)


def measured(maps: np.ndarray, images: pd.DataFrame, truth: Truth, drawn: np.ndarray, params: Params) -> Measured:
    """Each metric of maps (N, G, G) of images with masks: its value, and its draws (D,), for weights (N, D) of them."""
    size, limit = params.features.image_size, params.score.aupro_limit
    scores = score(maps, images, size, params.score)
    values = {row["metric"]: float(row["value"]) for row in measure(scores, maps, truth, size, params.score)}
    draws = of_run(scores, count(truth.masks, upsampled(maps, size)), drawn, limit)
    return {metric: (values[metric], 100 * draws[metric]) for metric in METRICS}


def gaps(found: Measured, reference: Measured, freedom: float) -> Iterator[tuple[str, str]]:
    """Columns of a row: each metric in per cent, and in brackets the interval of its gap to the reference."""
    for metric, title in METRICS.items():
        (value, draws), (other, others) = found[metric], reference[metric]
        low, high = bootstrap.difference((value, other), (draws, others), freedom)
        yield title, f"{value:.1f}"
        yield (
            f"{title}, gap",
            "" if math.isnan(low) or found is reference else f"{value - other:+.1f} [{low:+.1f}, {high:+.1f}]",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help="with the experiments adtr and adtr_m and threshold.calibration")
    parser.add_argument("category", help="DATASET/CATEGORY")
    parser.add_argument("--set", default="", metavar="'residual.epsilon=1'", help="other parameters than the study's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = resolve(options.study, settings=parse_settings(options.set))
    dataset, category = options.category.split("/")
    run, paths, params = Run(dataset, "adtr", category, 0), Paths(plan), plan.params[dataset, "adtr_m"]
    manifest = read_manifest(paths.manifest(dataset, category))
    if trained_otherwise(paths, run):
        raise SystemExit(f"{run}: trained with other parameters")
    check_images(paths.run(run), manifest, params)
    manifest = held_out(manifest, params.threshold.calibration, run.seed)
    stores = {part: paths.store(dataset, "adtr", part) for part in manifest.part.unique()}
    train, held = (select(manifest, stores, split)[0] for split in (TRAIN, CALIBRATION))
    test, images = select(manifest, stores, ["test"])
    some = np.sort(np.random.default_rng(0).choice(len(train), len(held), replace=False))
    state = read_model(paths.run(run))
    truth = truth_of(root_of(plan.datasets[dataset].root), images, params.features.image_size)
    if truth is None or not truth.known.all():
        raise SystemExit(f"{options.category}: masks of all anomalous images are needed")
    drawn = bootstrap.weights(images.assign(category=category)).loc[images.image].to_numpy()

    l2 = adtr.anomaly_map(state, test, plan.params[dataset, "adtr"])
    lengths = {
        f"{len(train)} training images": adtr.anomaly_map(state, train, params),
        f"{len(held)} held out": adtr.anomaly_map(state, held, params),
        f"{(images.label == 0).sum()} normal test images": l2[(images.label == 0).to_numpy()],
    }
    sets = {f"{len(train)} training images": train, f"{len(some)} of them": train[some], f"{len(held)} held out": held}
    found = {"L2": l2} | dict(maps_of(state, sets, test, params, run.seed))
    each = {name: measured(maps, images, truth, drawn, params) for name, maps in found.items()}
    freedom = images.label.value_counts().min() - 1
    rows = [{"distance": name} | dict(gaps(of, each["L2"], freedom)) for name, of in each.items()]
    print(f"{machine()}; {options.study}, {dataset} {category} {options.set}\n")
    print(f"mean length of d: {', '.join(f'{name} {maps.mean():.3f}' for name, maps in lengths.items())}\n")
    print(tabulate(pd.DataFrame(rows), "keys", "github", showindex=False, disable_numparse=True))
    print("\nThe same beside as many training images\n")
    as_many = {name: name.replace(f"{len(held)} held out", f"{len(held)} of them") for name in each if "held" in name}
    rows = [{"distance": name} | dict(gaps(each[name], each[other], freedom)) for name, other in as_many.items()]
    print(tabulate(pd.DataFrame(rows), "keys", "github", showindex=False, disable_numparse=True))


if __name__ == "__main__":
    main()
