"""The evaluation stage: a run's folder and features in, scores, maps and metrics out."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from adtr import provenance, records
from adtr.config.methods import Params
from adtr.errors import UserError
from adtr.evaluate.measure import SPLITS, Row, calibrated, curve, masks_of, measure, rates, scored, upsampled
from adtr.evaluate.pixels import count, empty
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
    same bytes.

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
    masks = masks_of(root, images, size)
    normal = calibrated(method, state, *select(manifest, stores, CALIBRATION), params, device)
    measured = measure(scores, maps, masks, size, params.score)
    measured += rates(scores, normal, params.threshold.false_alarms)
    rows = pd.DataFrame([labels | row for row in measured])
    snapshots = curve(method, read_snapshots(run), features, images, masks, params, device)
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
    tables = {"scores.csv": scores, "metrics.csv": rows, "curve.csv": snapshots, "calibration.csv": normal}
    contents = {name: table.to_csv(index=False).encode() for name, table in tables.items()}
    counts = empty(len(maps)) if masks is None else count(masks, upsampled(maps, size))
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
