"""Overlays: the image in grey, its map in colour, a line around what is above the threshold."""

import numpy as np
import pytest
from PIL import Image

from adtr.predict.overlay import overlay

MAP = np.zeros((8, 8), np.float32)
MAP[2:4, 5:7] = 1  # up and to the right


def picture(size: tuple[int, int], threshold: float | None = None) -> np.ndarray:
    return np.asarray(overlay(Image.new("RGB", size, (200, 100, 50)), MAP, (0, 1), threshold)).astype(int)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((32, 32), (512, 512)), ((300, 600), (300, 600)), ((4000, 1000), (1024, 256)), ((3000, 1), (1024, 1))],
)
def test_a_picture_keeps_the_aspect_ratio_and_is_of_bounded_size(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert picture(size).shape == (*expected[::-1], 3)


def test_only_what_is_anomalous_has_colour() -> None:
    pixels = picture((700, 700))
    spread = pixels.max(axis=2) - pixels.min(axis=2)
    assert spread[400:, :].max() == 0  # grey
    assert pixels[500, 100, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert spread[250, 550] > 50


def test_a_white_line_goes_around_the_region_alone() -> None:
    plain, lined = picture((700, 700)), picture((700, 700), 0.5)
    rows, columns = np.nonzero((plain != lined).any(axis=2))
    assert abs(rows.min() - 147) <= 3  # half way between tokens 1 and 2, which are 100 px apart
    assert abs(columns.max() - 653) <= 3
    assert (lined[250, 550] == plain[250, 550]).all()
    assert np.array_equal(plain, picture((700, 700), 2))
    assert (lined[rows, columns] == 255).all(axis=1).any()
