"""The training stage: a category's features in, a run's folder out.

A run is five files: `params.yaml` (what was asked for), `model.safetensors` (what was learned), `history.csv` (a row
an epoch), `snapshots.safetensors` (models on the way, if any were asked for) and, last, `run.json` (what made it).
What a killed training resumes from lies in a state folder of its own.
"""

import csv
import errno
import fcntl
import hashlib
import importlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import pandas as pd
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from adtr import provenance
from adtr.config.methods import Params
from adtr.config.schema import Features
from adtr.data.images import anomalous_tokens, verified_mask
from adtr.errors import UserError
from adtr.features.extract import data_digest, read_store, select
from adtr.files import remove_partial, sha256, write_bytes, write_text, written_atomically
from adtr.train.context import Anomalies, Context, Fitted, precision
from adtr.train.kept import bring_back, keep

FILES = ["params.yaml", "model.safetensors", "history.csv", "snapshots.safetensors", "run.json"]
PATIENCE = 1800  # seconds to wait for a lock of another node
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bank:
    """Images that are known to be anomalous: their manifest, the folder of their masks, their feature store."""

    manifest: pd.DataFrame
    root: Path
    store: Path


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

    A finished run stays in the state folder under a second name: where its output was lost, as Snakemake removes the
    output of a job that failed around it, the same call brings it back instead of training again.

    Args:
        manifest: of the category.
        stores: the feature store of each of its parts.
        state: the folder to resume from; emptied where something else than this very run was begun in it.
        start: the run that ADTR+ goes on from.
        bank: its anomalies.

    Raises:
        UserError: another process is at this run, or the method failed in a way the user can mend.
    """
    began = time.monotonic()
    method = method_of(params)
    if params.method == "adtr_plus" and (start is None or bank is None):
        raise UserError("adtr_plus goes on from a finished run, with anomalies: --start, --bank and --bank-features")
    if start:
        check_stores(start, stores | ({"bank": bank.store} if bank else {}))
    features, rows = select(manifest, stores, ["train"])
    made = read_store(stores[str(rows.part.iloc[0])])[1]
    params = params.model_copy(update={"features": Features.model_validate(made["features"])})
    record: dict[str, Any] = {
        "method": params.method,
        "seed": seed,
        "trained_on": data_digest(rows),
        "params": {name: getattr(params, name).model_dump(mode="json") for name in params.method_sections()},
        "features": made,
        "precision": precision(params.train.precision, device) if "train" in params.method_sections() else "float32",
        "device": provenance.device_name(device),
        **_origin(start, bank, params, seed, rows),
        **provenance.record("train.stage", f"methods.{params.method}"),
    }
    if "train" in params.method_sections():
        torch.set_num_threads(params.train.threads)
    identity, files = _identity(record), [output / name for name in FILES]
    with _locked(state) as holder:
        _discard_other(state, identity)
        remove_partial(state / "state.pt", *files)
        finished = state / "finished" / identity[:16]  # another parameter tried and given up costs no training anew
        if bring_back(finished, identity, files):
            return
        known = Context(seed, device, state, read_model(start) if start else None, _anomalies(bank, params))
        fitted = method.fit(features, params, known)
        _check_lock(state, holder)
        _write_run(output, record, fitted)
        record |= {
            "images": len(features),
            "parameters": fitted.parameters,
            "seconds": round(time.monotonic() - began, 1),
            "model": sha256(output / "model.safetensors"),
        }
        write_text(output / "run.json", json.dumps(record, indent=1) + "\n")
        keep(finished, identity, files)
        (state / "state.pt").unlink(missing_ok=True)


def method_of(params: Params) -> ModuleType:
    """The module of adtr/methods that the parameters name.

    Raises:
        UserError: there is none.
    """
    try:
        return importlib.import_module(f"adtr.methods.{params.method}")
    except ModuleNotFoundError as error:
        if error.name != f"adtr.methods.{params.method}":
            raise
        raise UserError(f"method: there is no {params.method}.py in adtr/methods") from None


def check_stores(run: Path, stores: dict[str, Path]) -> None:
    """Refuses features that were not made as those that a run was trained on.

    Raises:
        UserError: of another backbone, other weights or other code.
    """
    trained = json.loads((run / "run.json").read_text(encoding="utf-8"))["features"]
    for store in stores.values():
        made = read_store(store)[1]
        other = [key for key in ("features", "weights", "code") if made[key] != trained[key]]
        if other:
            raise UserError(f"{store}: its {' and '.join(other)} differ from those that {run} was trained on")


def read_model(run: Path) -> dict[str, torch.Tensor]:
    """What a run learned.

    Raises:
        UserError: the file is missing, damaged, or not the one of run.json.
    """
    path = run / "model.safetensors"
    try:
        expected = json.loads((run / "run.json").read_text(encoding="utf-8"))["model"]
        if sha256(path) != expected:
            raise UserError(f"{path}: not the file that {run / 'run.json'} speaks of: train it again")
        return load_file(path)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{run}: not a whole run ({error}): train it again") from None


def read_snapshots(run: Path) -> dict[int, dict[str, torch.Tensor]]:
    """The models that a run kept on the way, by epoch.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        tensors = load_file(run / "snapshots.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{run}: not a whole run ({error}): train it again") from None
    found: dict[int, dict[str, torch.Tensor]] = {}
    for key in sorted(tensors):
        epoch, _, name = key.partition("/")
        found.setdefault(int(epoch), {})[name] = tensors[key]
    return found


