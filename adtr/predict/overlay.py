"""An image with its anomaly map over it.

Shapes: H, W sides of the image as it is, h, w sides of the picture, G side of the feature grid in tokens.
"""

from functools import cache

import matplotlib
import numpy as np
from PIL import Image
from scipy import ndimage

from adtr.evaluate.measure import upsampled

COLOURS = "inferno"  # of every anomaly map, as in figures/look.py: brighter is more anomalous
SHORTEST, LONGEST = 512, 1024  # px, of the picture's longer side
OPACITY = 0.7  # of the highest value; what is low is transparent


def overlay(
    image: Image.Image, token_map: np.ndarray, scale: tuple[float, float], pixel_threshold: float | None = None
) -> Image.Image:
    """The image in grey under the colours of its map (G, G), and a line around what is above the threshold.

    Args:
        image: of any size; the picture has its aspect ratio.
        scale: values of the map that have the lowest and the highest colour.
    """
    longest = max(image.size)
    factor = min(max(longest, SHORTEST), LONGEST) / longest
    width, height = (max(1, round(factor * side)) for side in image.size)
    filter_ = Image.Resampling.NEAREST if factor > 4 else Image.Resampling.LANCZOS
    grey = image.convert("RGB").convert("L").resize((width, height), filter_).convert("RGB")
    low, high = scale
    map_ = upsampled(token_map[None], (height, width))[0]
    level = Image.fromarray((np.clip((map_ - low) / max(high - low, 1e-12), 0, 1) * 255).round().astype(np.uint8))
    *colours, opacity = (level.point(table) for table in _tables())
    picture = Image.composite(Image.merge("RGB", colours), grey, opacity)
    if pixel_threshold is None or not (inside := map_ > pixel_threshold).any():
        return picture
    wide, wider = (ndimage.maximum_filter(inside.view(np.uint8), side) > 0 for side in (5, 7))
    pixels = np.array(picture)
    pixels[wider & ~inside], pixels[wide & ~inside] = 0, 255
    return Image.fromarray(pixels)


@cache
def _tables() -> list[list[int]]:
    """Red, green, blue and opacity of 256 levels, 0 to 255."""
    value = np.linspace(0, 1, 256)
    opacity = OPACITY * np.minimum(1, 1.5 * value)
    channels = [*matplotlib.colormaps[COLOURS](value)[:, :3].T, opacity]
    return [(255 * channel).round().astype(int).tolist() for channel in channels]
