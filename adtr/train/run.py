"""The five files of a run, which evaluation, tables and figures read, and the state that a training resumes from.

`params.yaml` (what was asked for), `model.safetensors` (what was learned), `history.csv` (a row an epoch),
`snapshots.safetensors` (models before the last epoch, if any were asked for) and, written last, `run.json` (what made
it, and the checksums of the others). Interrupted trainings resume from `state.pt`, in a folder of the run's own. Who
reads a run raises a UserError if a file is missing or damaged; who writes one, if the disk is full.
"""

import hashlib
import io
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import torch
import yaml
from safetensors.torch import load, save
from torch import Tensor

from adtr import records
from adtr.errors import UserError
from adtr.features.store import read_store
from adtr.files import write_bytes
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


class Saver:
    """Saves states in a thread of its own, one at a time, while the training goes on; at its end, waits for the last.

    Args:
        folder: of the state; None to save nothing.
        interval: seconds between two states, at least.
        held: raises if another process has taken over the folder; asked before each state is written.
    """

    def __init__(self, folder: Path | None, interval: float, held: Callable[[], None]):
        self.folder, self.interval, self.held = folder, interval, held
        self._pool, self._saved, self._last = ThreadPoolExecutor(1), Future[None](), time.monotonic()
        self._saved.set_result(None)

    def due(self, at_once: bool = False) -> bool:
        """Whether a state should be saved now; raises what saving the one before raised."""
        if self._saved.done():
            self._saved.result()
        return bool(self.folder) and (at_once or time.monotonic() - self._last >= self.interval)

    def save(self, state: dict[str, Any]) -> None:
        """Copies the state, to be written while its tensors change; waits for the one before, raises what it raised."""
        self._saved.result()
        self._last, state = time.monotonic(), copied(state)
        self._saved = self._pool.submit(self._write, state)

    def _write(self, state: dict[str, Any]) -> None:
        if self.folder:
            self.held()
            save_state(self.folder, state)

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown()
        if error is None:
            self._saved.result()


def copied(content: Any) -> Any:
    """Nested dictionaries and lists, with copies of their tensors in the memory of the host."""
    match content:
        case Tensor():
            return content.detach().to("cpu", copy=True)
        case dict():
            return {key: copied(value) for key, value in content.items()}
        case list():
            return [copied(value) for value in content]
    return content


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the saved state, which ends in its own sha256; the one before is kept until the training has ended."""
    path, before = (folder / name for name in STATES)
    content = io.BytesIO()  # not a file: on a full disk torch.save hides its error
    torch.save(state | {"of": folder.name}, content)
    with content.getbuffer() as view:
        checksum = hashlib.sha256(view).digest()
    content.write(checksum)
    if path.is_file():
        path.replace(before)
    with content.getbuffer() as view:  # released also after an error, whose traceback lives on
        write_bytes(path, view)
    _forget_before(folder, state)


def _forget_before(folder: Path, state: dict[str, Any]) -> None:
    """Once the training has ended the state before the last serves nobody."""
    if "optimizer" not in state:
        (folder / STATES[1]).unlink(missing_ok=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """The saved state; where that is damaged, the one before, which takes its place; None if there is none."""
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
        path.replace(folder / STATES[0])  # else the next save would put the damaged one in the place of this
        _forget_before(folder, state)  # who wrote a last state may have been killed before that
        logger.info("resumes after epoch %d", len(state["history"]))
        return state
    return None
