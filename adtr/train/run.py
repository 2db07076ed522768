"""The five files of a run, which evaluation, tables and figures read, and the state that a training resumes from.

`params.yaml` (what was asked for), `model.safetensors` (what was learned), `history.csv` (a row an epoch),
`snapshots.safetensors` (models before the last epoch, if any were asked for) and, written last, `run.json` (what made
it, and the checksums of the others). Interrupted trainings resume from `state.pt`, in a folder of the run's own. Who
reads a run raises a UserError if a file is missing or damaged; who writes one, if the disk is full.
"""

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import load, save
from torch import Tensor

from adtr import records
from adtr.errors import UserError
from adtr.features.store import read_store
from adtr.files import saved, write_bytes
from adtr.train.context import Fitted

STATES = ["state.pt", "before.pt"]  # the latest, and the one before it
DIGEST = hashlib.sha256().digest_size
logger = logging.getLogger(__name__)


def write_run(output: Path, record: dict[str, Any], fitted: Fitted) -> None:
    """Writes the five files; the number of parameters and the model's sha256 are added to `record`, for run.json."""
    params = {"method": record["method"], "seed": record["seed"], "features": record["features"]["features"]}
    columns = [*fitted.history[0]] if fitted.history else ["epoch", "lr", "loss"]
    snapshots = {f"{epoch:06}/{name}": t for epoch, state in fitted.snapshots.items() for name, t in state.items()}
    model = _safe(fitted.state)
    contents = {
        "params.yaml": yaml.safe_dump(params | record["params"], sort_keys=False).encode(),
        "history.csv": pd.DataFrame(fitted.history, columns=columns).to_csv(index=False).encode(),
        "snapshots.safetensors": _safe(snapshots),
        "model.safetensors": model,
    }
    learned = {"parameters": fitted.parameters, "model": hashlib.sha256(model).hexdigest()}
    records.write(output / "run.json", record | learned, contents)


def _safe(tensors: dict[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def read_record(run: Path) -> dict[str, Any]:
    """What made a run: its run.json."""
    return records.Record(run / "run.json").values


def read_model(run: Path) -> dict[str, Tensor]:
    """What a run learned."""
    return load(records.Record(run / "run.json").read("model.safetensors"))


def read_snapshots(run: Path) -> dict[int, dict[str, Tensor]]:
    """The models before the last epoch, by epoch."""
    tensors = load(records.Record(run / "run.json").read("snapshots.safetensors"))
    snapshots: dict[int, dict[str, Tensor]] = {}
    for key in sorted(tensors):
        epoch, _, name = key.partition("/")
        snapshots.setdefault(int(epoch), {})[name] = tensors[key]
    return snapshots


def check_stores(run: Path, stores: dict[str, Path]) -> None:
    """Refuses features of another backbone, other weights or other code than those that a run was trained on."""
    trained = read_record(run)["features"]
    for store in stores.values():
        made = read_store(store)[1]
        if other := [key for key in ("features", "weights", "code") if made[key] != trained[key]]:
            raise UserError(f"{store}: its {' and '.join(other)} differ from those that {run} was trained on")


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the saved state, which ends in its own sha256; the one before is kept until the training has ended."""
    path, before = (folder / name for name in STATES)
    content = saved(lambda file: torch.save(state | {"of": folder.name}, file))
    if path.is_file():
        path.replace(before)
    write_bytes(path, content + hashlib.sha256(content).digest())
    if "optimizer" not in state:
        before.unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The saved state, or the one before where that is damaged; None if there is none."""
    for path in (folder / name for name in STATES):
        if not path.is_file():
            continue
        try:
            content = path.read_bytes()
            if hashlib.sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
                raise ValueError("it does not fit its own checksum")
            state: dict[str, Any] = torch.load(io.BytesIO(content[:-DIGEST]), map_location="cpu", weights_only=True)
            if state.pop("of") != folder.name:
                raise ValueError("it is another training's")
        except Exception as error:  # torch.load raises almost anything
            logger.warning("%s is damaged and not used: %s", path, error)
            continue
        logger.info("resumes after epoch %d", len(state["history"]))
        return state
    return None
