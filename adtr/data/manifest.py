"""Manifests: what images a category holds, and for what.

A manifest is a CSV, one row an image:
    image, mask  references relative to the data set's root (mask empty where there is none; of several, whose union
                 counts, with // between them)
    label        0 normal, 1 anomalous
    split        train, test, calibration (of a folder validation/good), or rest (CIFAR-10: anomalous test images beyond
                 the 1,000 drawn)
    defect       the kind of anomaly, 'good' for normal images; CIFAR-10's class name
    sha256       of the image's bytes; mask_sha256 of the mask's
    part         the images whose features are extracted and stored together
The order of rows is part of the manifest: features and scores follow it. Beside it lies its record, of the same name
in JSON, with what was warned of.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from adtr import records
from adtr.config.schema import FOLDERS, Dataset, root_of
from adtr.data.findings import CONTRARY, COPIES, LEAKED, Findings, check_format, shown
from adtr.data.folders import SUFFIXES, TEXT, is_junk
from adtr.data.images import ROW, SEVERAL, cifar_batch, decode, raw_bytes
from adtr.data.layouts import VISA, list_folders
from adtr.errors import UserError
from adtr.files import sha256

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


def index(dataset: Dataset, category: str) -> pd.DataFrame:
    """The manifest of one category, each image and mask read and checked.

    Returns:
        The manifest; its `attrs["warnings"]` holds the names of the files by what is warned of.

    Raises:
        UserError: with every problem of every image in one message.
    """
    root = root_of(dataset.root, dataset.title)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. Put {dataset.title} there, get it with `adtr fetch`, or set `root`")
    findings = Findings(root)
    if dataset.layout in FOLDERS:
        manifest = list_folders(root, category, dataset, findings)
    else:
        manifest = (_list_elpv if dataset.layout == "elpv" else _list_cifar)(root, category, dataset)
    rows = tqdm(manifest.itertuples(), total=len(manifest), unit="image", disable=None)
    digests = [_check(row.image, row.mask, findings) for row in rows]
    if findings.problems:
        count = len(findings.problems)
        head = f"{count} problem{'s' * (count > 1)} in {root}, category {category}:"
        raise UserError("\n  ".join([head, *findings.problems]))
    manifest[["sha256", "mask_sha256", "pixels"]] = digests
    _compare(manifest, findings)
    manifest = manifest[COLUMNS]
    manifest.attrs["warnings"] = findings.warnings
    return manifest


def draw_outliers(dataset: Dataset, count: int, seed: int) -> pd.DataFrame:
    """A manifest of `count` training images of all classes of a CIFAR, drawn without replacement, in their order.

    All are anomalies (Sec. 4.1) of split 'train' and part 'outliers'.

    Raises:
        UserError: it holds fewer images.
    """
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
    """Writes a manifest, and beside it its record with what was warned of."""
    warnings = manifest.attrs.get("warnings", {})
    records.write(path.with_suffix(".json"), {"warnings": warnings}, {path.name: records.as_csv(manifest).encode()})


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest as `write_manifest` wrote it.

    Raises:
        UserError: it is missing or damaged.
    """
    types = dict.fromkeys(COLUMNS, str) | {"label": int}
    return records.Record(path.with_suffix(".json")).table(path.name, keep_default_na=False, dtype=types)


def fingerprint(dataset: Dataset, manifest: Path = Path(), category: str = "") -> str:
    """Sixteen digits that change with the files of a category: their names, and the content of images.

    An image that has not changed since `manifest` was written (by its ctime, which `cp -p` does not turn back) has the
    sha256 that stands there. Others are read.
    """
    root = root_of(dataset.root, dataset.title)
    folders, files = dataset.layout in FOLDERS, []
    folder = root / category if folders else root
    written = manifest.stat().st_mtime_ns if manifest.is_file() else 0
    known = _digests_in(manifest) if written and dataset.layout not in CIFAR else {}
    paths = [path for depth in ("*", "*/*", "*/*/*", "*/*/*/*") for path in folder.glob(depth)]
    table = root / VISA
    for path in [*paths, table] if paths and dataset.layout == "visa" else paths:
        name, content = str(path.relative_to(root)), ""
        text = folders and path.suffix.lower() in TEXT and path != table
        if any(map(is_junk, path.relative_to(root).parts)) or text:
            continue
        try:
            if path.is_file() and (path.suffix.lower() in SUFFIXES or not folders or path == table):
                changed = path.stat().st_ctime_ns
                content = known[name] if name in known and changed < written else _sha256(path, changed)
        except OSError:
            content = "not readable"  # `index` says why
        files.append((name, content))
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest()[:16] if files else "absent"


def _digests_in(manifest: Path) -> Mapping[str, str]:
    try:
        table = records.read_csv(manifest, keep_default_na=False, dtype=str)
        masks, digests = (SEVERAL.join(table[name]).split(SEVERAL) for name in ("mask", "mask_sha256"))
        return dict(zip([*table["image"], *masks], [*table["sha256"], *digests], strict=True))
    except (ValueError, KeyError):  # damaged: the stages that read it refuse it
        return {}


