"""From maps and masks to scores and metrics, by hand.

Shapes: N images, G side of the grid, S side of the input in px.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adtr.config.schema import Score
from adtr.evaluate.measure import image_scores, measure, score, truth_of, upsampled
from adtr.files import sha256

# Upsampled to 4 px with the corners kept, row i and column j are 2i + j:
#   0 1 2 3
#   2 3 4 5
#   4 5 6 7
#   6 7 8 9
GRID = np.array([[[0, 3], [6, 9]]], np.float32)


def params(**changes: Any) -> Score:
    return Score.model_validate({"pooling": 1, "image_score": "max", "aupro_limit": 0.3} | changes)


def manifest(labels: list[int], splits: list[str] | None = None, masks: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(len(labels))],
            "mask": masks or "",
            "label": labels,
            "split": splits or "test",
            "defect": ["hole" if label else "good" for label in labels],
        }
    )


def measured(
    maps: np.ndarray, images: pd.DataFrame, root: Path = Path(), size: int = 2, **changes: Any
) -> dict[str, tuple[float, str]]:
    """Value and note of each metric."""
    images = images.assign(mask_sha256=[sha256(root / name) if name else "" for name in images["mask"]])
    scores = score(maps, images, size, params(**changes))
    rows = measure(scores, maps, truth_of(root, images, size), size, params(**changes))
    return {str(row["metric"]): (float(row["value"]), str(row["note"])) for row in rows}


def constant_maps(*values: float) -> np.ndarray:
    return np.broadcast_to(np.array(values, np.float32)[:, None, None], (len(values), 2, 2)).copy()


# Upsampling


def test_upsampling_is_bilinear_and_keeps_the_corners() -> None:
    np.testing.assert_allclose(upsampled(GRID, 4)[0], [[2 * i + j for j in range(4)] for i in range(4)], atol=1e-6)


def test_upsampling_to_the_same_size_changes_nothing() -> None:
    np.testing.assert_array_equal(upsampled(GRID, 2), GRID)


def test_upsampling_keeps_images_apart() -> None:
    both = upsampled(np.concatenate([GRID, -GRID]), 4)
    np.testing.assert_array_equal(both[0], upsampled(GRID, 4)[0])
    np.testing.assert_array_equal(both[1], -both[0])


# Scores of images


@pytest.mark.parametrize(
    ("size", "pooling", "largest", "mean"),
    [
        (2, 1, 9, 4.5),  # kernel 1 px: the map itself
        (2, 2, 4.5, 4.5),  # kernel 2 px: its mean
        (4, 1, 7.5, 4.5),  # kernel 2 px, stride 1: 2i + j + 1.5 for i, j up to 2
        (4, 2, 4.5, 4.5),  # kernel 4 px: the mean
        (4, 9, 4.5, 4.5),  # no larger than the input
    ],
)
def test_scores_are_maximum_and_mean_of_the_pooled_map(size: int, pooling: int, largest: float, mean: float) -> None:
    scores = image_scores(GRID, size, pooling)
    assert scores.columns.tolist() == ["max", "mean"]
    assert scores.to_numpy()[0] == pytest.approx([largest, mean], abs=1e-6)


def test_the_mean_of_the_pooled_map_counts_the_border_less() -> None:
    spike = np.zeros((1, 4, 4), np.float32)
    spike[0, 0, 0] = 1  # a corner lies in one of the 3 x 3 windows of 2 x 2, an inner pixel in four
    assert image_scores(spike, 4, 2)["mean"][0] == pytest.approx(1 / 4 / 9)
    assert image_scores(np.roll(spike, (1, 1), (1, 2)), 4, 2)["mean"][0] == pytest.approx(4 / 4 / 9)


@pytest.mark.parametrize("images", [1, 63, 64, 65, 200])
def test_there_is_a_score_for_each_image_in_order(images: int) -> None:
    maps = np.arange(images, dtype=np.float32)[:, None, None] + np.zeros((1, 4, 4), np.float32)
    assert image_scores(maps, 8, 1)["max"].tolist() == pytest.approx(list(range(images)), rel=1e-6)


@pytest.mark.parametrize(("choice", "expected"), [("max", 7.5), ("mean", 4.5)])
def test_the_score_of_an_image_is_the_one_asked_for(choice: str, expected: float) -> None:
    rows = [("0.png", 0, "test", "good")]
    images = pd.DataFrame(rows, [7], ["image", "label", "split", "defect"])  # a manifest's index does not matter
    table = score(GRID, images, 4, params(image_score=choice))
    assert table.columns.tolist() == ["image", "label", "split", "defect", "pred_score", "score_max", "score_mean"]
    assert table.iloc[0].tolist()[:4] == ["0.png", 0, "test", "good"]
    assert table.iloc[0].tolist()[4:] == pytest.approx([expected, 7.5, 4.5], abs=1e-6)


# Metrics of images


def test_metrics_are_in_per_cent() -> None:
    # the anomalous 3 and 1 against the normal 2 and 0: three pairs of four are in order
    found = measured(constant_maps(3, 1, 2, 0), manifest([1, 1, 0, 0]))
    assert found["image_auroc"] == (75.0, "")
    assert found["image_ap"][0] == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_auroc_is_given_for_maximum_and_mean_whichever_is_the_score() -> None:
    maps = np.array([[[4, 0], [0, 0]], [[2, 2], [2, 2]]], np.float32)  # the anomalous one has the larger maximum only
    for choice, auroc in (("max", 100), ("mean", 0)):
        found = measured(maps, manifest([1, 0]), image_score=choice)
        assert (found["image_auroc"][0], found["image_auroc_max"][0], found["image_auroc_mean"][0]) == (auroc, 100, 0)


def test_anomalies_that_were_not_drawn_count_in_image_auroc_all_only() -> None:
    images = manifest([0, 1, 1], ["test", "test", "rest"])
    found = measured(constant_maps(1, 2, 0), images)
    assert found["image_auroc"] == (100.0, "")
    assert found["image_auroc_all"] == (50.0, "")
    assert "image_auroc_all" not in measured(constant_maps(1, 2, 0), manifest([0, 1, 1]))


def test_without_masks_there_are_no_metrics_of_pixels() -> None:
    found = measured(constant_maps(1, 2), manifest([0, 1]))
    assert list(found) == ["image_auroc", "image_ap", "image_auroc_max", "image_auroc_mean"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_undefined_and_says_why(label: int) -> None:
    found = measured(constant_maps(1, 2), manifest([label, label]))
    missing = ["anomalous", "normal"][label]
    for value, note in found.values():
        assert math.isnan(value)
        assert note == f"undefined: only one class: no label or mask pixel is {missing}"


def test_maps_that_are_not_finite_are_undefined_and_say_why() -> None:
    value, note = measured(constant_maps(1, math.nan), manifest([0, 1]))["image_auroc"]
    assert math.isnan(value)
    assert note == "undefined: the scores of anomalous samples are not all finite"


def test_a_method_may_score_images_by_something_else_than_its_map() -> None:
    images, maps = manifest([0, 1]), constant_maps(2, 1)
    scores = score(maps, images, 2, params(), own=np.array([3.0, 4.0]))
    assert scores.pred_score.tolist() == [3, 4]
    assert scores.score_max.tolist() == scores.score_mean.tolist() == [2, 1]
    rows = {row["metric"]: row["value"] for row in measure(scores, maps, None, 2, params())}
    assert (rows["image_auroc"], rows["image_auroc_max"]) == (100, 0)


# Metrics of pixels


def save_mask(root: Path, name: str, rows: list[list[int]]) -> str:
    Image.fromarray(np.array(rows, np.uint8) * 255).save(root / name)
    return name


def test_pixel_metrics_by_hand(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[1, 0], [0, 0]])
    maps = np.array([[[5, 7], [1, 1]], [[2, 2], [2, 6]]], np.float32)
    found = measured(maps, manifest([1, 0], masks=[mask, ""]), tmp_path, aupro_limit=1)
    # of the seven normal pixels, those of the image without a mask included, 7 and 6 score above the anomalous 5
    assert found["pixel_auroc"][0] == pytest.approx(100 * 5 / 7)
    assert found["pixel_ap"][0] == pytest.approx(100 / 3)
    assert found["aupro"][0] == pytest.approx(100 * 5 / 7)


def test_pixel_metrics_are_over_images_whose_truth_is_known_and_say_how_many(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[1, 0], [0, 0]])
    maps = np.array([[[5, 7], [1, 1]], [[9, 9], [9, 9]], [[2, 2], [2, 6]]], np.float32)
    found = measured(maps, manifest([1, 1, 0], masks=[mask, "", ""]), tmp_path, aupro_limit=1)
    both = measured(maps[[0, 2]], manifest([1, 0], masks=[mask, ""]), tmp_path, aupro_limit=1)
    for metric in ("pixel_auroc", "pixel_ap", "aupro"):
        assert found[metric] == (
            both[metric][0],
            "over 1 of 2 anomalous images: the others have no mask that marks a pixel at 2 px",
        )
        assert both[metric][1] == ""
    assert found["image_auroc"] == (100.0, "")


def test_a_defect_that_is_gone_at_the_size_of_the_maps_is_no_normal_pixel(tmp_path: Path) -> None:
    thin = save_mask(tmp_path, "a_mask.png", [[1, 0, 0, 0], *[[0] * 4] * 3])  # its nearest pixels at 2 px are others
    mask = save_mask(tmp_path, "b_mask.png", [[1, 0], [0, 0]])
    maps = np.array([[[9, 1], [1, 1]], [[5, 7], [1, 1]], [[2, 2], [2, 6]]], np.float32)
    found = measured(maps, manifest([1, 1, 0], masks=[thin, mask, ""]), tmp_path, aupro_limit=1)
    without = measured(maps[1:], manifest([1, 0], masks=[mask, ""]), tmp_path, aupro_limit=1)
    for metric in ("pixel_auroc", "pixel_ap", "aupro"):
        assert found[metric] == (
            without[metric][0],
            "over 1 of 2 anomalous images: the others have no mask that marks a pixel at 2 px",
        )


def test_without_images_all_is_undefined() -> None:
    for value, note in measured(np.empty((0, 2, 2), np.float32), manifest([])).values():
        assert math.isnan(value)
        assert note == "undefined: there are no test images"


def test_the_limit_of_aupro_is_the_parameter(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[1, 0], [0, 0]])
    maps = np.array([[[5, 7], [1, 1]]], np.float32)  # one of three normal pixels scores above the region
    for limit, expected in ((1, 2 / 3), (0.5, 1 / 3), (0.3, 0)):
        found = measured(maps, manifest([1], masks=[mask]), tmp_path, aupro_limit=limit)
        assert found["aupro"][0] == pytest.approx(100 * expected), limit


def test_masks_that_are_all_black_leave_pixel_metrics_undefined(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[0, 0], [0, 0]])
    found = measured(constant_maps(1, 2), manifest([0, 1], masks=["", mask]), tmp_path)
    assert found["image_auroc"] == (100.0, "")
    for metric in ("pixel_auroc", "pixel_ap", "aupro"):
        assert math.isnan(found[metric][0])
        assert found[metric][1] == "undefined: only one class: no label or mask pixel is anomalous"
