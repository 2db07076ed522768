"""The five files of a run, which evaluation, tables and figures read, and the state that a training resumes from.

`params.yaml` (what was asked for), `model.safetensors` (what was learned), `history.csv` (a row an epoch),
`snapshots.safetensors` (models before the last epoch, if any were asked for) and, written last, `run.json` (what made
it). Interrupted trainings resume from `state.pt`, in a folder of the run's own. Who reads a run raises a UserError if a
file is missing or damaged; who writes one, if the disk is full.
"""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from adtr.errors import UserError
from adtr.features.store import read_store
from adtr.files import sha256, write_bytes, write_saved, write_text
from adtr.train.context import Fitted

logger = logging.getLogger(__name__)


def write_run(output: Path, record: dict[str, Any], fitted: Fitted) -> None:
    """Writes the five files; the number of parameters and the model's sha256 are added to `record`, for run.json."""
    params = {"method": record["method"], "seed": record["seed"], "features": record["features"]["features"]}
    write_text(output / "params.yaml", yaml.safe_dump(params | record["params"], sort_keys=False))
    columns = [*fitted.history[0]] if fitted.history else ["epoch", "lr", "loss"]
    write_text(output / "history.csv", pd.DataFrame(fitted.history, columns=columns).to_csv(index=False))
    snapshots = {f"{epoch:06}/{name}": t for epoch, state in fitted.snapshots.items() for name, t in state.items()}
    for name, tensors in (("snapshots", snapshots), ("model", fitted.state)):
        content = save({key: tensor.contiguous() for key, tensor in tensors.items()})
        write_bytes(output / f"{name}.safetensors", content)
    record = record | {"parameters": fitted.parameters, "model": sha256(output / "model.safetensors")}
    write_text(output / "run.json", json.dumps(record, indent=1) + "\n")


def read_record(run: Path) -> dict[str, Any]:
    """What made a run: its run.json."""
    try:
        record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _incomplete(run, error) from None
    return record


def read_model(run: Path) -> dict[str, Tensor]:
    """What a run learned; refused if it is not the model of run.json."""
    path, record = run / "model.safetensors", read_record(run)
    try:
        if sha256(path) != record["model"]:
            raise UserError(f"{path}: its sha256 is not that of {run / 'run.json'}: train it again")
        return load_file(path)
    except (OSError, KeyError) as error:
        raise _incomplete(run, error) from None


def read_snapshots(run: Path) -> dict[int, dict[str, Tensor]]:
    """The models before the last epoch, by epoch."""
    try:
        tensors = load_file(run / "snapshots.safetensors")
    except (OSError, SafetensorError) as error:
        raise _incomplete(run, error) from None
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


def _incomplete(run: Path, error: Exception) -> UserError:
    return UserError(f"{run}: not a whole run ({error}): train it again")


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the saved state."""
    write_saved(folder / "state.pt", lambda file: torch.save(state, file))


def load_state(folder: Path) -> dict[str, Any] | None:
    """The saved state; None if there is none, or no readable one."""
    path = folder / "state.pt"
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises almost anything on a broken file
        logger.warning("%s is not readable (%s): starts again", path, error)
        return None
    logger.info("resumes after epoch %d", len(state["history"]))
    return state
