"""How far a training has come, as it says in its state folder."""

import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat
from tabulate import tabulate

from adtr.config.paths import Paths
from adtr.errors import UserError
from adtr.files import content_of, write_text
from adtr.train.lock import is_held
from adtr.train.outdated import evaluated_otherwise, trained_otherwise

INTERVAL = 5.0  # seconds between two reports, at least
STALE = 600  # seconds without a report, after which a training counts as interrupted even if its lock is held


class Report(BaseModel):
    """What a training says of itself; the loss may be NaN."""

    epoch: int
    epochs: int
    loss: float
    seconds_per_epoch: FiniteFloat
    time: FiniteFloat


def latest_report(state: Path) -> dict[str, Any] | None:
    """What `Progress` last wrote below the state folder of a run; None before its first epoch, or without epochs."""
    reports = []
    for path in state.glob("*/progress.json"):
        with suppress(OSError, ValueError):
            reports.append(Report.model_validate_json(content_of(path)).model_dump())
    return max(reports, key=lambda report: report["time"], default=None)


def status_table(paths: Paths) -> str:
    """The runs of a study that are at work or were interrupted, and how many are in which state."""
    rows, counts = [], dict.fromkeys(("evaluated", "trained", "at work", "interrupted", "not begun"), 0)
    for run in paths.plan.runs():
        folder, report = paths.run(run), latest_report(paths.state(run))
        params, trained = paths.plan.params[run[:2]], (folder / "run.json").is_file()
        as_asked = trained and not trained_otherwise(paths, run)
        if as_asked and not evaluated_otherwise(paths, run):
            state = "evaluated"
        elif as_asked:
            state = "trained"
        elif (
            report is None
            or report["epochs"] != params.train.epochs
            or (trained and report["epoch"] == report["epochs"])
        ):
            # None yet, or that of a training of other parameters
            state = "at work" if is_held(paths.state(run)) else "not begun"
            if state == "at work":
                rows.append([state, str(run), f"0/{params.train.epochs}" if params.trains else "", None, None])
        else:
            silent, epoch, epochs = time.time() - report["time"], report["epoch"], report["epochs"]
            state = "interrupted" if silent >= STALE or is_held(paths.state(run)) is False else "at work"
            left = (epochs - epoch) * report["seconds_per_epoch"] - silent * (state == "at work")
            rows.append([state, str(run), f"{epoch}/{epochs}", report["loss"], max(0, left) / 60])
        counts[state] += 1
    table = tabulate(rows, ["", "run", "epoch", "loss", "minutes left"], floatfmt=("", "", "", ".4g", ".0f"))
    return "\n\n".join([*([table] if rows else []), ", ".join(f"{count} {state}" for state, count in counts.items())])


class Progress:
    """Writes `progress.json` to a training's folder, if any, every INTERVAL seconds and after the last epoch.

    `done` epochs were trained before.
    """

    def __init__(self, folder: Path | None, epochs: int, done: int):
        self.folder, self.epochs, self.done = folder, epochs, done
        self.began, self.written = time.monotonic(), -math.inf

    def __call__(self, epoch: int, loss: float) -> None:
        """Reports an epoch, counted from 1."""
        now = time.monotonic()
        if self.folder is None or (now - self.written < INTERVAL and epoch < self.epochs):
            return
        self.written, each = now, (now - self.began) / (epoch - self.done)
        report = {"epoch": epoch, "epochs": self.epochs, "loss": loss, "seconds_per_epoch": each, "time": time.time()}
        with suppress(OSError, UserError):  # a full disk shall fail with the state, not with a report
            write_text(self.folder / "progress.json", json.dumps(report) + "\n")
