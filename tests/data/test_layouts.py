"""The layouts of published data sets, each in miniature with its publisher's names: read, warned of, refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import planted
import pytest
from PIL import Image

from adtr.config.paths import Paths
from adtr.config.schema import Dataset, categories_in
from adtr.config.study import resolve
from adtr.data import findings
from adtr.data.images import read_mask
from adtr.data.manifest import fingerprint, index, read_manifest, write_manifest
from adtr.errors import UserError
from adtr.verify import verify

SIZE = 16
VISA = "split_csv/1cls.csv"


def write(path: Path, mark: int | None = None) -> None:
    """An image that differs from all others, or a mask: black (0), or of which 3x4 px have the value `mark`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(crc32(str(path).encode())).integers(0, 256, (SIZE, SIZE), np.uint8)
    if mark is not None:
        pixels = np.zeros((SIZE, SIZE), np.uint8)
        pixels[5:8, 5:9] = mark
    Image.fromarray(pixels).save(path)


def write_loco(root: Path) -> None:
    """MVTec LOCO AD: a folder of masks an image, validation/good; mask values by kind of defect."""
    for name in ("train/good/000", "train/good/001", "validation/good/000", "test/good/000"):
        write(root / f"box/{name}.png")
    for kind, numbers in (("logical_anomalies", 2), ("structural_anomalies", 1)):
        write(root / f"box/test/{kind}/000.png")
        for number in range(numbers):
            write(root / f"box/ground_truth/{kind}/000/{number:03}.png", 255 - number)
    last = np.zeros((SIZE, SIZE), np.uint8)
    last[12:, 12:] = 250
    Image.fromarray(last).save(root / "box/ground_truth/logical_anomalies/000/001.png")
    (root / "box/defects_config.json").write_text("[]")


def write_btad(root: Path) -> None:
    """BTAD: ok and ko; images are BMP, masks PNG or BMP."""
    for name in ("train/ok/0000", "train/ok/0001", "test/ok/0000", "test/ko/0000", "test/ko/0001"):
        write(root / f"01/{name}.bmp")
    write(root / "01/ground_truth/ko/0000.png", 255)
    write(root / "01/ground_truth/ko/0001.bmp", 255)


def write_visa(root: Path) -> None:
    """VisA: a split file for all objects; mask values are small."""
    lines = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        for number, split in ((2, "train"), (0, "test"), (1, "train")):
            image = f"{name}/Data/Images/Normal/{number:04}.JPG"
            write(root / image)
            lines.append(f"{name},{split},normal,{image},")
        image, mask = (f"{name}/Data/{kind}/Anomaly/000.{end}" for kind, end in (("Images", "JPG"), ("Masks", "png")))
        write(root / image)
        write(root / mask, 1)
        lines.append(f"{name},test,anomaly,{image},{mask}")
        (root / name / "image_anno.csv").write_text("image,label,mask\n")
    (root / "split_csv").mkdir()
    (root / VISA).write_text("\n".join(lines) + "\n")


def write_dagm(root: Path) -> None:
    """DAGM 2007: Label holds masks of the anomalous images only."""
    for name in ("Train/0001", "Train/0002", "Train/0576", "Test/0001", "Test/0002"):
        write(root / f"Class1/{name}.PNG")
    for name in ("Train/Label/0576_label", "Test/Label/0002_label"):
        write(root / f"Class1/{name}.PNG", 255)
        (root / f"Class1/{name}").with_name("Labels.txt").write_text("1\n")


def write_kolektorsdd(root: Path) -> None:
    """KolektorSDD: a folder an item, each image with a mask, black where it is normal."""
    for item in range(1, 5):
        for part in range(2):
            write(root / f"KolektorSDD/kos{item:02}/Part{part}.jpg")
            write(root / f"KolektorSDD/kos{item:02}/Part{part}_label.bmp", 255 * (part == 1 and item in (1, 4)))


