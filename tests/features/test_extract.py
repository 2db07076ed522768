"""Extraction: what the backbone gives, in the manifest's order, whole or not at all."""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from disk import mounted
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from adtr.config.schema import Dataset, Features, root_of
from adtr.data.images import read_rgb
from adtr.data.manifest import index
from adtr.errors import UserError
from adtr.features import extract as extraction
from adtr.features.extract import extract, normalized, tokens_of
from adtr.features.select import data_digest
from adtr.features.store import read_store
from adtr.features.weights import weights_file
from adtr.files import sha256

BATCH = 8  # images of 64 px, in these tests
LAST_BLOCKS = (0, 2, 4, 10, 15)  # of EfficientNet-Lite0, at strides 2 to 32


def features(**changes: Any) -> Features:
    fields = {"backbone": "efficientnet_lite0", "weights": "random", "layers": [1, 2, 3, 4, 5]}
    return Features.model_validate(fields | {"image_size": 64, "grid_size": 4, "precision": "float32"} | changes)


LITE0 = weights_file(features(weights="imagenet"), {}, Path())


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adtr.features.extract.LARGEST", {"cpu": (BATCH * 64**2, 256)})


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """`extract` is a process of its own and sets them for good."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def indexed(layout: str, root: Path, category: str) -> pd.DataFrame:
    fields = {"title": "x", "layout": layout, "root": str(root), "categories": [category]}
    return index(Dataset.model_validate(fields), category)


def manifest_of(root: Path, images: list[np.ndarray]) -> pd.DataFrame:
    """Writes images (H, W, 3) uint8 and lists them as the training images of a part 'x'."""
    rows = []
    for i, image in enumerate(images):
        path = root / f"{i}.png"
        Image.fromarray(image).save(path)
        rows.append((path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "train", "x"))
    return pd.DataFrame(rows, columns=["image", "sha256", "split", "part"])


def noise(count: int, size: int = 64) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is stored


def reference(root: Path, image: str) -> np.ndarray:
    """Lite0's tokens (16, 512) of one image, by the library alone: float32, batch normalisation not folded."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=64)
    network.load_state_dict(torch.load(LITE0 or "", weights_only=True))
    network.eval()
    layers: dict[int, torch.Tensor] = {}
    for i in LAST_BLOCKS:
        network._blocks[i].register_forward_hook(lambda _block, _inputs, output, i=i: layers.update({i: output}))
    pixels = np.asarray(Image.open(root / image).convert("RGB"), np.float32) / 255
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
    scaled = (pixels - mean) / std
    with torch.inference_mode():
        network.extract_features(torch.from_numpy(scaled.transpose(2, 0, 1))[None])
        maps = [F.interpolate(layers[i], (4, 4), mode="bilinear", align_corners=True) for i in LAST_BLOCKS]
    return torch.cat(maps, 1)[0].flatten(1).T.numpy()


def test_the_store_is_what_the_unfolded_library_gives_in_float32(mvtec_root: Path, tmp_path: Path) -> None:
    """Real weights, colour and grey images; half precision rounds by 2^-11, folding by far less."""
    for category in ("carpet", "screw"):
        rows = indexed("mvtec", mvtec_root, category).iloc[::7]
        extract(rows, mvtec_root, features(weights="imagenet"), LITE0, tmp_path / "x.npy")
        array, _ = read_store(tmp_path / "x.npy")
        for found, image in zip(array, rows.image, strict=True):
            expected = reference(mvtec_root, image)
            assert np.abs(found - expected).max() < 2**-10 * np.abs(expected).max()
            np.testing.assert_allclose(found, expected, rtol=2**-10, atol=2e-4)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 3), (2, 1), (3, 0)])
