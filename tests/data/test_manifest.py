"""Manifests: every image with its mask, label and split, in one order, or every problem in one message."""

import hashlib
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adtr.config.paths import parts_of
from adtr.config.schema import Dataset, root_of
from adtr.data import findings
from adtr.data import manifest as manifest_module
from adtr.data.images import cifar_batch
from adtr.data.manifest import draw_outliers, fingerprint, index, read_manifest, write_manifest
from adtr.data.synthetic import write_cifar100
from adtr.errors import UserError
from adtr.files import sha256

WHOLE = [
    "cup/train/good/0.png",
    "cup/train/good/1.png",
    "cup/test/good/0.png",
    "cup/test/hole/0.png",
    "cup/test/scratch/0.png",
    "cup/ground_truth/hole/0_mask.png",
    "cup/ground_truth/scratch/0_mask.png",
]


def dataset(layout: str, root: Path | str, **fields: Any) -> Dataset:
    return Dataset.model_validate(
        {"title": "Cups", "layout": layout, "root": str(root), "categories": ["cup"]} | fields
    )


def write(root: Path, references: list[str], size: tuple[int, int] = (8, 6)) -> Path:
    """Writes images that all differ."""
    for reference in references:
        seed = int.from_bytes(hashlib.sha256(reference.encode()).digest()[:4], "big")
        path = root / reference
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], np.uint8)).save(path)
    return root


def problems_of(root: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        index(dataset("mvtec", root), "cup")
    return [line.strip() for line in str(caught.value).splitlines()]


# MVTec-AD's layout


def test_a_row_tells_what_an_image_is_for(tmp_path: Path) -> None:
    manifest = index(dataset("mvtec", write(tmp_path, WHOLE)), "cup")
    assert list(manifest.columns) == ["image", "mask", "label", "split", "defect", "sha256", "mask_sha256", "part"]
    assert manifest.drop(columns=["sha256", "mask_sha256"]).to_csv(index=False).splitlines()[1:] == [
        "cup/train/good/0.png,,0,train,good,cup",
        "cup/train/good/1.png,,0,train,good,cup",
        "cup/test/good/0.png,,0,test,good,cup",
        "cup/test/hole/0.png,cup/ground_truth/hole/0_mask.png,1,test,hole,cup",
        "cup/test/scratch/0.png,cup/ground_truth/scratch/0_mask.png,1,test,scratch,cup",
    ]
    for row in manifest.itertuples():
        assert row.sha256 == hashlib.sha256((tmp_path / str(row.image)).read_bytes()).hexdigest()
        mask = hashlib.sha256((tmp_path / str(row.mask)).read_bytes()).hexdigest() if row.mask else ""
        assert row.mask_sha256 == mask


@pytest.mark.parametrize("mask", ["0_mask.png", "0.png", "0_mask.bmp", "0.bmp"])
def test_a_mask_is_found_under_the_names_in_use(tmp_path: Path, mask: str) -> None:
    files = [*WHOLE[:3], "cup/test/hole/0.bmp", f"cup/ground_truth/hole/{mask}"]
    manifest = index(dataset("mvtec", write(tmp_path, files)), "cup")
    assert manifest["mask"].iloc[-1] == f"cup/ground_truth/hole/{mask}"


def test_without_ground_truth_there_are_labels_of_images_only(tmp_path: Path) -> None:
    manifest = index(dataset("mvtec", write(tmp_path, WHOLE[:5])), "cup")
    assert manifest.label.tolist() == [0, 0, 0, 1, 1]
    assert manifest["mask"].tolist() == [""] * 5


def test_the_order_is_not_that_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["10.png", "9.png", "b.png", "a.png", "B.png"]
    write(tmp_path, [*WHOLE, *(f"cup/train/good/{name}" for name in names), "cup/test/bend/0.png"])
    write(tmp_path, ["cup/ground_truth/bend/0_mask.png"])
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: sorted(listed(folder), reverse=True))
    manifest = index(dataset("mvtec", tmp_path), "cup")
    train = [f"cup/train/good/{name}.png" for name in ("0", "1", "10", "9", "B", "a", "b")]
    test = [f"cup/test/{name}/0.png" for name in ("bend", "good", "hole", "scratch")]
    assert manifest.image.tolist() == train + test


