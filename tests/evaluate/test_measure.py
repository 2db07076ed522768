"""From maps and masks to metrics, by hand.

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
from adtr.data.images import verified_masks
from adtr.errors import UserError
from adtr.evaluate.maps import score
from adtr.evaluate.measure import masks_of, measure
from adtr.files import sha256


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
    rows = measure(scores, maps, masks_of(root, images, size), size, params(**changes))
    return {str(row["metric"]): (float(row["value"]), str(row["note"])) for row in rows}


def constant_maps(*values: float) -> np.ndarray:
    return np.broadcast_to(np.array(values, np.float32)[:, None, None], (len(values), 2, 2)).copy()


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


def test_the_limit_of_aupro_is_the_parameter(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[1, 0], [0, 0]])
    maps = np.array([[[5, 7], [1, 1]]], np.float32)  # one of three normal pixels scores above the region
    for limit, expected in ((1, 2 / 3), (0.5, 1 / 3), (0.3, 0)):
        found = measured(maps, manifest([1], masks=[mask]), tmp_path, aupro_limit=limit)
        assert found["aupro"][0] == pytest.approx(100 * expected), limit


def test_masks_shrink_to_the_nearest_pixel(tmp_path: Path) -> None:
    # pixels 1 and 3 of 4 lie nearest to the centres of the two that they become
    rows = np.zeros((4, 4), int)
    rows[1, 1] = 1
    kept = save_mask(tmp_path, "kept.png", rows.tolist())
    lost = save_mask(tmp_path, "lost.png", np.roll(rows, -1).tolist())
    maps = np.array([[[9, 1], [1, 1]]], np.float32)
    assert measured(maps, manifest([1], masks=[kept]), tmp_path)["pixel_auroc"] == (100.0, "")
    assert math.isnan(measured(maps, manifest([1], masks=[lost]), tmp_path)["pixel_auroc"][0])


def test_masks_grow_in_blocks_without_grey_between(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[1, 0], [0, 0]])
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, :2, :2] = 1
    assert measured(maps, manifest([1], masks=[mask]), tmp_path, size=4)["pixel_auroc"] == (100.0, "")
    maps[0, 1, 2] = 1  # one pixel more: half of its pairs are ties
    found = measured(maps, manifest([1], masks=[mask]), tmp_path, size=4)
    assert found["pixel_auroc"][0] == pytest.approx(100 * (11 + 0.5) / 12)


def test_a_mask_that_changed_since_it_was_indexed_is_refused(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[1, 0], [0, 0]])
    images = manifest([1], masks=[mask]).assign(mask_sha256=sha256(tmp_path / mask))
    save_mask(tmp_path, mask, [[0, 1], [0, 0]])
    with pytest.raises(UserError, match=r"a_mask\.png: changed since it was indexed"):
        verified_masks(tmp_path, images, 4)


def test_masks_that_are_all_black_leave_pixel_metrics_undefined(tmp_path: Path) -> None:
    mask = save_mask(tmp_path, "a_mask.png", [[0, 0], [0, 0]])
    found = measured(constant_maps(1, 2), manifest([0, 1], masks=["", mask]), tmp_path)
    assert found["image_auroc"] == (100.0, "")
    for metric in ("pixel_auroc", "pixel_ap", "aupro"):
        assert math.isnan(found[metric][0])
        assert found[metric][1] == "undefined: only one class: no label or mask pixel is anomalous"