def _anomalies(bank: Bank | None, params: Params) -> Anomalies | None:
    """The features of a bank's images, and which of their tokens are anomalous: all, where there is no mask."""
    if bank is None:
        return None
    array, info = read_store(bank.store)
    if info["data"] != data_digest(bank.manifest):
        raise UserError(f"{bank.store}: made of other images than the bank's manifest: run `adtr features`")
    size, grid = params.features.image_size, params.features.grid_size
    marks = zip(bank.manifest["mask"], bank.manifest.mask_sha256, strict=True)
    tokens = [
        anomalous_tokens(verified_mask(bank.root, reference, digest, size), grid)
        if reference
        else np.full(grid**2, True)
        for reference, digest in marks
    ]
    return Anomalies(array, torch.from_numpy(np.stack(tokens)))


def _origin(start: Path | None, bank: Bank | None, params: Params, seed: int, rows: pd.DataFrame) -> dict[str, Any]:
    """What of other runs and images a run was made from.

    Raises:
        UserError: the start is another network than the one to be trained, or of other images or another seed; or the
            bank is not of these images.
    """
    origin: dict[str, Any] = {}
    if start:
        begun = json.loads((start / "run.json").read_text(encoding="utf-8"))
        if (begun["trained_on"], begun["seed"]) != (data_digest(rows), seed):
            raise UserError(f"{start}: a run of other images or of another seed than the one that is to go on from it")
        if begun["params"].get("model") != params.model.model_dump(mode="json"):
            raise UserError(f"{start}: its network has other parameters than the one that is to go on from it")
        origin["start"] = begun["model"]
    if bank:
        if params.adtr_plus.anomalies == "confetti" and (len(bank.manifest) % len(rows) or bank.manifest.empty):
            raise UserError(
                f"{bank.store}: {len(bank.manifest)} noisy copies are not so many of each of {len(rows)} images"
            )
        masks = hashlib.sha256("".join(bank.manifest.mask_sha256).encode()).hexdigest()
        origin["anomalies"] = {"data": data_digest(bank.manifest), "masks": masks, "images": len(bank.manifest)}
    return origin


def _write_run(output: Path, record: dict[str, Any], fitted: Fitted) -> None:
    asked = {"method": record["method"], "seed": record["seed"], "features": record["features"]["features"]}
    write_text(output / "params.yaml", yaml.safe_dump(asked | record["params"], sort_keys=False))
    with written_atomically(output / "history.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, list(fitted.history[0]) if fitted.history else ["epoch", "lr", "loss"], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(fitted.history)
    snapshots = {f"{epoch:06}/{name}": t for epoch, state in fitted.snapshots.items() for name, t in state.items()}
    for name, tensors in (("snapshots", snapshots), ("model", fitted.state)):
        content = safetensors_bytes({key: tensor.contiguous() for key, tensor in tensors.items()})
        write_bytes(output / f"{name}.safetensors", content)


def _identity(record: dict[str, Any]) -> str:
    """A digest of all that decides the outcome of a run, so that no state of another run is resumed."""
    features = {key: record["features"][key] for key in ("shape", "features", "data", "weights", "code")}
    keys = ("method", "seed", "trained_on", "params", "precision", "device", "code", "torch")
    decisive = {key: record.get(key) for key in (*keys, "start", "anomalies")} | {"features": features}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _discard_other(state: Path, identity: str) -> None:
    mark = state / "identity"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != identity:
        (state / "state.pt").unlink(missing_ok=True)
        write_text(mark, identity)


@contextmanager
def _locked(state: Path) -> Iterator[str]:
    """Holds the state folder's lock, and gives the words in it; the system lets go of it however the process ends.

    A job of another node, or one that Slurm took for dead, may be at this run, and a network file system may keep the
    lock of a node that died for a while: one of another node or Slurm job is waited for.
    """
    state.mkdir(parents=True, exist_ok=True)
    node, job = os.environ.get("SLURMD_NODENAME") or socket.gethostname(), os.environ.get("SLURM_JOB_ID")
    place, deadline = node + (f", Slurm job {job}" if job else ""), time.monotonic() + PATIENCE
    with (state / "lock").open("a+") as file:
        while not _taken(file):
            file.seek(0)
            holder = file.read() or "another process"
            if holder.endswith(f" on {place}") or time.monotonic() > deadline:
                raise UserError(f"{state}: {holder} is training this run now")
            time.sleep(1)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {place}")
        file.flush()
        yield f"process {os.getpid()} on {place}"


def _check_lock(state: Path, holder: str) -> None:
    """Ends a training that a network cut off from its lock, if another has taken it since.

    Raises:
        UserError: so it is.
    """
    now = (state / "lock").read_text(encoding="utf-8")
    if now != holder:
        raise UserError(f"{state}: {now} has taken over this run from {holder}")


def _taken(file: IO[str]) -> bool:
    """Whether the lock of an open file could be taken.

    Raises:
        UserError: its file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            message = f"{file.name}: its file system has no locks ({error.strerror}): link state/ to one that has"
            raise UserError(message) from None
        raise
    return True