def test_tokens_are_in_reading_order(tmp_path: Path, row: int, column: int) -> None:
    """A bright spot at one token's place changes that token of layer 1 and no other."""
    dark, spot = np.zeros((2, 64, 64, 3), np.uint8)
    y, x = round(row * 63 / 3), round(column * 63 / 3)  # tokens lie from corner to corner
    spot[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = 255
    extract(manifest_of(tmp_path, [dark, spot]), tmp_path, features(layers=[1]), None, tmp_path / "x.npy")
    array, _ = read_store(tmp_path / "x.npy")
    assert np.flatnonzero((array[0] != array[1]).any(axis=1)).tolist() == [4 * row + column]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_without_a_backbone_a_token_is_a_patch_of_the_normalised_image(tmp_path: Path, precision: str) -> None:
    images = noise(2, 32)
    store = tmp_path / "x.npy"
    pixels = features(backbone="pixels", image_size=32, grid_size=4, precision=precision)
    extract(manifest_of(tmp_path, images), tmp_path, pixels, weights_file(pixels, {}, Path()), store)
    array, info = read_store(store)
    assert array.shape == (2, 16, 3 * 8 * 8)
    assert info["weights"] == "none"
    expected = normalized(np.stack(images)).numpy().astype(np.float16)  # (2, 3, 32, 32)
    patch = expected[1, :, 8:16, 24:32]  # row 1, column 3
    assert np.array_equal(array[1, 1 * 4 + 3], patch.ravel())
    whole = F.pixel_shuffle(torch.from_numpy(array.copy()).transpose(1, 2).unflatten(2, (4, 4)), 8)
    assert np.array_equal(whole.numpy(), expected)


def test_rows_are_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, noise(2 * BATCH + 3))
    order = np.random.default_rng(1).permutation(len(manifest))
    for name, rows in (("plain", manifest), ("mixed", manifest.iloc[order])):
        extract(rows, tmp_path, features(), None, tmp_path / f"{name}.npy", threads=2)
    plain, mixed = (read_store(tmp_path / f"{name}.npy")[0] for name in ("plain", "mixed"))
    assert len(np.unique(plain[:, 0], axis=0)) == len(plain)
    assert np.array_equal(mixed, plain[order])  # other neighbours in a batch


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_does_not_change_the_bytes(
    mvtec_root: Path, tmp_path: Path, threads: int, precision: str
) -> None:
    manifest, asked = indexed("mvtec", mvtec_root, "screw"), features(precision=precision)
    assert len(manifest) > 2 * BATCH
    for count in (1, threads):
        extract(manifest, mvtec_root, asked, None, tmp_path / f"{count}.npy", threads=count)
    assert sha256(tmp_path / "1.npy") == sha256(tmp_path / f"{threads}.npy")


@pytest.mark.parametrize("threads", [1, 3])
def test_images_that_are_decoded_ahead_of_a_gpu_give_the_same_bytes(
    mvtec_root: Path, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "cpu:0" goes the way of a GPU. Of a large part no more than some batches are in memory."""
    manifest = indexed("mvtec", mvtec_root, "screw")
    manifest = pd.concat([manifest] * 4)
    extract(manifest, mvtec_root, features(), None, tmp_path / "cpu.npy")
    decoded, passed, ahead = itertools.count(1), 0, []

    def counted(*arguments: Any) -> np.ndarray:
        ahead.append(next(decoded) - passed)
        return read_rgb(*arguments)

    def slow(images: np.ndarray, *others: Any) -> np.ndarray:
        nonlocal passed
        time.sleep(0.05)  # so that decoding is faster
        passed += len(images)
        return tokens_of(images, *others)

    monkeypatch.setattr(extraction, "read_rgb", counted)
    monkeypatch.setattr(extraction, "tokens_of", slow)
    extract(manifest, mvtec_root, features(), None, tmp_path / "gpu.npy", "cpu:0", threads)
    assert sha256(tmp_path / "cpu.npy") == sha256(tmp_path / "gpu.npy")
    assert BATCH < max(ahead) <= 5 * BATCH + threads < len(manifest)


def test_normalisation_is_that_of_imagenet() -> None:
    images = np.zeros((2, 1, 2, 3), np.uint8)
    images[1, 0, 1] = [255, 128, 0]
    result = normalized(images)
    assert (result.shape, result.dtype) == ((2, 3, 1, 2), torch.float32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    assert result[0, :, 0, 0].tolist() == pytest.approx(black, rel=1e-6)
    bright = [0.515 / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]
    assert result[1, :, 0, 1].tolist() == pytest.approx(bright, rel=1e-6)


def rounding(rows: pd.DataFrame, root: Path, weights: Path | None, folder: Path, backbone: str) -> float:
    """How far features in bfloat16 are from those in float32, as a share of their norm."""
    for name in ("float32", "bfloat16"):
        asked = features(backbone=backbone, precision=name, image_size=256)
        extract(rows, root, asked, weights, folder / f"{name}.npy")
    exact, rounded = (np.load(folder / f"{name}.npy").astype(np.float32) for name in ("float32", "bfloat16"))
    return float(np.linalg.norm(rounded - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "efficientnet_b0", "resnet18"])
def test_bfloat16_is_within_two_per_cent_of_float32_where_weights_are_random(tmp_path: Path, backbone: str) -> None:
    assert 0.001 < rounding(manifest_of(tmp_path, noise(3)), tmp_path, None, tmp_path, backbone) < 0.02


def test_bfloat16_is_a_few_per_cent_off_with_real_weights_and_images(tmp_path: Path) -> None:
    """4 to 5 %; the library's own network in bfloat16 is as far off."""
    root = root_of("package:elpv_dataset/data")
    rows = indexed("elpv", Path("package:elpv_dataset/data"), "mono").iloc[::300]
    assert 0.01 < rounding(rows, root, LITE0, tmp_path, "efficientnet_lite0") < 0.08


@pytest.mark.parametrize(("layers", "channels"), [([5], slice(192, 512)), ([2, 3], slice(16, 80))])
def test_fewer_layers_are_a_slice_of_all(tmp_path: Path, layers: list[int], channels: slice) -> None:
    """Table 4d's last layer needs no features of its own."""
    manifest = manifest_of(tmp_path, noise(3))
    extract(manifest, tmp_path, features(), None, tmp_path / "all.npy")
    extract(manifest, tmp_path, features(layers=layers), None, tmp_path / "some.npy")
    whole, some = read_store(tmp_path / "all.npy")[0], read_store(tmp_path / "some.npy")[0]
    assert np.array_equal(some, whole[..., channels])


def test_images_of_any_size_and_mode_are_resized(tmp_path: Path) -> None:
    grey = np.full((10, 70), 128, np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "square.png")
    files = ["grey.png", "square.png"]
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in files]
    extract(pd.DataFrame({"image": files, "sha256": digests}), tmp_path, features(), None, tmp_path / "x.npy")
    array, _ = read_store(tmp_path / "x.npy")
    assert np.array_equal(array[0], array[1])