@cache
def _sha256(path: Path, changed: int) -> str:  # noqa: ARG001
    """The sha256 of a file; `changed`, ns, tells one version of it from the next."""
    return sha256(path)


def _check(image: str, mask: str, findings: Findings) -> list[str]:
    """The sha256 of an image, of its mask or masks and of the image's pixels; empty where there is none."""
    digests, pixels, size = list[str](), "", ""
    for reference in [image, *mask.split(SEVERAL)] if mask else [image]:
        digests.append("")
        try:
            raw = raw_bytes(findings.root, reference)
            if not ROW.fullmatch(reference):  # of a CIFAR batch
                check_format(raw, reference)
            picture = decode(raw, shown(reference))
        except (UserError, OSError) as error:
            findings.problems.append(str(error))
            continue
        digests[-1] = hashlib.sha256(raw).hexdigest()
        sides = "{}x{} px".format(*picture.size)
        if len(digests) == 1:
            findings.look_at_image(picture, reference)
            pixels = hashlib.sha256(repr(picture.size).encode() + picture.convert("RGB").tobytes()).hexdigest()
            size = sides
            continue
        findings.look_at_mask(picture, reference)
        if size and sides != size:
            findings.problems.append(f"{shown(reference)}: {sides}, its image {shown(image)} has {size}")
    return [digests[0], SEVERAL.join(digests[1:]), pixels]


def _compare(manifest: pd.DataFrame, findings: Findings) -> None:
    """Warns of pictures that are in training and testing, normal and anomalous, or several times in one split."""
    trained = manifest.pixels[manifest.split == "train"]
    for image in manifest.image[(manifest.split != "train") & manifest.pixels.isin(trained)]:
        findings.warn(LEAKED, image)
    copied = manifest[manifest.duplicated(["pixels", "split", "label"], keep=False)]
    for image in copied.sort_values(["split", "pixels"], kind="stable").image:
        findings.warn(COPIES, image)
    labels = manifest.groupby("pixels").label.transform("nunique")
    for image in manifest[labels > 1].sort_values("pixels", kind="stable").image:
        findings.warn(CONTRARY, image)


def _list_cifar(root: Path, category: str, dataset: Dataset) -> pd.DataFrame:
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
    anomalous, normal = np.flatnonzero(test.label), int((test.label == 0).sum())
    if train.empty or not normal or len(anomalous) < normal:
        counts = f"{len(train)} training images, {normal} test images and {len(anomalous)} of other classes"
        raise UserError(f"{root}: {category} has {counts}: too few of one of them")
    drawn = np.random.default_rng(dataset.seed).choice(anomalous, normal, replace=False)
    test.loc[(test.label == 0) | test.index.isin(drawn), "split"] = "test"
    return pd.concat([train, test], ignore_index=True).assign(mask="")


def _cifar_names(root: Path, files: CifarFiles) -> list[str]:
    return [name.decode() for name in _cifar_list(root / files.meta, files.names)]


def _cifar_list(path: Path, key: bytes) -> list[Any]:
    content = cifar_batch(path)
    if key not in content:
        raise UserError(f"{path}: holds no {key.decode()}: is it of another data set?")
    return list(content[key])


def _cifar_rows(root: Path, files: CifarFiles, batches: list[str]) -> pd.DataFrame:
    """The images of some batches and the names of their classes, as `defect`."""
    names, rows = _cifar_names(root, files), []
    for batch in batches:
        for i, label in enumerate(_cifar_list(root / batch, files.labels)):
            if type(label) is not int or not 0 <= label < len(names):
                raise UserError(f"{root / batch}: image {i} has the label {label!r}, not one of 0 to {len(names) - 1}")
            rows.append((f"{batch}:{i}", names[label]))
    return pd.DataFrame(rows, columns=["image", "defect"])


def _list_elpv(root: Path, category: str, dataset: Dataset) -> pd.DataFrame:
    """Cells of defect probability 0 are normal, of 1 anomalous; those between are left out.

    Of the normal ones, in the order of the file, `train_share` are for training, those for testing evenly between
    them: cells of a solar module stand together, so each module is in both.
    """
    table = root / "labels.csv"
    if not table.is_file():
        raise UserError(f"{table}: no such file: it lists the cells, each as image, probability and type")
    try:
        types = {"image": str, "probability": float, "type": str}
        cells = pd.read_csv(table, sep=r"\s+", names=[*types], dtype=types, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{table}: not a table of image, probability and type: {error}") from None
    cells = cells[(cells.type == category) & cells.probability.isin([0, 1])].reset_index(drop=True)
    cells["label"] = (cells.probability == 1).astype(int)
    trained = np.ceil(np.cumsum(cells.label == 0) * dataset.train_share)  # so many up to here
    cells["split"] = np.where(np.diff(trained, prepend=0) > 0, "train", "test")
    cells["defect"] = np.where(cells.label == 0, "good", "defective")
    if len(cells.groupby(["split", "label"])) < 3:
        raise UserError(f"{root}: no cells of type {category!r} for each of training, normal and anomalous testing")
    ordered = cells.sort_values(["split", "image"], ascending=[False, True], ignore_index=True)
    return ordered.assign(mask="", part=category)