def test_all_problems_of_all_images_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, [*WHOLE, "cup/test/hole/1.png", "cup/test/hole/2.png", "cup/test/hole/3.png"])
    write(tmp_path, ["cup/ground_truth/hole/2_mask.png"], size=(6, 8))
    write(tmp_path, ["cup/ground_truth/hole/4_mask.png", "cup/ground_truth/dent/0_mask.png"])
    write(tmp_path, ["cup/ground_truth/hole/3_mask.png"])
    for name in ("train/good/1.png", "test/hole/3.png", "ground_truth/hole/3_mask.png"):
        path = tmp_path / "cup" / name
        path.write_bytes(path.read_bytes()[:50])
    Image.new("I;16", (8, 6)).save(tmp_path / "cup/test/good/0.png")
    heading, *problems = problems_of(tmp_path)
    assert heading == f"7 problems in {tmp_path}, category cup:"
    assert [problem.partition(" (")[0] for problem in problems] == [
        "cup/ground_truth/dent/0_mask.png: a mask without its image",
        "cup/ground_truth/hole/4_mask.png: a mask without its image",
        "cup/train/good/1.png: not readable as an image",
        "cup/test/good/0.png: mode I;16 is not of eight bits a channel: convert it",
        "cup/ground_truth/hole/2_mask.png: 6x8 px, its image cup/test/hole/2.png has 8x6 px",
        "cup/test/hole/3.png: not readable as an image",
        "cup/ground_truth/hole/3_mask.png: not readable as an image",
    ]


def test_a_category_needs_images_for_training_only(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, WHOLE[2:4]))[1:] == [f"{tmp_path}/cup: no images in train/good"]


@pytest.mark.parametrize(("kept", "missing"), [([], ["good", "<defect>"]), ([2], ["<defect>"]), ([3, 5], ["good"])])
def test_images_for_testing_may_be_missing_and_are_warned_of(
    tmp_path: Path, kept: list[int], missing: list[str]
) -> None:
    write(tmp_path, [*WHOLE[:2], *(WHOLE[i] for i in kept)])
    manifest = index(dataset("mvtec", tmp_path), "cup")
    assert manifest.split.tolist() == ["train", "train", *(["test"] * bool(kept))]
    assert manifest.attrs["warnings"][findings.ABSENT] == [f"cup/test/{name}" for name in missing]


def test_an_anomaly_may_lack_its_mask_and_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path, [*WHOLE, "cup/test/hole/1.png"])
    manifest = index(dataset("mvtec", tmp_path), "cup")
    assert manifest.set_index("image").loc["cup/test/hole/1.png", ["mask", "mask_sha256"]].tolist() == ["", ""]
    assert manifest.attrs["warnings"][findings.UNMASKED] == ["cup/test/hole/1.png"]


