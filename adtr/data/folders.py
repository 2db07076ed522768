"""MVTec-AD's layout as people's folders hold it: train/good, test/<defect>, ground_truth/<defect>.

Only train/good must be there. What is not read is warned of by name. Passed over without a word are names that begin
with a dot and those in JUNK, which systems leave behind, and files of text.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from unicodedata import category as kind_of
from unicodedata import normalize

import pandas as pd

from adtr.data.findings import ABSENT, NORMAL, SOUNDS_GOOD, UNMASKED, UNREAD, Findings, check_format, shown
from adtr.data.images import SEVERAL, decode, marked, raw_bytes
from adtr.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
JUNK = {
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
    "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
}  # fmt: skip
TEXT = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".log", ".ini", ".db"}
NORMAL_NAMES = {"good", "ok", "okay", "normal", "pass", "passed", "fine", "intact", "no_defect", "defect_free"}
SPLITS = {"train": "train", "validation": "calibration", "test": "test"}  # of the images of a part
PARTS = (*SPLITS, "ground_truth")


class Mask(NamedTuple):
    """The mask of an image: a file, or a folder of masks whose union counts (MVTec LOCO)."""

    path: Path
    files: list[Path]

    @property
    def stem(self) -> str:
        return self.path.stem if self.path in self.files else self.path.name


class Row(NamedTuple):
    """An image of a category."""

    image: Path
    masks: list[Path]
    label: int
    split: str
    defect: str


def list_mvtec(base: Path, findings: Findings, good: str = "good") -> list[Row]:
    """The images of a category.

    A mask is <name>_mask.png, has the image's own name, or is a folder of its name; other suffixes are found, too.
    Without a folder ground_truth the category has labels of images only; with one, an anomaly may lack its mask.

    Args:
        good: the folder of normal images; BTAD calls it ok.
    """
    images, masks, rows = *_scan(base, findings, good), list[Row]()
    for (part, defect), paths in images.items():
        plain = _plain(defect)
        if defect != good and plain == good:
            findings.problems.append(
                f"{findings.name(base / part / defect)}: rename it to {good}, which {defect!a} is not"
            )
        elif defect != good and plain in NORMAL_NAMES:
            findings.warn(SOUNDS_GOOD, str((base / part / defect).relative_to(findings.root)))
        needs = defect != good and (base / "ground_truth").is_dir()
        chosen = _with_masks(paths, masks.get(defect, []), findings) if needs else {}
        name = "good" if defect == good else defect
        rows += [Row(path, chosen.get(path, []), int(defect != good), SPLITS[part], name) for path in paths]
    used = {path for row in rows for path in row.masks}
    for defect, of in masks.items():
        if defect == good:
            marking = (path for mask in of for path in mask.files if marks(path, findings))
            for path in marking:
                findings.warn(NORMAL, str(path.relative_to(findings.root)))
        else:
            unused = [mask.path for mask in of if not used & {*mask.files}]
            findings.problems += [f"{findings.name(path)}: a mask without its image" for path in unused]
    return checked(rows, base, findings, ("train/" + good, "test/" + good, "test/<defect>"))


def _plain(name: str) -> str:
    """A name as a reader sees it: without invisible letters, wide ones as others, in lower case."""
    return "".join(letter for letter in normalize("NFKC", name) if kind_of(letter) != "Cf").strip().lower()


def checked(rows: list[Row], base: Path, findings: Findings, places: tuple[str, str, str]) -> list[Row]:
    """The rows; without any for training a problem, without normal or anomalous ones for testing a warning."""
    for (split, label), place in zip((("train", 0), ("test", 0), ("test", 1)), places, strict=True):
        if not any((row.split, row.label) == (split, label) for row in rows):
            if split == "train":
                findings.problems.append(f"{base}: no images in {place}")
            else:
                findings.warn(ABSENT, f"{base.name}/{place}")
    return rows


def tabulated(root: Path, category: str, rows: Iterable[Row]) -> pd.DataFrame:
    """The rows of a category's manifest, without digests."""

    def named(paths: list[Path]) -> str:
        return SEVERAL.join(str(path.relative_to(root)) for path in paths)

    names = [(named([row.image]), named(row.masks), *row[2:], category) for row in rows]
    return pd.DataFrame(names, columns=["image", "mask", "label", "split", "defect", "part"])


