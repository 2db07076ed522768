"""The generated data sets: whole, repeatable, and with masks that tell the truth."""

import hashlib
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adtr.data import synthetic as generated
from adtr.errors import UserError

CATEGORIES = ["carpet", "screw"]
IMAGES, SIZE, SEED = 10, 48, 3


def tree_hash(root: Path) -> str:
    """One sha256 over the names and the bytes of all files below `root`."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    digests = [f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def load(path: Path) -> dict:
    return pickle.loads(path.read_bytes(), encoding="bytes")


def write(kind: str, root: Path, seed: int = SEED) -> None:
    if kind == "mvtec":
        generated.write_mvtec(root, CATEGORIES, IMAGES, SIZE, seed)
    else:
        {"cifar10": generated.write_cifar10, "cifar100": generated.write_cifar100}[kind](root, 7, seed)


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "mvtec"
    write("mvtec", root)
    return root


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated")
    write("cifar10", root)
    write("cifar100", root)
    return root


@pytest.mark.parametrize("kind", ["mvtec", "cifar10", "cifar100"])
def test_bytes_follow_from_the_seed(kind: str, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(kind, tmp_path / name, seed)
    assert tree_hash(tmp_path / "a") == tree_hash(tmp_path / "b") != tree_hash(tmp_path / "c")


def test_an_image_does_not_depend_on_the_others(mvtec: Path, tmp_path: Path) -> None:
    generated.write_mvtec(tmp_path / "few", ["screw", "carpet"], 2, SIZE, SEED)
    for path in (tmp_path / "few").rglob("*.png"):
        assert path.read_bytes() == (mvtec / path.relative_to(tmp_path / "few")).read_bytes()


@pytest.mark.parametrize("category", CATEGORIES)
def test_mvtec_layout(mvtec: Path, category: str) -> None:
    counts = Counter(str(path.parent.relative_to(mvtec / category)) for path in (mvtec / category).rglob("*.png"))
    defects = {"scratch", "blob"} | ({"missing"} if category == "screw" else set())
    expected = {"train/good": 10, "test/good": 5}
    expected |= {f"{folder}/{defect}": 5 for folder in ("test", "ground_truth") for defect in defects}
    assert counts == expected
    modes = {Image.open(path).mode for split in ("train", "test") for path in (mvtec / category / split).rglob("*.png")}
    assert modes == {"L" if category == "screw" else "RGB"}


def test_few_images_still_give_four_tests(tmp_path: Path) -> None:
    generated.write_mvtec(tmp_path / "mvtec", ["carpet"], 2, 32, SEED)
    assert len(list((tmp_path / "mvtec/carpet/test/good").iterdir())) == 4


@pytest.mark.parametrize("category", CATEGORIES)
def test_masks_mark_exactly_the_changed_pixels(mvtec: Path, category: str) -> None:
    for path in sorted((mvtec / category / "ground_truth").rglob("*.png")):
        defect, number = path.parent.name, path.stem.removesuffix("_mask")
        mask = Image.open(path)
        assert mask.mode == "L"
        assert set(np.unique(np.asarray(mask))) == {0, 255}  # neither empty nor full
        rng = generated.image_rng(SEED, f"{category}/test/{defect}/{number}")
        clean = generated.draw_scene(category, SIZE, rng).clean
        image = np.asarray(Image.open(mvtec / category / "test" / defect / f"{number}.png").convert("RGB"))
        change = np.abs(image.astype(int) - clean).max(-1)
        inside = np.asarray(mask) == 255
        assert inside.shape == change.shape == (SIZE, SIZE)
        assert change[~inside].max() == 0
        assert change[inside].min() >= generated.VISIBLE


@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("category", [*CATEGORIES, "zipper"])
def test_a_defect_covers_a_visible_part(category: str, size: int) -> None:
    for seed in range(3):
        scene = generated.draw_scene(category, size, np.random.default_rng(seed))
        for defect in ("blob", "missing", "scratch"):
            _, mask = generated.damage(scene, defect, np.random.default_rng(seed))
            assert 0.002 < mask.mean() < 0.2, (defect, seed)


def test_cifar10_batches(cifar: Path) -> None:
    folder = cifar / "cifar-10-batches-py"
    batches = [load(folder / f"data_batch_{k}") for k in range(1, 6)]
    assert Counter(label for batch in batches for label in batch[b"labels"]) == dict.fromkeys(range(10), 7)
    test = load(folder / "test_batch")
    assert Counter(test[b"labels"]) == dict.fromkeys(range(10), 3)
    names = load(folder / "batches.meta")[b"label_names"]
    for batch in [*batches, test]:
        assert batch[b"data"].dtype == np.uint8
        assert batch[b"data"].shape == (len(batch[b"labels"]), 3072)
        owners = [name.split(b"_")[0] for name in batch[b"filenames"]]
        assert owners == [names[label] for label in batch[b"labels"]]
    assert len({name for batch in [*batches, test] for name in batch[b"filenames"]}) == 100


def test_cifar100_batch(cifar: Path) -> None:
    train = load(cifar / "cifar-100-python/train")
    names = load(cifar / "cifar-100-python/meta")[b"fine_label_names"]
    assert len(set(names)) == 100
    assert names == sorted(names)
    assert Counter(train[b"fine_labels"]) == dict.fromkeys(range(100), 7)
    assert train[b"data"].shape == (700, 3072)


def test_cifar_planes_are_rgb_and_classes_differ(cifar: Path) -> None:
    """The nearest class mean finds the class of most test images: there is something to learn."""
    folder = cifar / "cifar-10-batches-py"
    test, batches = load(folder / "test_batch"), [load(folder / f"data_batch_{k}") for k in range(1, 6)]
    data = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 1024).mean(-1)
    labels = np.concatenate([batch[b"labels"] for batch in batches])
    means = np.stack([data[labels == k].mean(0) for k in range(10)])
    colours = test[b"data"].reshape(-1, 3, 1024).mean(-1)
    nearest = np.linalg.norm(colours[:, None] - means, axis=-1).argmin(-1)
    assert (nearest == test[b"labels"]).mean() > 0.7
    assert means[0].argmax() == 0  # airplanes are red


def test_a_failure_leaves_the_old_data_set_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("cifar10", tmp_path)
    before = tree_hash(tmp_path)
    monkeypatch.setattr(generated, "draw_cifar", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write("cifar10", tmp_path, seed=SEED + 1)
    assert tree_hash(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-py"]


def test_a_new_data_set_replaces_the_old_one_and_what_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / ".mvtec.partial" / "new" / "half").mkdir(parents=True)
    for categories in (["carpet", "screw"], ["pill"]):
        generated.write_mvtec(tmp_path / "mvtec", categories, 2, 32, SEED)
    assert [path.name for path in (tmp_path / "mvtec").iterdir() if path.is_dir()] == ["pill"]
    assert [path.name for path in tmp_path.iterdir()] == ["mvtec"]


def test_real_data_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "mvtec" / "carpet" / "precious.png"
    precious.parent.mkdir(parents=True)
    precious.touch()
    with pytest.raises(UserError, match="not generated here"):
        write("mvtec", tmp_path / "mvtec")
    assert precious.exists()
