"""What is taken to the offline machine: archives in pieces, and which stage needs which of them."""

import io
import json
import shutil
import tarfile
import time
import traceback
from pathlib import Path
from typing import Any

from visit import Stage, Visit

PACKED = "packed.json"  # the commit of the project, when it was packed, and the pieces of each item
BASE = ("project", "site", "lite0")
SCREW = (*BASE, "screw", "lite1", "lite2")
NEEDS = {  # of each stage, in the order of their value; items travel in the order in which they are needed
    "direct": BASE,
    "recorded": BASE,
    "smoke": BASE,
    "bench": BASE,
    "probe": BASE,
    "screw": SCREW,
    "screw_paper": SCREW,
    "cifar10": (*BASE, "cifar100", "cifar10"),
    "elpv": (*BASE, "elpv"),
}


def packed(visit: Visit) -> dict[str, Any]:
    """What was packed: `commit`, and `items` with the names of their pieces."""
    content: dict[str, Any] = json.loads((visit.folder / PACKED).read_text())
    return content


def complete(visit: Visit, stage: str) -> bool:
    """Whether all that a stage needs is here; an item that was not packed is expected on the machine."""
    return all(has(visit, item) for item in NEEDS[stage] if item in packed(visit)["items"])


def has(visit: Visit, item: str) -> bool:
    """Whether an item was unpacked, as it was packed last."""
    mark = visit.folder / "unpacked" / item
    return mark.is_file() and mark.read_text() == str(packed(visit)["items"].get(item))


def receive(visit: Visit, source: Path) -> None:
    """Copies the pieces and the drill itself from `source`, and unpacks each item that is now complete.

    A folder that was packed later decides, whichever comes first.
    """
    pieces, marks = visit.folder / "pieces", visit.folder / "unpacked"
    for folder in (pieces, marks):
        folder.mkdir(parents=True, exist_ok=True)
    if source != visit.folder:
        came = json.loads((source / PACKED).read_text())
        here: dict[str, Any] = {"time": 0, "items": {}}
        if (visit.folder / PACKED).is_file():
            here = packed(visit)
        newer = came["time"] >= here["time"]
        older, newest = (here, came) if newer else (came, here)
        items = older["items"] | newest["items"]  # a mend has but what changed
        for path in source.glob("*.py") if newer else ():
            _copy(path, visit.folder / path.name)
        for path in source.glob("*.piece*"):
            _copy(path, pieces / path.name)
        (partial := visit.folder / "packed.partial").write_text(json.dumps(newest | {"items": items}))
        partial.replace(visit.folder / PACKED)
    for item, names in packed(visit)["items"].items():
        parts = [pieces / name for name in names]
        if has(visit, item) or not all(path.is_file() for path in parts):
            continue
        began = time.time()
        try:
            with tarfile.open(fileobj=io.BytesIO(b"".join(path.read_bytes() for path in parts))) as archive:
                archive.extractall(visit.folder, filter="data")
        except Exception:  # one item must not cost the others
            Stage(visit, "receive").note(traceback.format_exc())
            continue
        (marks / item).write_text(str(names))
        for path in parts:
            path.unlink()
        print(f"{item}: unpacked in {time.time() - began:.1f} s", flush=True)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f".{target.name}")
    shutil.copyfile(source, partial)
    partial.replace(target)