@pytest.mark.parametrize("name", ["cup", "01", "1e5", "NA"])
def test_a_manifest_survives_its_csv(tmp_path: Path, name: str) -> None:
    """Also where names look like numbers or gaps: BTAD's categories are 01, 02, 03."""
    write(tmp_path, [reference.replace("cup", name).replace("hole", name) for reference in WHOLE])
    manifest = index(dataset("mvtec", tmp_path, categories=[name]), name)
    write_manifest(tmp_path / "manifest.csv", manifest)
    again = read_manifest(tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(again, manifest)
    assert (again.part == name).all()
    assert set(again.defect) == {"good", name, "scratch"}


# Fingerprints


def invert(root: Path) -> None:
    """In place, at the same size and with the times of before, as `cp -p` would."""
    path = root / "cup/ground_truth/hole/0_mask.png"
    raw, times = bytearray(path.read_bytes()), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    raw[-20] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=times)


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda root: write(root, ["cup/test/hole/1.png"]),
    "removed": lambda root: (root / "cup/train/good/1.png").unlink(),
    "renamed": lambda root: (root / "cup/train/good/1.png").rename(root / "cup/train/good/2.png"),
    "moved": lambda root: (root / "cup/test/hole/0.png").rename(root / "cup/test/scratch/1.png"),
    "another content": invert,
    "a mask": lambda root: (root / "cup/ground_truth/hole/0_mask.png").unlink(),
    "not read": lambda root: (root / "cup/train/good/day2").mkdir(),
}


def test_names_that_a_spreadsheet_would_compute_are_read_as_they_are(tmp_path: Path) -> None:
    names = ["=1+1/train/good/@a.png", "=1+1/test/good/-b.png", "=1+1/test/@SUM(1)/+c.png", "=1+1/test/-d/'=e.png"]
    write(tmp_path, names)
    cups = dataset("mvtec", tmp_path, categories=["=1+1"])
    manifest, path = index(cups, "=1+1"), tmp_path / "cups.csv"
    before = fingerprint(cups, path, "=1+1")
    write_manifest(path, manifest)
    for line in path.read_text().splitlines()[1:]:
        assert not {cell[:1] for cell in line.split(",")} & {*"=+-@"}
    pd.testing.assert_frame_equal(read_manifest(path), manifest, check_like=True)
    assert {*read_manifest(path).image} == {*names}
    assert fingerprint(cups, path, "=1+1") == before


def printed(root: Path, category: str = "cup") -> str:
    """The fingerprint, with the manifest of the category beside the data where there is one."""
    return fingerprint(dataset("mvtec", root), root / f"{category}.csv", category)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_fingerprint_follows_the_files_of_the_category(
    tmp_path: Path, change: Callable[[Path], object], indexed: bool
) -> None:
    write(tmp_path, [*WHOLE, "pot/train/good/0.png"])
    before = {name: printed(tmp_path, name) for name in ("cup", "pot")}
    if indexed:
        write_manifest(tmp_path / "cup.csv", index(dataset("mvtec", tmp_path), "cup"))
        assert printed(tmp_path) == before["cup"]
    change(tmp_path)
    assert printed(tmp_path) != before["cup"]
    assert printed(tmp_path, "pot") == before["pot"]


def test_what_has_not_changed_since_it_was_indexed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path / "cup.csv", index(dataset("mvtec", write(tmp_path, WHOLE)), "cup"))
    before, read = printed(tmp_path), list[Path]()

    def counted(path: Path, _: int) -> str:
        read.append(path)
        return sha256(path)

    monkeypatch.setattr(manifest_module, "_sha256", counted)
    later = (tmp_path / "cup.csv").stat().st_mtime_ns + 10**9
    os.utime(tmp_path / "cup.csv", ns=(later, later))  # clocks of file systems are coarse
    assert printed(tmp_path) == before
    assert read == []
    (tmp_path / "cup.csv").write_text("damaged\n")
    assert printed(tmp_path) == before
    assert len(read) == len(WHOLE)


def test_the_fingerprint_does_not_know_where_or_when_the_files_were_written(tmp_path: Path) -> None:
    prints = {printed(write(tmp_path / name, WHOLE)) for name in ("a", "b")}
    assert len(prints) == 1
    assert len(prints.pop()) == 16