def is_junk(name: str) -> bool:
    """Whether a system or a program leaves files or folders of that name behind."""
    return name.startswith(".") or name.lower() in JUNK


def _scan(base: Path, findings: Findings, good: str) -> tuple[dict[tuple[str, str], list[Path]], dict[str, list[Mask]]]:
    """The images by part and kind of anomaly, and the masks by kind."""
    images: dict[tuple[str, str], list[Path]] = {}
    masks: dict[str, list[Mask]] = {}
    for path in (path for path in visible(base, findings) if path.name not in PARTS):
        pass_over(path, findings)
    for part in (base / name for name in PARTS):
        if not part.is_dir():
            if part.is_symlink() or part.exists():
                findings.problems.append(f"{findings.name(part)}: not a folder")
            continue
        for folder in visible(part, findings):
            if not folder.is_dir() or (part.name in ("train", "validation") and folder.name != good):
                pass_over(folder, findings)
            elif part.name == "ground_truth":
                masks[folder.name] = _masks(folder, findings)
            else:
                images[part.name, folder.name] = images_in(folder, findings)
    return images, masks


def _masks(folder: Path, findings: Findings) -> list[Mask]:
    several = [path for path in visible(folder, findings) if path.is_dir()]
    masks = [Mask(path, [path]) for path in images_in(folder, findings, several)]
    return masks + [Mask(path, images_in(path, findings)) for path in several]


def images_in(folder: Path, findings: Findings, besides: Iterable[Path] = ()) -> list[Path]:
    """The images of a folder, in the order of their names; what else is there is warned of, but for `besides`."""
    images = []
    for path in visible(folder, findings):
        if path in besides:
            continue
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            pass_over(path, findings)
        elif path.is_file():
            images.append(path)
        else:
            findings.problems.append(f"{findings.name(path)}: neither a file nor a folder, or a broken link: remove it")
    return images


def visible(folder: Path, findings: Findings) -> list[Path]:
    """What lies in a folder, in the order of its names, but for junk."""
    paths = sorted(path for path in folder.iterdir() if not is_junk(path.name))
    odd = [path for path in paths if any(kind_of(letter) in ("Cc", "Cs") for letter in path.name)]
    problems = [
        f"{findings.name(path)}: the name is not UTF-8, or has a line break or the like: rename it" for path in odd
    ]
    findings.problems += [problem for problem in problems if problem not in findings.problems]
    return [path for path in paths if path not in odd]


def pass_over(path: Path, findings: Findings) -> None:
    """Warns of what is not read, unless it is text."""
    if path.is_dir() or path.suffix.lower() not in TEXT:
        findings.warn(UNREAD, str(path.relative_to(findings.root)))


def _with_masks(images: list[Path], masks: list[Mask], findings: Findings) -> dict[Path, list[Path]]:
    """The mask of each image of a defect that has one."""
    by_stem, chosen, used = defaultdict(list), dict[Path, list[Path]](), dict[Path, Path]()
    for mask in masks:
        by_stem[mask.stem].append(mask)
    for image in images:
        stem, name = image.stem, findings.name(image)
        wanted = [f"{stem}_mask.png", f"{stem}_mask{image.suffix}", image.name, f"{stem}.png", stem]
        candidates = {mask.path.name: mask for mask in [*by_stem[f"{stem}_mask"], *by_stem[stem]]}
        if not candidates:
            findings.warn(UNMASKED, str(image.relative_to(findings.root)))
            continue
        mask = candidates[next((name for name in wanted if name in candidates), next(iter(candidates)))]
        if not mask.files:
            findings.problems.append(f"{findings.name(mask.path)}: no mask in it: remove it, or put masks there")
        if mask.path in used:
            findings.problems.append(f"{name}: its mask is that of {findings.name(used[mask.path])}, too: rename one")
        chosen[image], used[mask.path] = mask.files, image
    return chosen


def marks(mask: Path, findings: Findings) -> bool:
    """Whether a mask marks anything; one that cannot be read is a problem, and marks nothing."""
    name = str(mask.relative_to(findings.root))
    try:
        check_format(raw := raw_bytes(findings.root, name), name)
        return bool(marked(decode(raw, shown(name))).any())
    except (UserError, OSError) as error:
        findings.problems.append(str(error))
        return False
