"""From maps to scores, by hand.

Shapes: N images, G side of the grid, S side of the input in px.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from adtr.config.schema import Score
from adtr.evaluate.maps import image_scores, score, upsampled

# Upsampled to 4 px with the corners kept, row i and column j are 2i + j:
#   0 1 2 3
#   2 3 4 5
#   4 5 6 7
#   6 7 8 9
GRID = np.array([[[0, 3], [6, 9]]], np.float32)


def params(**changes: Any) -> Score:
    return Score.model_validate({"pooling": 1, "image_score": "max", "aupro_limit": 0.3} | changes)


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