def test_the_fingerprint_passes_over_what_systems_leave_and_waits_for_no_pipe(tmp_path: Path) -> None:
    before = printed(write(tmp_path, WHOLE))
    write(tmp_path, ["cup/test/.ipynb_checkpoints/0.png", "cup/test/@eaDir/0.png", "cup/test/hole/._0.png"])
    (tmp_path / "cup/test/notes.txt").touch()
    assert printed(tmp_path) == before
    (tmp_path / "cup/test/loop").symlink_to(tmp_path / "cup")
    assert printed(tmp_path) != before
    before = printed(tmp_path)
    os.mkfifo(tmp_path / "cup/test/hole/009.png")
    assert printed(tmp_path) != before
    (tmp_path / "cifar").mkdir()
    os.mkfifo(tmp_path / "cifar/test_batch")
    assert len(fingerprint(dataset("cifar10", tmp_path / "cifar"))) == 16


@pytest.mark.parametrize("layout", ["mvtec", "cifar10", "elpv"])
def test_the_fingerprint_of_nothing(tmp_path: Path, layout: str) -> None:
    assert fingerprint(dataset(layout, tmp_path / "nowhere"), category="cup") == "absent"


# CIFAR-10


def cifar10(root: Path, category: str = "cat", seed: int = 0) -> pd.DataFrame:
    return index(dataset("cifar10", root, categories=[category], seed=seed), category)


def test_as_many_anomalies_are_drawn_as_the_class_has_test_images(cifar10_root: Path) -> None:
    for seed in range(12):  # none is drawn twice
        counts = cifar10(cifar10_root, seed=seed).groupby(["split", "label"]).size().to_dict()
        assert counts == {("train", 0): 10, ("test", 0): 5, ("test", 1): 5, ("rest", 1): 40}


def test_test_and_rest_are_the_whole_test_batch_in_its_order(cifar10_root: Path) -> None:
    manifest = cifar10(cifar10_root)
    assert manifest.image[manifest.split != "train"].tolist() == [f"test_batch:{i}" for i in range(50)]
    assert manifest.image.is_unique


def test_labels_are_those_of_the_batches(cifar10_root: Path) -> None:
    names = [name.decode() for name in cifar_batch(cifar10_root / "batches.meta")[b"label_names"]]
    for row in cifar10(cifar10_root, "dog").itertuples():
        batch, number = str(row.image).split(":")
        content = cifar_batch(cifar10_root / batch)
        assert row.defect == names[content[b"labels"][int(number)]]
        assert row.label == int(row.defect != "dog")
        assert row.sha256 == hashlib.sha256(content[b"data"][int(number)].tobytes()).hexdigest()
        assert row.part == ("train_dog" if batch.startswith("data") else "test")


def test_parts_are_shared_by_the_classes_where_their_images_are(cifar10_root: Path) -> None:
    """The store of part 'test' serves all classes: the same images in the same order."""
    cat, dog = cifar10(cifar10_root, "cat"), cifar10(cifar10_root, "dog")
    assert cat.part.unique().tolist() == parts_of("cifar10", "cat") == ["train_cat", "test"]
    assert dog.image[dog.part == "test"].tolist() == cat.image[cat.part == "test"].tolist()
    assert parts_of("mvtec", "screw") == ["screw"]


def test_the_draw_follows_from_the_seed(cifar10_root: Path) -> None:
    drawn = [set(m.image[m.split == "test"]) for m in (cifar10(cifar10_root, seed=s) for s in (0, 0, 1))]
    assert drawn[0] == drawn[1] != drawn[2]


META = {b"label_names": [b"cat", b"dog"]}
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "a label beyond the names": ({"test": [0, 10]}, "test_batch: image 1 has the label 10, not one of 0 to 1"),
    "a negative label": ({"test": [-1, 0]}, "test_batch: image 0 has the label -1"),
    "a label of text": ({"train": ["cat", 0]}, "data_batch_1: image 0 has the label 'cat'"),
    "a label true": ({"train": [True, 0]}, "data_batch_1: image 0 has the label True"),
    "no training image": ({"train": [1, 1]}, "cat has 0 training images"),
    "no test image": ({"test": [1, 1]}, r"cat has 5 training images, 0 test images"),
    "no anomaly": ({"test": [0, 0]}, "cat has 5 training images, 2 test images and 0 of other classes"),
    "names of another data set": ({"meta": {b"fine_label_names": [b"cat"]}}, "meta: holds no label_names"),
    "names that are numbers": ({"meta": {b"label_names": [1, 2]}}, "meta: not a CIFAR batch"),
    "names that are not UTF-8": ({"meta": {b"label_names": [b"\xff"]}}, "meta: not a CIFAR batch"),
    "labels of another data set": ({"key": b"fine_labels"}, "data_batch_1: holds no labels"),
}