def test_the_json_says_what_made_the_store(tmp_path: Path) -> None:
    manifest, wanted = manifest_of(tmp_path, noise(2)), features(weights="imagenet", layers=[4])
    extract(manifest, tmp_path, wanted, LITE0, tmp_path / "x.npy")
    info = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert Features.model_validate(info["features"]) == wanted
    assert info["weights"].startswith("57934424")
    assert info["data"] == data_digest(manifest) == hashlib.sha256("".join(manifest.sha256).encode()).hexdigest()
    assert info["device"] == "cpu"
    assert info["seconds"] > 0
    assert {"code", "commit", "time", "python", "torch", "cpu", "cores"} <= set(info)
    extract(manifest, tmp_path, features(), None, tmp_path / "x.npy")
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["weights"] == "random"


# What goes wrong


def test_an_image_that_has_changed_is_noticed(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, noise(BATCH + 2))
    Image.fromarray(noise(1)[0]).save(tmp_path / f"{BATCH + 1}.png")
    with pytest.raises(UserError, match=rf"/{BATCH + 1}\.png: changed since it was indexed"):
        extract(manifest, tmp_path, features(), None, tmp_path / "out/x.npy", threads=2)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_stops_midway_leaves_nothing_new(
    tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(batches: Iterator[Any], **_: Any) -> Iterator[Any]:
        yield next(batches)
        raise error

    manifest, out = manifest_of(tmp_path, noise(2 * BATCH)), tmp_path / "out"
    for earlier in (0, 1):  # images that were extracted before
        if earlier:
            extract(manifest.iloc[:earlier], tmp_path, features(), None, out / "x.npy")
        before = {path.name: path.read_bytes() for path in out.glob("*")}
        with monkeypatch.context() as patch:
            patch.setattr("adtr.features.extract.tqdm", stopped)
            with pytest.raises(error):
                extract(manifest, tmp_path, features(), None, out / "x.npy")
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(("kib", "lacking"), [(64, "npy"), (132, "json")])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, kib: int, lacking: str) -> None:
    manifest = manifest_of(tmp_path, noise(BATCH))  # 8 x 16 x 512 values: 128 KiB, and a header
    with mounted(tmp_path / "disk", f"size={kib}k") as disk:
        with pytest.raises(UserError, match=rf"no space left to write .*/disk/x\.{lacking}: free some and run"):
            extract(manifest, tmp_path, features(), None, disk / "x.npy")
        assert names(disk) == []


def test_features_beyond_float16_are_refused(tmp_path: Path) -> None:
    state = EfficientNet.from_name("efficientnet-lite0").state_dict()
    state["_blocks.0._bn2.weight"] *= 1e7
    torch.save(state, tmp_path / "huge.pth")
    with pytest.raises(UserError, match="efficientnet_lite0: a feature is beyond float16"):
        extract(manifest_of(tmp_path, noise(1)), tmp_path, features(), tmp_path / "huge.pth", tmp_path / "out/x.npy")
    assert names(tmp_path / "out") == []


def test_a_part_without_images_is_told(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, noise(1))
    with pytest.raises(UserError, match=r"/x\.npy: the manifest holds no images of this part"):
        extract(manifest[manifest.part == "y"], tmp_path, features(), None, tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()
