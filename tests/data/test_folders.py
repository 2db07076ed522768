"""What people's folders hold: read as it is meant, passed over, warned of, or refused, each by name."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adtr.config.schema import Dataset
from adtr.data import findings
from adtr.data.findings import sentences, shown
from adtr.data.images import read_mask
from adtr.data.manifest import index, read_manifest, write_manifest
from adtr.errors import UserError

SIZE = 32
Change = Callable[[Path], object]


def picture(number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return Image.fromarray(noise)


def mask() -> np.ndarray:
    """(S, S) uint8: a square of 16 px in a corner of the middle."""
    marks = np.zeros((SIZE, SIZE), np.uint8)
    marks[10:14, 10:14] = 255
    return marks


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A sound category: three training images, two normal test images, three of the defect hole."""
    base = tmp_path / "cat"
    for place, count in (("train/good", 3), ("test/good", 2), ("test/hole", 3)):
        (base / place).mkdir(parents=True)
        for i in range(count):
            picture(crc32(f"{place}/{i}".encode())).save(base / place / f"{i:03}.png")
    (base / "ground_truth/hole").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(mask()).save(base / f"ground_truth/hole/{i:03}_mask.png")
    return base


def indexed(base: Path) -> pd.DataFrame:
    root = str(base.parent)
    return index(
        Dataset.model_validate({"title": "Cats", "layout": "mvtec", "root": root, "categories": ["cat"]}), "cat"
    )