@pytest.mark.parametrize("odd", ODD)
def test_batches_of_odd_content_are_refused_by_name(tmp_path: Path, odd: str) -> None:
    changes, message = ODD[odd]
    key = changes.get("key", b"labels")
    labels = {f"data_batch_{i}": changes.get("train", [0, 1]) for i in range(1, 6)}
    for name, of in (labels | {"test_batch": changes.get("test", [0, 1])}).items():
        batch = {key: of, b"data": np.zeros((len(of), 3072), np.uint8)}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps(changes.get("meta", META), protocol=2))
    with pytest.raises(UserError, match=message):
        cifar10(tmp_path)


# Outliers


@pytest.fixture(scope="module")
def cifar100_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100's layout: 2 training images of each of the 100 classes."""
    root = tmp_path_factory.mktemp("data")
    write_cifar100(root, images=2, seed=0)
    return root / "cifar-100-python"


def outliers(root: Path, count: int, seed: int = 0, layout: str = "cifar100") -> pd.DataFrame:
    return draw_outliers(dataset(layout, root, categories=["apple"]), count, seed)


def test_outliers_are_anomalies_with_the_names_of_their_classes(cifar100_root: Path) -> None:
    names = [name.decode() for name in cifar_batch(cifar100_root / "meta")[b"fine_label_names"]]
    content, manifest = cifar_batch(cifar100_root / "train"), outliers(cifar100_root, 40)
    assert list(manifest.columns) == ["image", "mask", "label", "split", "defect", "sha256", "mask_sha256", "part"]
    assert len(manifest) == 40
    for row in manifest.itertuples():
        batch, number = str(row.image).split(":")
        assert batch == "train"
        assert row.defect == names[content[b"fine_labels"][int(number)]]
        assert row.sha256 == hashlib.sha256(content[b"data"][int(number)].tobytes()).hexdigest()
        assert (row.mask, row.label, row.split, row.mask_sha256, row.part) == ("", 1, "train", "", "outliers")


@pytest.mark.parametrize("layout", ["cifar10", "cifar100"])
def test_all_training_images_of_all_classes_can_be_drawn_each_once(
    layout: str, cifar10_root: Path, cifar100_root: Path
) -> None:
    root, batches, images = {
        "cifar10": (cifar10_root, [f"data_batch_{i}" for i in range(1, 6)], 20),
        "cifar100": (cifar100_root, ["train"], 200),
    }[layout]
    manifest = outliers(root, len(batches) * images, layout=layout)
    assert manifest.image.tolist() == [f"{batch}:{i}" for batch in batches for i in range(images)]
    assert set(manifest.defect.value_counts()) == {10 if layout == "cifar10" else 2}


def test_outliers_are_drawn_evenly_from_all_training_images_in_their_order(cifar100_root: Path) -> None:
    times = np.zeros(200, int)
    for seed in range(60):
        numbers = [int(image.split(":")[1]) for image in outliers(cifar100_root, 50, seed).image]
        assert numbers == sorted(set(numbers))
        times[numbers] += 1
    assert times.sum() == 60 * 50
    assert 0 < times.min() < 15 < times.max() < 32  # 15 expected, standard deviation 3.4