def write_kolektorsdd2(root: Path) -> None:
    """KolektorSDD2: as published with a copy of an image and its mask, and files of splits."""
    for name, mark in (("train/10000", 0), ("train/10001", 0), ("train/10002", 255)):
        write(root / f"KolektorSDD2/{name}.png")
        write(root / f"KolektorSDD2/{name}_GT.png", mark)
    for name, mark in (("test/20000", 0), ("test/20001", 255)):
        write(root / f"KolektorSDD2/{name}.png")
        write(root / f"KolektorSDD2/{name}_GT.png", mark)
    for name in ("10000", "10000_GT"):
        (root / f"KolektorSDD2/train/{name} (copy).png").write_bytes(
            (root / f"KolektorSDD2/train/{name}.png").read_bytes()
        )
    (root / "KolektorSDD2/split_weakly_0.pyb").touch()


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, str, list[str], dict[str, list[str]]]] = {
    # layout as written here: writer, layout, category, rows without digests and category, warnings
    "MVTec LOCO": (
        write_loco,
        "mvtec",
        "box",
        [
            "box/train/good/000.png,,0,train,good",
            "box/train/good/001.png,,0,train,good",
            "box/validation/good/000.png,,0,calibration,good",
            "box/test/good/000.png,,0,test,good",
            "box/test/logical_anomalies/000.png,box/ground_truth/logical_anomalies/000/000.png//"
            "box/ground_truth/logical_anomalies/000/001.png,1,test,logical_anomalies",
            "box/test/structural_anomalies/000.png,box/ground_truth/structural_anomalies/000/000.png,1,test,"
            "structural_anomalies",
        ],
        {},
    ),
    "BTAD": (
        write_btad,
        "btad",
        "01",
        [
            "01/train/ok/0000.bmp,,0,train,good",
            "01/train/ok/0001.bmp,,0,train,good",
            "01/test/ko/0000.bmp,01/ground_truth/ko/0000.png,1,test,ko",
            "01/test/ko/0001.bmp,01/ground_truth/ko/0001.bmp,1,test,ko",
            "01/test/ok/0000.bmp,,0,test,good",
        ],
        {},
    ),
    "VisA": (
        write_visa,
        "visa",
        "candle",
        [
            "candle/Data/Images/Normal/0001.JPG,,0,train,good",
            "candle/Data/Images/Normal/0002.JPG,,0,train,good",
            "candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png,1,test,anomaly",
            "candle/Data/Images/Normal/0000.JPG,,0,test,good",
        ],
        {},
    ),
    "DAGM": (
        write_dagm,
        "dagm",
        "Class1",
        [
            "Class1/Train/0001.PNG,,0,train,good",
            "Class1/Train/0002.PNG,,0,train,good",
            "Class1/Test/0001.PNG,,0,test,good",
            "Class1/Test/0002.PNG,Class1/Test/Label/0002_label.PNG,1,test,defect",
        ],
        {findings.LEFT_OUT: ["Class1/Train/0576.PNG"]},
    ),
    "KolektorSDD": (
        write_kolektorsdd,
        "kolektorsdd",
        "KolektorSDD",
        [
            *(
                f"KolektorSDD/kos{name}.jpg,,0,train,good"
                for name in ("01/Part0", "02/Part0", "02/Part1", "03/Part0", "03/Part1")
            ),
            "KolektorSDD/kos01/Part1.jpg,KolektorSDD/kos01/Part1_label.bmp,1,test,defect",
            "KolektorSDD/kos04/Part0.jpg,,0,test,good",
            "KolektorSDD/kos04/Part1.jpg,KolektorSDD/kos04/Part1_label.bmp,1,test,defect",
        ],
        {},
    ),
    "KolektorSDD2": (
        write_kolektorsdd2,
        "kolektorsdd2",
        "KolektorSDD2",
        [
            "KolektorSDD2/train/10000.png,,0,train,good",
            "KolektorSDD2/train/10001.png,,0,train,good",
            "KolektorSDD2/test/20000.png,,0,test,good",
            "KolektorSDD2/test/20001.png,KolektorSDD2/test/20001_GT.png,1,test,defect",
        ],
        {
            findings.UNREAD: ["KolektorSDD2/train/10000 (copy).png", "KolektorSDD2/train/10000_GT (copy).png"],
            findings.LEFT_OUT: ["KolektorSDD2/train/10002.png"],
        },
    ),
}


