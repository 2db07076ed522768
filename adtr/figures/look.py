"""What all figures share: colours for the colour-blind and for grey prints, images in a row, reproducible files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adtr.evaluate.metrics import UndefinedMetric
from adtr.figures import SUFFIXES
from adtr.figures.category import Run
from adtr.files import written_atomically

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
PALETTE = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # theirs without the yellow
DASHES = ["-", "--", "-.", ":"]
MARKERS = "os^DvP*X<>"
SCORES = "inferno"  # the colours of every anomaly map: brighter is more anomalous, in grey too
MASK = {"cmap": "gray", "vmin": 0, "vmax": 1}
METRICS = {"image_auroc": "image AUROC, %", "pixel_auroc": "pixel AUROC, %"}
CELL, GAP = 1.12, 0.06  # inches: an image and the gap to its right; the gap
LOOK = {
    "grid.color": "0.9",
    "axes.edgecolor": "0.75",
    "legend.frameon": False,
    "svg.hashsalt": "adtr",  # with no date in it, the same bytes every time
}


def set_look() -> None:
    """The theme of every figure."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9, rc=LOOK)


def line(i: int) -> dict[str, Any]:
    """The style of the experiment at position i: 28 pairs of colour and dash, and a marker."""
    colour, dash, marker = (styles[i % len(styles)] for styles in (PALETTE, DASHES, MARKERS))
    return {"color": colour, "linestyle": dash, "marker": marker, "markersize": 4, "lw": 1.5}


def rates(axes: Axes, runs: Sequence[Run], rates_of: Callable[[Run], tuple[np.ndarray, np.ndarray, float]]) -> None:
    """A curve of rates for each run, with its area in per cent or the reason why it is undefined.

    Args:
        rates_of: x and y of the curve and its area, as shares of 1; raises `UndefinedMetric`.
    """
    for i, run in enumerate(runs):
        every = (0.02 + 0.017 * (i % len(MARKERS)), 0.18)  # in parts of the diagonal; curves that lie close alternate
        try:
            x, y, area = rates_of(run)
            axes.plot(100 * x, 100 * y, **line(i), markevery=every, label=f"{run.title}  {100 * area:.1f}")
        except UndefinedMetric as reason:
            axes.plot([], [], **line(i), label=f"{run.title}: {reason}")


def legend(axes: Axes, **options: Any) -> None:
    """A legend to the right of the axes, where it covers no curve."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), handlelength=3, **options)


def message(figure: Figure, text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure.axes[0].text(0.5, 0.5, text, ha="center", transform=figure.axes[0].transAxes)
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the upper left: a layout engine would not give the same bytes every time."""
    total, tall = figure.get_size_inches()
    return figure.add_axes((left / total, 1 - (top + height) / tall, width / total, height / tall))


def write(figure: Figure, text: str, x: float, y: float, **style: Any) -> None:
    """Text whose middle stands x inches from the left, its foot y inches from the top."""
    total, tall = figure.get_size_inches()
    figure.text(x / total, 1 - y / tall, text, **{"ha": "center"} | style)


def show(figure: Figure, pixels: np.ndarray, style: dict[str, Any], left: float, top: float) -> None:
    """An image (S, S) or (S, S, 3), its corner in inches from the upper left."""
    axes = place(figure, left, top, CELL - GAP, CELL - GAP)
    axes.imshow(pixels, **style)
    axes.set_axis_off()


def image_grid(
    rows: dict[str, tuple[dict[str, Any], Sequence[np.ndarray]]], heads: Sequence[tuple[str, str]] = ()
) -> Figure:
    """Images in a grid.

    Args:
        rows: the style and the images of each row, by its label.
        heads: the texts above the columns, with their colours.
    """
    left, top = 0.3, 0.3 if heads else 0.05
    columns = max(len(images) for _, images in rows.values())
    figure = plt.figure(figsize=(left + CELL * columns + 0.8, top + CELL * len(rows)))
    for i, (head, colour) in enumerate(heads):
        write(figure, head, left + CELL * (i + 0.5) - GAP / 2, top - 0.06, fontsize=8, color=colour)
    for j, (label, (style, images)) in enumerate(rows.items()):
        y = top + CELL * j
        write(figure, label, left - 0.08, y + CELL / 2, fontsize=9, rotation=90, ha="right", va="center")
        for i, pixels in enumerate(images):
            show(figure, pixels, style, left + CELL * i, y)
    return figure


def scale_of(run: Run) -> Normalize:
    """The colour scale of all anomaly maps of a run: its test images', but for the highest thousandth of the tokens."""
    return Normalize(run.maps.min(), np.quantile(run.maps, 0.999))


def colour_bar(figure: Figure, scale: Normalize, left: float, top: float, height: float) -> None:
    """The colours of the anomaly maps."""
    axes = place(figure, left, top, 0.1, height)
    bar = figure.colorbar(ScalarMappable(scale, SCORES), cax=axes, extend="max", extendfrac=0.06)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("anomaly score", fontsize=8)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `name` as PNG and SVG, cut to what is drawn, and closes the figure."""
    for suffix in SUFFIXES:
        with written_atomically(folder / f"{name}.{suffix}") as path:
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(path, format=suffix, dpi=144, metadata=metadata, bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
