"""MVTec-AD's layout as people's folders hold it: train/good, test/<defect>, ground_truth/<defect>.

What is not read is warned of by name. Passed over without a word are names that begin with a dot and those in JUNK,
which systems leave behind, and files of text.
"""

from collections import defaultdict
from pathlib import Path
from unicodedata import category as kind_of

import pandas as pd

from adtr.data.findings import NORMAL, UNREAD, Findings, shown
from adtr.data.images import decode, marked, raw_bytes
from adtr.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
JUNK = {
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
    "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
}  # fmt: skip
TEXT = {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf", ".log", ".ini", ".db"}
PARTS = ("train", "test", "ground_truth")
Folders = dict[tuple[str, str], list[Path]]  # images by part and kind of anomaly


def list_mvtec(root: Path, category: str, findings: Findings) -> pd.DataFrame:
    """The rows of a category, without digests.

    A mask is <name>_mask.png or has the image's own name; other suffixes are found, too. Without a folder ground_truth
    the category has labels of images only; with one, every anomaly needs its mask.

    Raises:
        UserError: there is no such category.
    """
    base = root / category
    if not base.is_dir():
        known = [path.name for path in sorted(root.iterdir()) if (path / "train").is_dir() and not is_junk(path.name)]
        raise UserError(f"{root}: no category {category!r}; known: {', '.join(known)}")
    folders, masked, rows = _scan(base, findings), (base / "ground_truth").is_dir(), []
    for (part, defect), images in folders.items():
        if part == "ground_truth":
            continue
        if defect != "good" and defect.lower() == "good":
            findings.problems.append(f"{findings.name(base / part / defect)}: rename it to good")
        needs, masks = masked and defect != "good", folders.get(("ground_truth", defect), [])
        chosen = _with_masks(images, masks, findings) if needs else {}
        rows += [(path, chosen.get(path), int(defect != "good"), part, defect, category) for path in images]
    used = {row[1] for row in rows}
    for (part, defect), masks in folders.items():
        if part == "ground_truth" and defect == "good":
            _warn_of_marks(masks, findings)
        elif part == "ground_truth":
            unused = [path for path in masks if path not in used]
            findings.problems += [f"{findings.name(path)}: a mask without its image" for path in unused]
    for wanted, label, where in (("train", 0, "train/good"), ("test", 0, "test/good"), ("test", 1, "test/<defect>")):
        if not any(row[3] == wanted and row[2] == label for row in rows):
            findings.problems.append(f"{base}: no images in {where}")
    table = pd.DataFrame(rows, columns=["image", "mask", "label", "split", "defect", "part"])
    for column in ("image", "mask"):
        table[column] = [str(path.relative_to(root)) if path else "" for path in table[column]]
    return table


def is_junk(name: str) -> bool:
    """Whether a system or a program leaves files or folders of that name behind."""
    return name.startswith(".") or name.lower() in JUNK


def _scan(base: Path, findings: Findings) -> Folders:
    """The images of train/good, of the folders of test and of those of ground_truth, in this order."""
    found: Folders = {}
    for path in (path for path in _visible(base, findings) if path.name not in PARTS):
        _pass_over(path, findings)
    for part in (base / name for name in PARTS):
        if not part.is_dir():
            if part.is_symlink() or part.exists():
                findings.problems.append(f"{findings.name(part)}: not a folder")
            continue
        for folder in _visible(part, findings):
            if folder.is_dir() and (part.name != "train" or folder.name == "good"):
                found[part.name, folder.name] = _images(folder, findings)
            else:
                _pass_over(folder, findings)
    return found


def _images(folder: Path, findings: Findings) -> list[Path]:
    images = []
    for path in _visible(folder, findings):
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            _pass_over(path, findings)
        elif path.is_file():
            images.append(path)
        else:
            findings.problems.append(f"{findings.name(path)}: neither a file nor a folder, or a broken link: remove it")
    return images


def _visible(folder: Path, findings: Findings) -> list[Path]:
    """What lies in a folder, in the order of its names, but for junk."""
    paths = sorted(path for path in folder.iterdir() if not is_junk(path.name))
    odd = [path for path in paths if any(kind_of(letter) in ("Cc", "Cs") for letter in path.name)]
    findings.problems += [
        f"{findings.name(path)}: the name is not UTF-8, or has a line break or the like: rename it" for path in odd
    ]
    return [path for path in paths if path not in odd]


def _pass_over(path: Path, findings: Findings) -> None:
    if path.is_dir() or path.suffix.lower() not in TEXT:
        findings.warn(UNREAD, str(path.relative_to(findings.root)))


def _with_masks(images: list[Path], masks: list[Path], findings: Findings) -> dict[Path, Path]:
    """The mask of each image of a defect."""
    by_stem, chosen, used = defaultdict(list), dict[Path, Path](), dict[Path, Path]()
    for mask in masks:
        by_stem[mask.stem].append(mask)
    for image in images:
        stem, name = image.stem, findings.name(image)
        wanted = [f"{stem}_mask.png", f"{stem}_mask{image.suffix}", image.name, f"{stem}.png"]
        candidates = {mask.name: mask for mask in [*by_stem[f"{stem}_mask"], *by_stem[stem]]}
        if not candidates:
            findings.problems.append(f"{name}: no mask {shown(wanted[0])} in ground_truth/{shown(image.parent.name)}")
            continue
        mask = candidates[next((name for name in wanted if name in candidates), next(iter(candidates)))]
        if mask in used:
            findings.problems.append(f"{name}: its mask is that of {findings.name(used[mask])}, too: rename one")
        chosen[image], used[mask] = mask, image
    return chosen


def _warn_of_marks(masks: list[Path], findings: Findings) -> None:
    for path in masks:
        name = str(path.relative_to(findings.root))
        try:
            if marked(decode(raw_bytes(findings.root, name), name)).any():
                findings.warn(NORMAL, name)
        except (UserError, OSError) as error:
            findings.problems.append(str(error))