def warnings_of(base: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = indexed(base).attrs["warnings"]
    return found


def problems_of(base: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        indexed(base)
    return [line.strip() for line in str(caught.value).splitlines()][1:]


def save_all(base: Path, place: str, change: Callable[[Image.Image], Any], suffix: str = "", **options: Any) -> None:
    """Saves each image of a folder anew, changed, perhaps under another suffix."""
    for path in sorted((base / place).iterdir()):
        image = change(Image.open(path))
        path.unlink()
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(path.with_suffix(suffix or path.suffix), **options)


MASKS = [f"cat/ground_truth/hole/{i:03}_mask.png" for i in range(3)]


def test_a_sound_category_has_no_warning(cat: Path) -> None:
    assert warnings_of(cat) == {}
    assert len(indexed(cat)) == 8


# Passed over


LEFT = [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".git", "#recycle", "$RECYCLE.BIN"]


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_in_folders_is_no_defect(cat: Path, name: str) -> None:
    before = indexed(cat)
    for place in (cat, cat / "test", cat / "train", cat / "ground_truth", cat / "test/hole", cat / "train/good"):
        shutil.copytree(cat / "test/good", place / name)
    pd.testing.assert_frame_equal(indexed(cat), before)
    assert warnings_of(cat) == {}


def test_hidden_files_beside_images_are_passed_over(cat: Path) -> None:
    before = indexed(cat)
    images = list(cat.rglob("*.png"))
    for path in images:
        (path.parent / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(58))
    for folder in {cat, cat / "test", *(path.parent for path in images)}:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "readme.txt", "labels.csv"):
            (folder / name).write_bytes(b"\0")
    pd.testing.assert_frame_equal(indexed(cat), before)
    assert warnings_of(cat) == {}


# Not read


def crack(base: Path, suffix: str) -> None:
    (base / "test/crack").mkdir()
    shutil.copy(base / "test/hole/000.png", base / f"test/crack/000{suffix}")


UNREAD: dict[str, Change] = {
    "train/good/day2": lambda base: shutil.copytree(base / "test/good", base / "train/good/day2"),
    "train/bad": lambda base: shutil.copytree(base / "test/good", base / "train/bad"),
    "test/hole/large": lambda base: shutil.copytree(base / "test/hole", base / "test/hole/large"),
    "test/000.png": lambda base: shutil.copy(base / "test/hole/000.png", base / "test/000.png"),
    "000.png": lambda base: shutil.copy(base / "test/hole/000.png", base / "000.png"),
    "masks": lambda base: shutil.copytree(base / "ground_truth/hole", base / "masks"),
    "ground_truth/000_mask.png": lambda base: shutil.copy(
        base / "ground_truth/hole/000_mask.png", base / "ground_truth/000_mask.png"
    ),
}
for suffix in (".jfif", ".gif", ".heic", ".jp2", ".svg", ".npy", ""):
    UNREAD[f"test/crack/000{suffix}"] = partial(crack, suffix=suffix)


@pytest.mark.parametrize("name", UNREAD)
def test_images_where_or_of_a_kind_that_is_not_read_are_warned_of(cat: Path, name: str) -> None:
    before = indexed(cat)
    UNREAD[name](cat)
    pd.testing.assert_frame_equal(indexed(cat), before)
    assert warnings_of(cat) == {findings.UNREAD: [f"cat/{name}"]}


@pytest.mark.parametrize("name", ["ok", "Normal", "PASS"])
def test_a_defect_whose_name_sounds_normal_is_warned_of(cat: Path, name: str) -> None:
    (cat / "test" / name).mkdir()
    (cat / "ground_truth" / name).mkdir()
    for folder, file in (("test", "000.png"), ("ground_truth", "000_mask.png")):
        defect = next(path for path in (cat / folder).iterdir() if path.name not in ("good", name))
        picture = next(path for path in defect.iterdir() if path.stem.startswith("000"))
        picture.rename(cat / folder / name / file)
    assert warnings_of(cat) == {findings.SOUNDS_GOOD: [f"cat/test/{name}"]}


@pytest.mark.parametrize("suffix", [".PNG", ".Jpg", ".TIFF", ".bmp"])
def test_suffixes_in_capitals_are_read(cat: Path, suffix: str) -> None:
    save_all(cat, "test/hole", lambda image: image, suffix)
    save_all(cat, "ground_truth/hole", lambda image: image, ".PNG")
    manifest = indexed(cat)
    assert manifest["mask"].tolist()[-3:] == [f"cat/ground_truth/hole/{i:03}_mask.PNG" for i in range(3)]
    assert warnings_of(cat) == {}


def test_folders_and_files_behind_links_are_read(cat: Path) -> None:
    before = indexed(cat)
    (cat / "test/hole").rename(cat.parent / "elsewhere")
    (cat / "test/hole").symlink_to(cat.parent / "elsewhere")
    pd.testing.assert_frame_equal(indexed(cat), before)


# Refused


def replace(base: Path, name: str, target: str = "") -> None:
    """A file, or a link, in place of a folder."""
    shutil.rmtree(base / name)
    (base / name).symlink_to(target) if target else (base / name).write_text("")


def write_pipe(base: Path, name: str) -> None:
    (base / name).unlink(missing_ok=True)
    os.mkfifo(base / name)


def written(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
NOT_UTF8 = b"caf\xe9.png"
REFUSED: dict[str, tuple[Change, str]] = {
    "a pipe": (lambda b: write_pipe(b, "train/good/009.png"), "cat/train/good/009.png: neither a file"),
    "a pipe for a mask": (
        lambda b: write_pipe(b, "ground_truth/hole/000_mask.png"),
        "cat/ground_truth/hole/000_mask.png: neither a file",
    ),
    "a link to nothing": (
        lambda b: (b / "train/good/9.png").symlink_to("gone.png"),
        "cat/train/good/9.png: neither a file nor a folder, or a broken link",
    ),
    "a link to itself": (lambda b: (b / "test/good/9.png").symlink_to("9.png"), "cat/test/good/9.png: neither"),
    "an empty file": (lambda b: (b / "test/good/9.png").touch(), "cat/test/good/9.png: not readable as an image"),
    "PostScript, which Pillow gives to another program": (
        lambda b: (b / "train/good/9.png").write_bytes(POSTSCRIPT),
        "cat/train/good/9.png: not readable as an image (PNG, JPEG, BMP, TIFF and WebP are read)",
    ),
    "PostScript for a mask of a normal image": (
        lambda b: written(b / "ground_truth/good/000_mask.png", POSTSCRIPT),
        "cat/ground_truth/good/000_mask.png: not readable as an image",
    ),
    "an image of another kind than its suffix": (
        lambda b: Image.new("RGB", (8, 8)).save(b / "train/good/9.png", "GIF"),
        "cat/train/good/9.png: not readable as an image",
    ),
    "ground_truth, a file": (lambda b: replace(b, "ground_truth"), "cat/ground_truth: not a folder"),
    "ground_truth, a link to nothing": (lambda b: replace(b, "ground_truth", "gone"), "cat/ground_truth: not a folder"),
    "train, a file": (lambda b: replace(b, "train"), "cat/train: not a folder"),
    "Good": (lambda b: (b / "test/good").rename(b / "test/Good"), "cat/test/Good: rename it to good"),
    "good with a sign that nobody sees": (
        lambda b: (b / "test/good").rename(b / "test/good\u200b"),
        r"cat/test/good\u200b: rename it to good",
    ),
    "good in wide letters": (
        lambda b: (b / "test/good").rename(b / "test/ｇｏｏｄ"),
        "cat/test/ｇｏｏｄ: rename it to good",
    ),
    "a name that is not UTF-8": (
        lambda b: (b / "train/good/000.png").rename(os.fsdecode(os.fsencode(b / "train/good/") + b"/" + NOT_UTF8)),
        r"cat/train/good/caf\xe9.png: the name is not UTF-8",
    ),
    "a defect whose name is not UTF-8": (
        lambda b: (b / "test/hole").rename(os.fsdecode(os.fsencode(b / "test") + b"/d\xe9faut")),
        r"cat/test/d\xe9faut: the name is not UTF-8",
    ),
    "a line break in a name": (
        lambda b: (b / "train/good/000.png").rename(b / "train/good/a\nb.png"),
        r"cat/train/good/a\nb.png: the name is not UTF-8, or has a line break or the like: rename it",
    ),
    "a carriage return in a name": (
        lambda b: (b / "train/good/000.png").rename(b / "train/good/a\rb.png"),
        r"cat/train/good/a\rb.png: the name is not UTF-8, or has a line break",
    ),
    "two images of one stem": (
        lambda b: Image.open(b / "test/hole/000.png").save(b / "test/hole/000.bmp"),
        "cat/test/hole/000.png: its mask is that of cat/test/hole/000.bmp, too: rename one",
    ),
    "a black mask": (
        lambda b: Image.new("L", (SIZE, SIZE)).save(b / "ground_truth/hole/001_mask.png"),
        "cat/ground_truth/hole/001_mask.png: marks nothing, as every pixel is black or transparent",
    ),
    "a transparent mask": (
        lambda b: Image.new("RGBA", (SIZE, SIZE), (255, 255, 255, 0)).save(b / "ground_truth/hole/001_mask.png"),
        "cat/ground_truth/hole/001_mask.png: marks nothing",
    ),
    "a mask painted in black on nothing": (
        lambda b: Image.merge("RGBA", [*[Image.new("L", (SIZE, SIZE))] * 3, Image.fromarray(mask())]).save(
            b / "ground_truth/hole/001_mask.png"
        ),
        "cat/ground_truth/hole/001_mask.png: marks nothing, as every pixel is black or transparent",
    ),
    "a mask of another size": (
        lambda b: Image.fromarray(mask()).resize((16, 16)).save(b / "ground_truth/hole/001_mask.png"),
        "cat/ground_truth/hole/001_mask.png: 16x16 px, its image cat/test/hole/001.png has 32x32 px",
    ),
    "a mask of 16 bits": (
        lambda b: Image.fromarray(mask().astype(np.uint16) * 257).save(b / "ground_truth/hole/001_mask.png"),
        "cat/ground_truth/hole/001_mask.png: mode I;16 is not of eight bits a channel",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(cat: Path, kind: str) -> None:
    change, message = REFUSED[kind]
    change(cat)
    assert any(problem.startswith(message) for problem in problems_of(cat))


# Masks that are not what they seem


def test_transparent_pixels_of_a_mask_are_normal(cat: Path) -> None:
    def cut(image: Image.Image) -> Image.Image:
        white = Image.new("RGBA", image.size, "white")
        white.putalpha(image)
        return white

    save_all(cat, "ground_truth/hole", cut)
    assert warnings_of(cat) == {}
    for row in indexed(cat).query("label == 1").itertuples():
        assert np.array_equal(read_mask(cat.parent, str(row.mask)), mask() > 0)


@pytest.mark.parametrize("colour", [(0, 0, 1), (200, 0, 0), (0, 255, 255)])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_a_mask_in_colour_is_read(cat: Path, mode: str, colour: tuple[int, int, int]) -> None:
    picture = Image.fromarray((mask() > 0)[..., None] * np.array(colour, np.uint8))
    save_all(cat, "ground_truth/hole", lambda _: picture.quantize(2) if mode == "P" else picture)
    assert warnings_of(cat) == {}
    assert np.array_equal(read_mask(cat.parent, MASKS[0]), mask() > 0)


def corner(image: Image.Image) -> np.ndarray:
    """The defect at the border, so that an inverted mask does not mark all of it."""
    marks = np.full((SIZE, SIZE), 255, np.uint8)
    marks[:6, :8] = 0
    assert image.size == marks.shape
    return marks


SEEMING: dict[str, tuple[Callable[[Image.Image], Any], str]] = {
    "inverted": (lambda image: 255 - np.asarray(image), findings.INVERTED),
    "inverted, defect at the border": (corner, findings.INVERTED),
    "values 1 to 3": (lambda image: np.asarray(image) // 127 + 1, findings.INVERTED),
    "white all over": (lambda image: Image.new("L", image.size, 255), findings.INVERTED),
    "soft edges": (lambda image: image.resize((8, 8)).resize((SIZE, SIZE)), findings.LEVELS),
    "indices of classes": (lambda image: np.asarray(image) // 128 + np.eye(SIZE, dtype=np.uint8) * 2, findings.LEVELS),
}


@pytest.mark.parametrize("kind", SEEMING)
def test_masks_that_are_hardly_meant_are_warned_of(cat: Path, kind: str) -> None:
    change, what = SEEMING[kind]
    save_all(cat, "ground_truth/hole", change)
    assert warnings_of(cat) == {what: MASKS}


def test_one_inverted_mask_among_others_is_named(cat: Path) -> None:
    Image.fromarray(255 - mask()).save(cat / "ground_truth/hole/001_mask.png")
    assert warnings_of(cat) == {findings.INVERTED: [MASKS[1]]}


def test_a_mask_stored_as_jpeg_is_warned_of(cat: Path) -> None:
    save_all(cat, "ground_truth/hole", lambda image: image, ".jpg")
    assert warnings_of(cat) == {findings.LOSSY: [name.replace("png", "jpg") for name in MASKS]}


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_masks_of_two_values_are_sound(cat: Path, mode: str, value: int) -> None:
    save_all(cat, "ground_truth/hole", lambda image: image.point(lambda v: value * (v > 0)).convert(mode))
    if (mode, value) == ("1", 1):  # Pillow rounds 1 of 255 to black
        assert len(problems_of(cat)) == 3
    else:
        assert warnings_of(cat) == {}


def test_a_large_defect_that_leaves_most_of_the_border_is_sound(cat: Path) -> None:
    marks = np.full((SIZE, SIZE), 255, np.uint8)
    marks[:4], marks[:, :4], marks[:, -4:] = 0, 0, 0
    save_all(cat, "ground_truth/hole", lambda _: marks)
    assert warnings_of(cat) == {}


def test_a_mask_of_a_normal_image_is_warned_of_if_it_marks_something(cat: Path) -> None:
    (cat / "ground_truth/good").mkdir()
    Image.new("L", (SIZE, SIZE)).save(cat / "ground_truth/good/000_mask.png")
    assert warnings_of(cat) == {}
    Image.fromarray(mask()).save(cat / "ground_truth/good/001_mask.png")
    assert warnings_of(cat) == {findings.NORMAL: ["cat/ground_truth/good/001_mask.png"]}


# Images that are not what they seem


def cut_out(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(mask()))
    return image


def transparent(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(0)
    return image


def indexed_colours(image: Image.Image) -> Image.Image:
    image = image.convert("P")
    image.info["transparency"] = image.getpixel((0, 0))
    return image


PICTURES: dict[str, tuple[Callable[[Image.Image], Any], str, str, dict[str, Any]]] = {
    "alpha": (cut_out, ".png", findings.ALPHA, {}),
    "alpha alike everywhere": (transparent, ".png", findings.ALPHA, {}),
    "a transparent colour": (indexed_colours, ".png", findings.ALPHA, {}),
    "black": (lambda image: Image.new("L", image.size), ".png", findings.PLAIN, {}),
    "three pages": (
        lambda image: image,
        ".tiff",
        findings.PAGES,
        {"save_all": True, "append_images": [picture(0)] * 2},
    ),
    "frames": (lambda image: image, ".png", findings.PAGES, {"save_all": True, "append_images": [picture(0)]}),
    "frames of WebP": (lambda image: image, ".webp", findings.PAGES, {"save_all": True, "append_images": [picture(0)]}),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_images_of_which_a_part_is_not_read_are_warned_of(cat: Path, kind: str) -> None:
    change, suffix, what, options = PICTURES[kind]
    (cat / "train/good/only").mkdir()
    shutil.move(cat / "train/good/000.png", cat / "train/good/only/000.png")
    save_all(cat, "train/good/only", change, suffix, **options)
    shutil.move(cat / f"train/good/only/000{suffix}", cat / f"train/good/000{suffix}")
    (cat / "train/good/only").rmdir()
    assert warnings_of(cat) == {what: [f"cat/train/good/000{suffix}"]}


def test_the_photograph_of_a_phone_with_its_preview_is_one_image(cat: Path) -> None:
    save_all(cat, "train/good", lambda image: image, ".jpg", format="MPO", save_all=True, append_images=[picture(0)])
    assert Image.open(cat / "train/good/000.jpg").format == "MPO"
    assert warnings_of(cat) == {}


def test_alpha_that_says_nothing_is_not_warned_of(cat: Path) -> None:
    save_all(cat, "train/good", lambda image: image.convert("RGBA"))
    save_all(cat, "test/good", lambda image: image.convert("LA"))
    assert warnings_of(cat) == {}


def test_images_of_one_pixel_are_warned_of(cat: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(cat / "test/good/000.png")
    assert warnings_of(cat) == {findings.PLAIN: ["cat/test/good/000.png"]}


def test_pictures_in_training_and_testing_are_warned_of(cat: Path) -> None:
    """Also those that were stored anew, so that their bytes differ."""
    shutil.copy(cat / "test/good/000.png", cat / "train/good/100.png")
    Image.open(cat / "test/good/001.png").save(cat / "train/good/101.bmp")
    shutil.copy(cat / "test/hole/000.png", cat / "train/good/200.png")
    leaked = ["cat/test/good/000.png", "cat/test/good/001.png", "cat/test/hole/000.png"]
    contrary = ["cat/train/good/200.png", "cat/test/hole/000.png"]
    assert warnings_of(cat) == {findings.LEAKED: leaked, findings.CONTRARY: contrary}


@pytest.mark.parametrize("place", ["train/good", "test/good", "test/hole", "validation/good"])
def test_copies_of_a_picture_in_one_split_are_warned_of_beside_each_other(cat: Path, place: str) -> None:
    """Also those that were stored anew, so that their bytes differ."""
    folder = cat / place
    if place.startswith("validation"):
        folder.mkdir(parents=True)
        Image.effect_noise((8, 8), 40).save(folder / "000.png")
    kept = sorted(path.name for path in folder.iterdir())[0]
    shutil.copy(folder / kept, folder / "100.png")
    Image.open(folder / kept).save(folder / "101.bmp")
    found = {what: names for what, names in warnings_of(cat).items() if what != findings.UNMASKED}
    assert found == {findings.COPIES: [f"cat/{place}/{name}" for name in (kept, "100.png", "101.bmp")]}


def test_a_picture_that_is_normal_and_anomalous_is_warned_of(cat: Path) -> None:
    shutil.copy(cat / "test/hole/001.png", cat / "test/good/009.png")
    assert warnings_of(cat) == {findings.CONTRARY: ["cat/test/good/009.png", "cat/test/hole/001.png"]}


# Names


NAMES = ["a,b", 'a"b', "a'b", "\u202fa\u3000", "#1", "=1+1", "-x", "a:17", " a ", "é", "NA", "{x}", "$HOME", "a.b"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_an_image_survives_its_manifest(cat: Path, name: str) -> None:
    shutil.move(cat / "test/hole/000.png", cat / f"test/hole/{name}.png")
    shutil.move(cat / "ground_truth/hole/000_mask.png", cat / f"ground_truth/hole/{name}_mask.png")
    manifest = indexed(cat)
    assert f"cat/test/hole/{name}.png" in manifest.image.tolist()
    write_manifest(cat.parent / "cat.csv", manifest)
    pd.testing.assert_frame_equal(read_manifest(cat.parent / "cat.csv"), manifest)


def test_what_is_shown_of_a_name_is_on_one_line_and_can_be_printed() -> None:
    assert shown("é/a\nb\x1b[31m") == r"é/a\nb\x1b[31m"
    assert shown(os.fsdecode(NOT_UTF8)) == r"caf\xe9.png"


def test_warnings_are_lines_with_their_first_names() -> None:
    assert sentences({"odd": ["a", "b", "c"], "even": ["d"]}, most=2) == ["odd (3): a, b and 1 more", "even (1): d"]
    assert sentences({"odd": ["a", "b", "c"]}) == ["odd (3): a, b, c"]
