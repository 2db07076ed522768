"""The synthetic anomalies of ADTR+ (Fig. 3)."""

from matplotlib.figure import Figure

from adtr.data.images import read_mask, read_rgb
from adtr.figures.category import Category, spread
from adtr.figures.look import MASK, image_grid

COPIES = 6


def confetti(category: Category) -> Figure:
    """Normal images, their noisy copies and the masks of the noise, at even steps through the bank."""
    assert category.bank, f"{category.name} has no confetti"
    (manifest, folder), size = category.bank, category.runs[0].size
    copies = spread(manifest, COPIES)
    return image_grid(
        {
            "normal sample": ({}, [read_rgb(category.root, source, size) for source in copies.source]),
            "with confetti": ({}, [read_rgb(folder, image, size) for image in copies.image]),
            "mask": (MASK, [read_mask(folder, mask, size) for mask in copies["mask"]]),
        }
    )