def test_the_draw_of_outliers_follows_from_the_seed(cifar100_root: Path) -> None:
    first, again, other = (outliers(cifar100_root, 50, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert set(first.image) != set(other.image)


def test_more_outliers_than_there_are_images_are_refused(cifar100_root: Path) -> None:
    with pytest.raises(UserError, match=r"200 training images, 201 are asked for: lower outliers\.count"):
        outliers(cifar100_root, 201)


# ELPV, from its package


@cache
def elpv(category: str) -> pd.DataFrame:
    return index(dataset("elpv", "package:elpv_dataset/data", categories=[category]), category)


@pytest.mark.parametrize(("category", "counts"), [("mono", [441, 147, 313]), ("poly", [690, 230, 402])])
def test_elpv_is_as_published(category: str, counts: list[int]) -> None:
    manifest = elpv(category)
    kinds = [("train", 0, "good"), ("test", 0, "good"), ("test", 1, "defective")]
    found = manifest.groupby(["split", "label", "defect"]).size().to_dict()
    assert found == dict(zip(kinds, counts, strict=True))
    assert manifest.image.is_unique
    assert (manifest["mask"] == "").all()
    assert (manifest.part == category).all()


def test_elpv_labels_are_those_of_its_csv() -> None:
    mono, root = elpv("mono"), root_of("package:elpv_dataset/data")
    lines = [line.split() for line in (root / "labels.csv").read_text().splitlines()]
    probability = {image: float(share) for image, share, kind in lines if kind == "mono"}
    assert {row.image: row.label for row in mono.itertuples()} == {
        image: int(share) for image, share in probability.items() if share in (0, 1)
    }
    for row in mono.iloc[[0, 450, 900]].itertuples():
        assert row.sha256 == hashlib.sha256((root / str(row.image)).read_bytes()).hexdigest()


def test_elpv_test_images_lie_evenly_between_the_training_images() -> None:
    """Of any four normal cells that follow each other in the file, three are for training."""
    normal = elpv("mono").query("label == 0").sort_values("image")
    trained = (normal.split == "train").astype(int)
    assert (trained.rolling(4).sum().dropna() == 3).all()


def test_elpv_rows_are_in_order() -> None:
    keys = [(row.split != "train", row.image) for row in elpv("mono").itertuples()]
    assert keys == sorted(keys)


LABELS = {
    "text": "a.png zero mono",
    "bytes": b"\xff\xfe",
    "one column": "a.png",
    "empty": "",
    "no anomaly": "a.png 0.0 mono\nb.png 0.0 mono\nc.png 0.0 mono",
}


@pytest.mark.parametrize("content", LABELS.values(), ids=LABELS.keys())
def test_an_odd_table_of_cells_is_refused_by_name(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"^{tmp_path}(/labels\.csv)?: (not a table|no cells)"):
        index(dataset("elpv", tmp_path), "mono")


# What is not there


@pytest.mark.parametrize(
    ("layout", "root", "message"),
    [
        ("mvtec", "/nowhere", r"/nowhere: no such folder\. Put Cups there, get it with `adtr fetch`"),
        ("mvtec", "mvtec", "no category 'cup'; known: carpet, screw"),
        ("cifar10", "cifar10", "no class 'cup'; its classes: airplane, automobile, bird"),
        ("elpv", "package:elpv_dataset/data", "no cells of type 'cup'"),
        ("elpv", "package:no_such_package/data", "Cups: the package no_such_package is not installed"),
        ("elpv", "package:no_such_package.inner/data", r"Cups: the package no_such_package\.inner is not installed"),
        ("elpv", "package:/data", "Cups: the package  is not installed"),
        ("mvtec", "~no.such.user/data", r"Cups: root ~no\.such\.user/data: no such user"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    layout: str, root: str, message: str, mvtec_root: Path, cifar10_root: Path
) -> None:
    generated = {"mvtec": mvtec_root, "cifar10": cifar10_root}
    with pytest.raises(UserError, match=message):
        index(dataset(layout, generated.get(root, root)), "cup")
