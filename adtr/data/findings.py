"""What is wrong, or looks wrong, with the images of a data set.

A problem stops the index. A warning stays beside the manifest, in its record, and is shown on the console and in the
report.
"""

import io
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from adtr.config.paths import Paths
from adtr.data.images import marked
from adtr.errors import UserError
from adtr.records import Record

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # Pillow has others, of which one starts a program
Warnings = Mapping[str, list[str]]  # what, and the names of the files

UNREAD = "not read, as it is not where the layout has images or of an unknown kind"
PAGES = "several pages or frames, of which the first is read"
ALPHA = "transparent, in parts or as a whole, which is not seen: the colours behind are read"
PLAIN = "of a single colour"
INVERTED = "a mask of more than half of its image, border included: is it inverted? What is not black is anomalous"
LOSSY = "a mask stored as JPEG, which blurs its edges: what is not black is anomalous"
LEVELS = "a mask of more than two values: all but black is anomalous"
NORMAL = "a mask of a normal image that is not black: normal images have no mask, it is not read"
SOUNDS_GOOD = "a folder whose name sounds normal, and whose images count as anomalous: is it test/good?"
ABSENT = "no images there, so that metrics which need them are undefined"
UNMASKED = "anomalous images without a mask, which pixel metrics leave out"
LEFT_OUT = "anomalous images in the folder for training, which are left out"
LEAKED = "images for testing or validation that are also training images"
COPIES = "copies: the same image occurs several times in training, or in testing"
CONTRARY = "normal and anomalous: the same picture stands under both labels"


@dataclass
class Findings:
    """Collects what is found below `root`."""

    root: Path
    problems: list[str] = field(default_factory=list)
    warnings: dict[str, list[str]] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """A path below `root` as it can be printed, on one line."""
        return shown(str(path.relative_to(self.root)))

    def warn(self, what: str, name: str) -> None:
        self.warnings.setdefault(what, []).append(shown(name))

    def look_at_image(self, image: Image.Image, name: str) -> None:
        """Warns of pages that are not read, of what only the alpha channel holds, and of pictures without content."""
        if image.info.get("pages", 1) > 1:
            self.warn(PAGES, name)
        if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            self.warn(ALPHA, name)
        if image.convert("RGB").getcolors(1):
            self.warn(PLAIN, name)

    def look_at_mask(self, mask: Image.Image, name: str) -> None:
        """Warns of a mask that is hardly what a person drew; one that marks nothing is a problem."""
        marks = marked(mask)
        frame = [marks[0], marks[-1], marks[:, 0], marks[:, -1]]
        if not marks.any():
            self.problems.append(f"{shown(name)}: marks nothing, as every pixel is black or transparent: replace it")
        elif marks.mean() > 0.5 and sum(map(sum, frame)) > sum(map(len, frame)) / 2:
            self.warn(INVERTED, name)
        if mask.info.get("pages", 1) > 1:
            self.warn(PAGES, name)
        if mask.format in ("JPEG", "MPO"):
            self.warn(LOSSY, name)
        elif not mask.getcolors(2):
            self.warn(LEVELS, name)


def check_format(raw: bytes, reference: str) -> None:
    """Raises a UserError if a file is no image of FORMATS, whatever its suffix says; before it is decoded."""
    try:
        Image.open(io.BytesIO(raw), formats=FORMATS)
    except Exception:  # a broken image raises almost anything
        known = "PNG, JPEG, BMP, TIFF and WebP are read"
        raise UserError(f"{shown(reference)}: not readable as an image ({known}): replace or remove it") from None


def shown(text: str | os.PathLike[str]) -> str:
    """Text, or a file's name, on one line, with an escape in place of what cannot be printed or is not UTF-8."""
    readable = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in readable)


def sentences(warnings: Warnings, most: int | None = None) -> list[str]:
    """A line a kind of warning, with the first `most` names, or all of them."""
    lines = []
    for what, names in warnings.items():
        hidden = len(names) - len(names[:most])
        lines.append(f"{what} ({len(names)}): {', '.join(names[:most])}" + (f" and {hidden} more" if hidden else ""))
    return lines


def of_study(paths: Paths, most: int | None = None) -> list[str]:
    """The warnings in the records of a study's manifests and shortcuts, as far as these are there.

    Args:
        most: as for `sentences`.

    Raises:
        UserError: a record is missing or damaged.
    """
    found = []
    for of, names in itertools.product((paths.manifest, paths.shortcuts), paths.plan.categories()):
        path, name = of(*names), "/".join(names)
        made = path.with_suffix(".json")
        if path.is_file() or made.is_file():
            record = Record(made)
            record.check(path.name)  # not the record of something else
            found += [f"{name}: {line}" for line in sentences(record.values.get("warnings", {}), most)]
    return found
