"""The training stage: a category's features in, a run's folder out.

What an interrupted training resumes from lies in the run's state folder: `lock`, and for each set of parameters that
was trained a folder, named by the first digits of the run's identity.
"""

import hashlib
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from adtr import provenance
from adtr.config.methods import Params
from adtr.config.schema import Features
from adtr.errors import UserError
from adtr.features.select import TRAIN, data_digest, held_out, select
from adtr.features.store import read_store
from adtr.files import digest
from adtr.train.context import Bank, Context, anomalies_of, fit, precision
from adtr.train.lock import check_lock, locked
from adtr.train.run import check_stores, read_model, read_record, write_run


def train(
    manifest: pd.DataFrame,
    stores: dict[str, Path],
    params: Params,
    seed: int,
    output: Path,
    state: Path,
    device: str = "cpu",
    start: Path | None = None,
    bank: Bank | None = None,
) -> None:
    """Fits a method to the training images and writes the run's five files to `output`.

    Those held out to set a threshold (`threshold.calibration`) are not trained on, nor are their noisy copies. The last
    state stays: if the output is lost, the same call writes the same run again without training.

    Args:
        manifest, stores: of the category, and the feature store of each of its parts.
        state: the folder to resume from, of this run alone.
        start, bank: of ADTR+: the run that it is initialised from, and its anomalies.

    Raises:
        UserError: another process trains this run, or the method failed in a way the user can mend.
    """
    began = time.monotonic()
    if start:
        check_stores(start, stores | ({"bank": bank.store} if bank else {}))
    calibration = params.threshold.calibration
    features, rows = select(held_out(manifest, calibration, seed), stores, TRAIN)
    if bank and calibration and params.adtr_plus.anomalies == "confetti":
        bank = replace(bank, sources=frozenset(rows.image))
    made = read_store(stores[str(rows.part.iloc[0])])[1]
    params = params.model_copy(update={"features": Features.model_validate(made["features"])})
    record: dict[str, Any] = {
        "method": params.method,
        "seed": seed,
        "trained_on": data_digest(rows),
        "params": {name: getattr(params, name).model_dump(mode="json") for name in params.method_sections()},
        "features": made,
        "precision": precision(params.train.precision, device) if params.trains else "float32",
        "device": provenance.device_name(device),
        **provenance.record("train", params.method),
    }
    record |= {"calibration": calibration} if calibration else {}
    record |= _origin(start, bank, record, len(rows))
    own = state / _identity(record, torch.device(device).type)[:16]
    with locked(state) as holder:
        learned, anomalies = read_model(start) if start else None, anomalies_of(bank, params) if bank else None
        held = partial(check_lock, state, holder)
        fitted = fit(features, params, Context(seed, device, own, learned, anomalies, held))
        held()
        seconds = round(fitted.seconds_before + time.monotonic() - began, 1)
        write_run(output, record | {"images": len(features), "seconds": seconds}, fitted)


def _origin(start: Path | None, bank: Bank | None, record: dict[str, Any], images: int) -> dict[str, Any]:
    """The run and the anomalies that a run was made from; a UserError if they do not fit its `record` and images."""
    origin: dict[str, Any] = {}
    if start:
        begun = read_record(start)
        if any(begun[key] != record[key] for key in ("trained_on", "seed")):
            raise UserError(f"{start}: a run of other images or of another seed than the one that starts from it")
        if begun["params"].get("model") != record["params"]["model"]:
            raise UserError(f"{start}: its network has other parameters than the one that starts from it")
        origin["start"] = begun["model"]
    if bank:
        copies, confetti = int(bank.counts.sum()), record["params"]["adtr_plus"]["anomalies"] == "confetti"
        if confetti and (copies % images or not copies):
            raise UserError(f"{bank.store}: {copies} noisy copies are not equally many of each of {images} images")
        masks = hashlib.sha256("".join(bank.manifest.mask_sha256).encode()).hexdigest()
        content = read_store(bank.store)[1]["content"]
        origin["anomalies"] = {"data": data_digest(bank.manifest), "masks": masks, "images": copies, "content": content}
    return origin


def _identity(record: dict[str, Any], device: str) -> str:
    """A digest of all that decides the outcome of a run, so that no state of another run is resumed.

    Args:
        device: its type: cpu, or cuda, whose models count as one.
    """
    features = {key: record["features"][key] for key in ("shape", "content", "features", "data", "weights", "code")}
    keys = ("method", "seed", "trained_on", "params", "precision", "code", "torch", "start", "anomalies")
    decisive = {key: record.get(key) for key in keys} | {"device": device, "features": features}
    return digest(decisive)
