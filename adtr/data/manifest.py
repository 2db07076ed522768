"""Manifests: what images a category holds, and for what.

A manifest is a CSV, one row an image:
    image, mask  references relative to the data set's root (mask empty where there is none)
    label        0 normal, 1 anomalous
    split        train, test, or rest (CIFAR-10: anomalous test images beyond the 1,000 drawn)
    defect       the kind of anomaly, 'good' for normal images; CIFAR-10's class name
    sha256       of the image's bytes; mask_sha256 of the mask's
    part         the images whose features are extracted and stored together
The order of rows is part of the manifest: features and scores follow it.
"""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from adtr import records
from adtr.config.schema import Dataset, root_of
from adtr.data.images import cifar_batch, decode, raw_bytes
from adtr.errors import UserError

logger = logging.getLogger(__name__)

COLUMNS = ["image", "mask", "label", "split", "defect", "sha256", "mask_sha256", "part"]


class CifarFiles(NamedTuple):
    """What the publishers call the files and keys of a CIFAR archive."""

    meta: str
    names: bytes
    train: list[str]
    test: str
    labels: bytes


BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
CIFAR = {
    "cifar10": CifarFiles("batches.meta", b"label_names", BATCHES, "test_batch", b"labels"),
    "cifar100": CifarFiles("meta", b"fine_label_names", ["train"], "test", b"fine_labels"),
}
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def index(dataset: Dataset, category: str) -> pd.DataFrame:
    """The manifest of one category, each image and mask read and checked.

    Raises:
        UserError: with every problem of every image in one message.
    """
    root = root_of(dataset.root, dataset.title)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. Put {dataset.title} there, get it with `adtr fetch`, or set `root`")
    listed = {"mvtec": _list_mvtec, "elpv": _list_elpv}.get(dataset.layout, _list_cifar)
    manifest, problems = listed(root, category, dataset)
    rows = tqdm(manifest.itertuples(), total=len(manifest), unit="image", disable=None)
    digests = [_check(root, row.image, row.mask, problems) for row in rows]
    if problems:
        head = f"{len(problems)} problem{'s' * (len(problems) > 1)} in {root}, category {category}:"
        raise UserError("\n  ".join([head, *problems]))
    manifest[["sha256", "mask_sha256"]] = digests
    train = manifest[manifest.split == "train"]
    leaked = manifest[(manifest.split != "train") & manifest.sha256.isin(train.sha256)]
    if len(leaked):
        logger.warning("%s: %d test images are also training images: %s", category, len(leaked), leaked.image.iloc[0])
    return manifest[COLUMNS]


def draw_outliers(dataset: Dataset, count: int, seed: int) -> pd.DataFrame:
    """A manifest of `count` training images of all classes of a CIFAR, drawn without replacement, in their order.

    All are anomalies (Sec. 4.1) of split 'train' and part 'outliers'.

    Raises:
        UserError: the layout is not a CIFAR's, or it holds fewer images.
    """
    if dataset.layout not in CIFAR:
        raise UserError(f"{dataset.title}: outliers come from {' or '.join(CIFAR)}, not {dataset.layout}")
    root = root_of(dataset.root, dataset.title)
    train = _cifar_rows(root, CIFAR[dataset.layout], CIFAR[dataset.layout].train)
    if count > len(train):
        raise UserError(f"{root}: {len(train)} training images, {count} are asked for: lower outliers.count")
    drawn = np.sort(np.random.default_rng(seed).choice(len(train), count, replace=False))
    manifest = train.iloc[drawn].reset_index(drop=True)
    digests = [hashlib.sha256(raw_bytes(root, image)).hexdigest() for image in manifest.image]
    fixed = {"mask": "", "label": 1, "split": "train", "mask_sha256": "", "part": "outliers"}
    return manifest.assign(sha256=digests, **fixed)[COLUMNS]