def dataset(layout: str, root: Path, category: str) -> Dataset:
    fields = {"title": "Miniature", "layout": layout, "root": str(root), "categories": [category]}
    return Dataset.model_validate(fields)


def indexed(name: str, root: Path) -> pd.DataFrame:
    _, layout, category, *_ = LAYOUTS[name]
    return index(dataset(layout, root, category), category)


def problems_of(name: str, root: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        indexed(name, root)
    return [line.strip() for line in str(caught.value).splitlines()][1:]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_with_its_publishers_names(tmp_path: Path, name: str) -> None:
    writer, layout, category, rows, warnings = LAYOUTS[name]
    writer(tmp_path)
    manifest = indexed(name, tmp_path)
    told = manifest.drop(columns=["sha256", "mask_sha256"]).to_csv(index=False).splitlines()[1:]
    assert told == [f"{row},{category}" for row in rows]
    assert manifest.attrs["warnings"] == warnings
    for row in manifest[manifest["mask"] != ""].itertuples():
        mask = read_mask(tmp_path, str(row.mask), digest=str(row.mask_sha256))
        assert mask[5:8, 5:9].all()
        assert mask.sum() == 12 + 16 * ("//" in str(row.mask))
    assert category in categories_in(tmp_path, layout)
    write_manifest(tmp_path / "manifest.csv", manifest)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "manifest.csv"), manifest)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_fingerprint_follows_each_file_that_a_manifest_rests_on(tmp_path: Path, name: str) -> None:
    writer, layout, category, *_ = LAYOUTS[name]
    writer(tmp_path)
    manifest, definition = indexed(name, tmp_path), dataset(layout, tmp_path, category)
    last = manifest.iloc[-1] if manifest["mask"].iloc[-1] else manifest[manifest["mask"] != ""].iloc[0]
    files = [last["image"], *last["mask"].split("//")] + ([VISA] if layout == "visa" else [])
    prints = [fingerprint(definition, category=category)]
    for file in files:
        path = tmp_path / file
        path.write_bytes(path.read_bytes() + b"\n")
        prints.append(fingerprint(definition, category=category))
    assert len(set(prints)) == len(files) + 1


def test_each_of_several_masks_is_verified(tmp_path: Path) -> None:
    write_loco(tmp_path / "loco")
    plan = dataclasses.replace(resolve("smoke", planted.REPOSITORY / "params"), params={}, outliers={})
    plan = dataclasses.replace(plan, datasets={"loco": dataset("mvtec", tmp_path / "loco", "box")})
    paths, last = Paths(plan, tmp_path), "box/ground_truth/logical_anomalies/000/001.png"
    write_manifest(paths.manifest("loco", "box"), indexed("MVTec LOCO", tmp_path / "loco"))
    assert verify(paths)[1] == []
    write(tmp_path / "loco" / last, 255)
    (problem,) = verify(paths)[1]
    assert problem.startswith(f"{tmp_path}/loco/{last}: not the file that ")


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a folder of masks without masks": (
        "MVTec LOCO",
        lambda root: (root / "box/ground_truth/structural_anomalies/000/000.png").unlink(),
        "box/ground_truth/structural_anomalies/000: no mask in it",
    ),
    "a folder of masks without its image": (
        "MVTec LOCO",
        lambda root: (root / "box/test/structural_anomalies/000.png").rename(root / "box/test/good/001.png"),
        "box/ground_truth/structural_anomalies/000: a mask without its image",
    ),
    "one of several masks of another size": (
        "MVTec LOCO",
        lambda root: Image.new("L", (8, 8), 255).save(root / "box/ground_truth/logical_anomalies/000/001.png"),
        "box/ground_truth/logical_anomalies/000/001.png: 8x8 px, its image box/test/logical_anomalies/000.png has 16x",
    ),
    "OK": ("BTAD", lambda root: (root / "01/test/ok").rename(root / "01/test/OK"), "01/test/OK: rename it to ok"),
    "no images for training": ("DAGM", lambda root: (root / "Class1/Train").rename(root / "Class1/train"), "no images"),
    "a label without its image": (
        "DAGM",
        lambda root: (root / "Class1/Test/0002.PNG").unlink(),
        "Class1/Test/Label/0002_label.PNG: a mask without its image",
    ),
    "an image that no mask labels": (
        "KolektorSDD2",
        lambda root: (root / "KolektorSDD2/test/20001_GT.png").unlink(),
        "KolektorSDD2/test/20001.png: no mask 20001_GT beside it to label it by",
    ),
    "a mask that is no image": (
        "KolektorSDD",
        lambda root: (root / "KolektorSDD/kos02/Part0_label.bmp").write_text("-"),
        "KolektorSDD/kos02/Part0_label.bmp: not readable as an image",
    ),
    "a file of the table that is not there": (
        "VisA",
        lambda root: (root / "candle/Data/Images/Normal/0001.JPG").unlink(),
        "candle/Data/Images/Normal/0001.JPG: no such file",
    ),
    "a path that leaves the root": (
        "VisA",
        lambda root: edit(root, "candle/Data/Images/Normal/0001.JPG", "../0001.JPG"),
        f"{VISA}, line 4: image and mask must lie below",
    ),
    "an unknown label": (
        "VisA",
        lambda root: edit(root, "candle,test,normal", "candle,test,ok"),
        f"{VISA}, line 3: neither train nor test, or neither normal nor anomaly",
    ),
}


