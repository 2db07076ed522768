"""The evaluation stage: a run's folder and features in, scores, maps and metrics out."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from adtr import provenance, records
from adtr.config.methods import Params
from adtr.errors import UserError
from adtr.evaluate.measure import (
    SPLITS,
    Row,
    calibrated,
    colour_scale,
    curve,
    measure,
    rates,
    scored,
    truth_of,
    upsampled,
)
from adtr.evaluate.pixels import count, empty, placed
from adtr.features.select import CALIBRATION, TRAIN, data_digest, held_out, select
from adtr.files import saved
from adtr.train.context import method_of
from adtr.train.run import check_stores, read_model, read_record, read_snapshots

logger = logging.getLogger(__name__)


def evaluate(
    run: Path,
    manifest: pd.DataFrame,
    stores: dict[str, Path],
    root: Path,
    params: Params,
    labels: Row,
    device: str = "cpu",
) -> None:
    """Scores the test images of a run, measures the scores and writes seven files beside its own (study.EVALUATED).

    calibration.csv has the scores of the images that were held out to set a threshold; without any, no row.
    pixels.npz has the counts of pixels that the metrics of resampled images need, none without masks.
    curve.csv has the metrics of the run's snapshots and of its trained model, by epoch; without snapshots no row.
    evaluation.json says what made the others, with their checksums and without the time: the same evaluation gives the
    same bytes. Without test images it has the `scale` of the maps of normal ones.

    Args:
        manifest, stores: of the category, and the feature store of each of its parts.
        labels: values of columns put before the metrics.

    Raises:
        UserError: the run is not whole, or the features or masks are not those that belong to it.
    """
    state = read_model(run)
    check_stores(run, stores)
    made_by, calibration = read_record(run), params.threshold.calibration
    manifest = held_out(manifest, calibration, made_by["seed"])
    features, images = select(manifest, stores, SPLITS)
    method, size = method_of(params), params.features.image_size
    maps, scores = scored(method, state, features, images, params, device)
    truth = truth_of(root, images, size)
    held = select(manifest, stores, CALIBRATION) if calibration else (features[:0], images[:0])
    normal = calibrated(method, state, *held, params, device)
    measured = measure(scores, maps, truth, size, params.score)
    measured += rates(scores, normal, params.threshold.false_alarms)
    rows = pd.DataFrame([labels | row for row in measured])
    snapshots = curve(method, read_snapshots(run), features, images, truth, params, device)
    if len(snapshots):
        last = rows[rows.metric.isin(snapshots.metric)].assign(epoch=params.train.epochs)
        snapshots = pd.concat([snapshots, last[snapshots.columns]], ignore_index=True)
    model = made_by["model"]
    rows["provenance"] = f"{run}@{model[:12]}"
    made = provenance.record("evaluate", params.method)
    record = {
        "model": model,
        "score": params.score.model_dump(mode="json"),
        "data": data_digest(images),
        "device": provenance.device_name(device),
        **{key: made[key] for key in ("code", "python", "torch", "cpu")},
    }
    record |= {"threshold": params.threshold.model_dump(mode="json")} if calibration else {}
    if images.empty:
        normals = held if calibration else select(manifest, stores, TRAIN)
        record["scale"] = colour_scale(scored(method, state, *normals, params, device)[0])
    tables = {"scores.csv": scores, "metrics.csv": rows, "curve.csv": snapshots, "calibration.csv": normal}
    contents = {name: records.as_csv(table).encode() for name, table in tables.items()}
    counts = empty(len(maps))
    if truth:
        counts = placed(count(truth.masks, upsampled(maps[truth.known], size)), truth.known)
    contents["pixels.npz"] = saved(lambda file: np.savez_compressed(file, **counts._asdict()))
    maps_content = saved(lambda file: np.save(file, maps))
    records.write(run / "evaluation.json", record, {"maps.npy": maps_content, **contents})
    logger.info("%s", ", ".join(f"{row.metric} {row.value:.1f}" for row in rows.itertuples()))


def check_images(run: Path, manifest: pd.DataFrame, params: Params) -> None:
    """Refuses a run that was trained on other images than those of its category's manifest: another category's."""
    made_by = read_record(run)
    rows = held_out(manifest, params.threshold.calibration, made_by["seed"])
    if data_digest(rows[rows.split.isin(TRAIN)]) != made_by["trained_on"]:
        raise UserError(f"{run}: trained on other images than those of its category: train it again")
