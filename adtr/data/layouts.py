"""How published data sets lay out their images, and folders made like theirs: a category is a folder of the root.

Facts about files are those of the publishers' own loaders (spot-diff, VT-ADL, mixed-segdec-net). Anomalous images in a
folder for training are left out, and warned of.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from adtr.config.schema import Dataset, categories_in
from adtr.data.findings import LEFT_OUT, NORMAL, UNMASKED, Findings
from adtr.data.folders import Row, checked, images_in, list_mvtec, marks, pass_over, tabulated, visible
from adtr.data.sources import leaves_folder
from adtr.errors import UserError

VISA = "split_csv/1cls.csv"  # below the root: object, split, label, image, mask; an image a row
COLUMNS = ["object", "split", "label", "image", "mask"]
COPY = " (copy)"  # two files of KolektorSDD2 are named so, and are copies


def list_folders(root: Path, category: str, dataset: Dataset, findings: Findings) -> pd.DataFrame:
    """The rows of a category's manifest, without digests, in one of the layouts FOLDERS.

    Raises:
        UserError: there is no such category.
    """
    base = root / category
    if not base.is_dir():
        known = ", ".join(categories_in(root, dataset.layout))
        raise UserError(f"{root}: no category {category!r}; known: {known}")
    match dataset.layout:
        case "mvtec":
            rows = list_mvtec(base, findings)
        case "btad":
            rows = list_mvtec(base, findings, good="ok")
        case "visa":
            rows = _list_visa(base, findings)
        case "dagm":
            rows = _list_dagm(base, findings)
        case "kolektorsdd":
            rows = _list_kolektorsdd(base, dataset.train_share, findings)
        case _:
            rows = _list_kolektorsdd2(base, findings)
    return tabulated(root, category, rows)


def _list_visa(base: Path, findings: Findings) -> list[Row]:
    """VisA: what the split file says of a category."""
    root, rows = base.parent, list[Row]()
    table = _read_visa(root / VISA)
    own = table[table.object == base.name]
    if own.empty:
        raise UserError(f"{root / VISA}: no object {base.name!r}; its objects: {', '.join(table.object.unique())}")
    for line, row in zip(own.index + 2, own.itertuples(index=False), strict=True):
        if row.split not in ("train", "test") or row.label not in ("normal", "anomaly"):
            findings.problems.append(f"{VISA}, line {line}: neither train nor test, or neither normal nor anomaly")
            continue
        if any(leaves_folder(name) for name in (row.image, row.mask)) or not row.image:
            findings.problems.append(f"{VISA}, line {line}: image and mask must lie below {root}")
            continue
        anomalous = row.label == "anomaly"
        if anomalous and row.split == "train":
            findings.warn(LEFT_OUT, row.image)
            continue
        if anomalous and not row.mask:
            findings.warn(UNMASKED, row.image)
        if row.mask and not anomalous and marks(root / row.mask, findings):
            findings.warn(NORMAL, row.mask)
        masks = [root / row.mask] if anomalous and row.mask else []
        rows.append(Row(root / row.image, masks, int(anomalous), row.split, "anomaly" if anomalous else "good"))
    listed = {root / name for name in own.image}
    for folder in _parts(base / "Data/Images", ("Normal", "Anomaly"), findings):
        for path in images_in(folder, findings):
            if path not in listed:
                pass_over(path, findings)
    rows.sort(key=lambda row: (row.split != "train", row.image))
    return checked(rows, base, findings, ("train", "test, label normal", "test, label anomaly"))


def _read_visa(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as VisA's table of images: {error}") from None
    if missing := set(COLUMNS) - {*table}:
        raise UserError(f"{path}: lacks the column {', '.join(sorted(missing))}: expected are {', '.join(COLUMNS)}")
    return table[COLUMNS]


def _list_dagm(base: Path, findings: Findings) -> list[Row]:
    """DAGM 2007: Train and Test, each with Label/NAME_label.PNG of its anomalous images and no others."""
    rows = []
    for part in _parts(base, ("Train", "Test"), findings):
        folder = part / "Label"
        masks = {path.stem: path for path in images_in(folder, findings)} if folder.is_dir() else {}
        for image in images_in(part, findings, [folder]):
            mask = masks.pop(f"{image.stem}_label", None)
            rows += _row(image, mask, part.name.lower(), findings)
        findings.problems += [f"{findings.name(path)}: a mask without its image" for path in masks.values()]
    places = ("Train (images without a mask in Label)", "Test (images without a mask in Label)", "Test/Label")
    return checked(rows, base, findings, places)


def _list_kolektorsdd2(base: Path, findings: Findings) -> list[Row]:
    """KolektorSDD2: train and test, beside NAME.png its mask NAME_GT.png, which is black of normal images."""
    rows = []
    for part in _parts(base, ("train", "test"), findings):
        for image, mask in _beside(part, "_GT", findings):
            rows += _row(image, mask if marks(mask, findings) else None, part.name, findings)
    places = ("train (images whose mask is black)", "test (images whose mask is black)", "test (other images)")
    return checked(rows, base, findings, places)


def _list_kolektorsdd(base: Path, share: float, findings: Findings) -> list[Row]:
    """KolektorSDD: a folder an item, beside PartN.jpg its mask PartN_label.bmp, which is black of normal images.

    There is no split. Of the items, in the order of their names, a `share` has its normal images for training, those of
    the others lie evenly between them and are for testing, as are all anomalous images.
    """
    names = visible(base, findings)
    items = [path for path in names if path.is_dir()]
    for path in (path for path in names if not path.is_dir()):
        pass_over(path, findings)
    trained = np.diff(np.ceil(np.arange(1, len(items) + 1) * share), prepend=0) > 0
    train, test = list[Row](), list[Row]()
    for item, of_training in zip(items, trained, strict=True):
        for image, mask in _beside(item, "_label", findings):
            anomalous = marks(mask, findings)
            split = "train" if of_training and not anomalous else "test"
            (train if split == "train" else test).extend(_row(image, mask if anomalous else None, split, findings))
    return checked([*train, *test], base, findings, ("its items", "a quarter of its items", "its items"))


def _parts(base: Path, names: tuple[str, ...], findings: Findings) -> list[Path]:
    """Those of the folders `names` that are there; others beside them are warned of."""
    for path in visible(base, findings) if base.is_dir() else []:
        if path.is_dir() and path.name not in names:
            pass_over(path, findings)
    return [base / name for name in names if (base / name).is_dir()]


def _row(image: Path, mask: Path | None, split: str, findings: Findings) -> list[Row]:
    """The row of an image, anomalous if it has a mask; none of an anomalous one for training."""
    if mask and split == "train":
        findings.warn(LEFT_OUT, str(image.relative_to(findings.root)))
        return []
    return [Row(image, [mask] if mask else [], int(mask is not None), split, "defect" if mask else "good")]


def _beside(folder: Path, ending: str, findings: Findings) -> list[tuple[Path, Path]]:
    """The images of a folder, each with the mask beside it, whose stem ends so."""
    images, masks, pairs = list[Path](), dict[str, Path](), []
    for path in images_in(folder, findings):
        if COPY in path.stem:
            pass_over(path, findings)
        elif path.stem.endswith(ending):
            masks[path.stem] = path
        else:
            images.append(path)
    for image in images:
        if mask := masks.pop(image.stem + ending, None):
            pairs.append((image, mask))
        else:
            findings.problems.append(f"{findings.name(image)}: no mask {image.stem}{ending} beside it to label it by")
    findings.problems += [f"{findings.name(path)}: a mask without its image" for path in masks.values()]
    return pairs