def edit(root: Path, old: str, new: str) -> None:
    (root / VISA).write_text((root / VISA).read_text().replace(old, new))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_layout_cannot_mean_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    name, change, message = REFUSED[kind]
    LAYOUTS[name][0](tmp_path)
    change(tmp_path)
    assert any(message in problem for problem in problems_of(name, tmp_path))


def test_images_that_the_table_of_visa_does_not_name_are_warned_of(tmp_path: Path) -> None:
    write_visa(tmp_path)
    edit(tmp_path, "candle,train,normal,candle/Data/Images/Normal/0001.JPG,\n", "")
    edit(tmp_path, "test,anomaly", "train,anomaly")
    assert indexed("VisA", tmp_path).attrs["warnings"] == {
        findings.LEFT_OUT: ["candle/Data/Images/Anomaly/000.JPG"],
        findings.UNREAD: ["candle/Data/Images/Normal/0001.JPG"],
        findings.ABSENT: ["candle/test, label anomaly"],
    }


def test_a_mask_of_a_normal_image_and_a_row_that_stands_twice_are_warned_of(tmp_path: Path) -> None:
    write_visa(tmp_path)
    normal, mask = "candle/Data/Images/Normal/0001.JPG", "candle/Data/Masks/Anomaly/000.png"
    row = f"candle,train,normal,{normal},"
    edit(tmp_path, row, f"{row}{mask}\n{row}")
    assert indexed("VisA", tmp_path).attrs["warnings"] == {findings.NORMAL: [mask], findings.COPIES: [normal, normal]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("object,split\n", "lacks the column image, label, mask: expected are object, split"),
        ("", "not readable as VisA's table"),
        ("object,split,label,image,mask\ncup,train,normal,a.png,\n", "no object 'candle'; its objects: cup"),
    ],
)
def test_an_odd_table_of_visa_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    write_visa(tmp_path)
    (tmp_path / VISA).write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/{VISA}: {message}"):
        indexed("VisA", tmp_path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_category_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, name: str) -> None:
    writer, layout, category, *_ = LAYOUTS[name]
    writer(tmp_path)
    with pytest.raises(UserError, match=f"no category 'cup'; known: {category}"):
        index(dataset(layout, tmp_path, "cup"), "cup")


def test_items_of_kolektorsdd_lie_on_one_side_of_the_split(tmp_path: Path) -> None:
    for item in range(1, 9):
        write(tmp_path / f"K/kos{item:02}/Part0.jpg")
        write(tmp_path / f"K/kos{item:02}/Part0_label.bmp", 0)
    manifest = index(dataset("kolektorsdd", tmp_path, "K"), "K")
    assert manifest.image[manifest.split == "test"].tolist() == ["K/kos04/Part0.jpg", "K/kos08/Part0.jpg"]
