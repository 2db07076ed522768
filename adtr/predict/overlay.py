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
    grey = np.asarray(image.convert("RGB").convert("L").resize((width, height), filter_), np.float32)[..., None]
    low, high = scale
    map_ = upsampled(token_map[None], (height, width))[0]
    level = (np.clip((map_ - low) / max(high - low, 1e-12), 0, 1) * 255).round().astype(np.uint8)
    opacity, colour = _steps()
    pixels = grey * (1 - opacity)[level] + colour[level]
    if pixel_threshold is not None and (inside := map_ > pixel_threshold).any():
        wide, wider = (ndimage.maximum_filter(inside.view(np.uint8), side) > 0 for side in (5, 7))
        pixels[wider & ~inside], pixels[wide & ~inside] = 0, 255
    return Image.fromarray(pixels.round().astype(np.uint8))


@cache
def _steps() -> tuple[np.ndarray, np.ndarray]:
    """Of 256 levels the opacity (256, 1), and the colour (256, 3) times it, float32."""
    value = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    opacity = OPACITY * np.minimum(1, 1.5 * value)
    return opacity, 255 * opacity * matplotlib.colormaps[COLOURS](value[:, 0])[:, :3].astype(np.float32)