def write_manifest(path: Path, manifest: pd.DataFrame) -> None:
    """Writes a manifest, and its record beside it."""
    records.write(path.with_suffix(".json"), {}, {path.name: manifest.to_csv(index=False).encode()})


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest as `write_manifest` wrote it.

    Raises:
        UserError: it is missing or damaged.
    """
    types = dict.fromkeys(COLUMNS, str) | {"label": int}
    return records.Record(path.with_suffix(".json")).table(path.name, keep_default_na=False, dtype=types)


def fingerprint(dataset: Dataset, category: str = "") -> str:
    """Sixteen digits that change when a file of the category is added, removed, renamed or changes its size."""
    root = root_of(dataset.root, dataset.title)
    images = dataset.layout == "mvtec"
    found = (path for path in (root / category if images else root).rglob("*") if path.is_file())
    known = (path for path in found if not images or path.suffix.lower() in SUFFIXES)
    files = sorted((str(path.relative_to(root)), path.stat().st_size) for path in known)
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16] if files else "absent"


def _check(root: Path, image: str, mask: str, problems: list[str]) -> list[str]:
    """The sha256 of an image and of its mask, empty where there is none; what is wrong with them joins `problems`."""
    digests, sizes = [], []
    for reference in filter(None, (image, mask)):
        try:
            raw = raw_bytes(root, reference)
            sizes.append("{}x{} px".format(*decode(raw, reference).size))
            digests.append(hashlib.sha256(raw).hexdigest())
        except (UserError, OSError) as error:
            problems.append(str(error))
    if len(set(sizes)) > 1:
        problems.append(f"{mask}: {sizes[1]}, its image {image} has {sizes[0]}")
    return [*digests, "", ""][:2]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def _list_mvtec(root: Path, category: str, _: Dataset) -> tuple[pd.DataFrame, list[str]]:
    """MVTec-AD's layout: train/good, test/<defect>, ground_truth/<defect>/<name>_mask.png or the same name.

    Without a folder ground_truth the category has labels of images only; with one, every anomaly needs its mask.
    """
    base, rows, problems, used = root / category, [], [], set()
    if not base.is_dir():
        known = sorted(path.name for path in root.iterdir() if (path / "train").is_dir())
        raise UserError(f"{root}: no category {category!r}; known: {', '.join(known)}")
    truth = base / "ground_truth"
    tests = sorted(path.name for path in (base / "test").glob("*") if path.is_dir())
    for split, defect in [("train", "good"), *(("test", name) for name in tests)]:
        for path in _images(base / split / defect):
            mask = _mask_of(path, truth / defect) if defect != "good" and truth.is_dir() else None
            if mask is None and defect != "good" and truth.is_dir():
                problems.append(f"{path.relative_to(root)}: no mask {path.stem}_mask.png in {truth.name}/{defect}")
            used.add(mask)
            reference = str(mask.relative_to(root)) if mask else ""
            rows.append((str(path.relative_to(root)), reference, int(defect != "good"), split, defect, category))
    masks = [path for folder in sorted(truth.glob("*")) if folder.name != "good" for path in _images(folder)]
    problems += [f"{path.relative_to(root)}: a mask without its image" for path in masks if path not in used]
    for wanted, label, where in (("train", 0, "train/good"), ("test", 0, "test/good"), ("test", 1, "test/<defect>")):
        if not any(row[3] == wanted and row[2] == label for row in rows):
            problems.append(f"{base}: no images in {where}")
    return pd.DataFrame(rows, columns=["image", "mask", "label", "split", "defect", "part"]), problems


def _mask_of(image: Path, folder: Path) -> Path | None:
    candidates = [folder / f"{image.stem}_mask{suffix}" for suffix in (".png", image.suffix)]
    candidates += [folder / image.name, folder / f"{image.stem}.png"]
    return next((path for path in candidates if path.is_file()), None)


def _list_cifar(root: Path, category: str, dataset: Dataset) -> tuple[pd.DataFrame, list[str]]:
    """One class is normal; as many test images as it has are drawn from the others as anomalies (Sec. 4.1).

    The anomalies not drawn stay in the manifest, as split 'rest'.
    """
    files = CIFAR[dataset.layout]
    names = _cifar_names(root, files)
    if category not in names:
        raise UserError(f"{root}: no class {category!r}; its classes: {', '.join(names)}")
    train = _cifar_rows(root, files, files.train)
    train = train[train.defect == category].assign(split="train", label=0, part=f"train_{category}")
    test = _cifar_rows(root, files, [files.test]).assign(part="test", split="rest")
    test["label"] = (test.defect != category).astype(int)
    anomalous = np.flatnonzero(test.label)
    drawn = np.random.default_rng(dataset.seed).choice(anomalous, int((test.label == 0).sum()), replace=False)
    test.loc[(test.label == 0) | test.index.isin(drawn), "split"] = "test"
    return pd.concat([train, test], ignore_index=True).assign(mask=""), []


def _cifar_names(root: Path, files: CifarFiles) -> list[str]:
    return [name.decode() for name in cifar_batch(root / files.meta)[files.names]]


def _cifar_rows(root: Path, files: CifarFiles, batches: list[str]) -> pd.DataFrame:
    """The images of some batches and the names of their classes, as `defect`."""
    names, labels = _cifar_names(root, files), {batch: cifar_batch(root / batch)[files.labels] for batch in batches}
    rows = [(f"{batch}:{i}", names[label]) for batch in batches for i, label in enumerate(labels[batch])]
    return pd.DataFrame(rows, columns=["image", "defect"])


def _list_elpv(root: Path, category: str, dataset: Dataset) -> tuple[pd.DataFrame, list[str]]:
    """Cells of defect probability 0 are normal, of 1 anomalous; those between are left out.

    Of the normal ones, in the order of the file, `train_share` are for training, those for testing evenly between
    them: cells of a solar module stand together, so each module is in both.
    """
    cells = pd.read_csv(root / "labels.csv", sep=r"\s+", names=["image", "probability", "type"])
    cells = cells[(cells.type == category) & cells.probability.isin([0, 1])].reset_index(drop=True)
    if cells.empty:
        raise UserError(f"{root}: no cells of type {category!r}")
    cells["label"] = (cells.probability == 1).astype(int)
    trained = np.ceil(np.cumsum(cells.label == 0) * dataset.train_share)  # so many up to here
    cells["split"] = np.where(np.diff(trained, prepend=0) > 0, "train", "test")
    cells["defect"] = np.where(cells.label == 0, "good", "defective")
    ordered = cells.sort_values(["split", "image"], ascending=[False, True], ignore_index=True)
    return ordered.assign(mask="", part=category), []
