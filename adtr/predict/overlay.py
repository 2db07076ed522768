"""An image with its anomaly map over it.

Shapes: H, W sides of the image as it is, h, w sides of the picture, G side of the feature grid in tokens.
"""

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
    value = np.clip((map_ - low) / max(high - low, 1e-12), 0, 1)
    colours = 255 * matplotlib.colormaps[COLOURS](value)[..., :3]
    opacity = OPACITY * np.minimum(1, 1.5 * value)[..., None]
    pixels = (1 - opacity) * grey + opacity * colours
    if pixel_threshold is not None:
        inside = map_ > pixel_threshold
        outline = ndimage.binary_dilation(inside, iterations=2) & ~inside
        around = ndimage.binary_dilation(inside, iterations=3) & ~inside & ~outline
        pixels[around], pixels[outline] = 0, 255
    return Image.fromarray(pixels.round().astype(np.uint8))
