"""Finished files under a second name.

Where one member of a batch fails, Snakemake deletes the files of all of them; the next attempt takes what was finished
from here.
"""

import json
import logging
from pathlib import Path

from adtr.files import link, sha256, write_text

RECORD = "kept.json"
logger = logging.getLogger(__name__)


def bring_back(folder: Path, identity: str, files: list[Path]) -> bool:
    """Links the files that were kept to where they belong; whether all were there, whole, and of this identity."""
    try:
        kept = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if kept != {"identity": identity, "files": {file.name: sha256(folder / file.name) for file in files}}:
            return False
    except (OSError, ValueError):
        return False
    for file in files:
        link(folder / file.name, file)
    logger.info("finished before, taken from %s; remove that folder to compute anew", folder)
    return True


def keep(folder: Path, identity: str, files: list[Path]) -> None:
    """Keeps finished files in a folder of their own, which costs no space on the file system that they lie on.

    Args:
        identity: a text that changes with all that decides their content.
    """
    (folder / RECORD).unlink(missing_ok=True)
    for file in files:
        link(file, folder / file.name)
    record = {"identity": identity, "files": {file.name: sha256(file) for file in files}}
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
