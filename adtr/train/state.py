"""What an interrupted training resumes from: `state.pt` in a folder of the run's own."""

import io
import logging
from pathlib import Path
from typing import Any

import torch

from adtr.files import write_bytes

logger = logging.getLogger(__name__)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the saved state.

    Raises:
        UserError: the disk is full.
    """
    content = io.BytesIO()  # on a full disk torch.save itself ends in an error of its own, not of the system
    torch.save(state, content)
    write_bytes(folder / "state.pt", content.getbuffer())


def load(folder: Path) -> dict[str, Any] | None:
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
