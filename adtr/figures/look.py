"""What all figures share: colours that the colour-blind and a grey print tell apart, and files of the same bytes."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adtr.figures import SUFFIXES
from adtr.files import written_atomically

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
PALETTE = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # theirs but for the yellow
DASHES = ["-", "--", "-.", ":"]
MARKERS = "os^DvP*X<>"
SCORES = "inferno"  # the colours of every anomaly map: brighter is more anomalous, in grey too
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
    return {
        "color": PALETTE[i % len(PALETTE)],
        "linestyle": DASHES[i % len(DASHES)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 4,
        "lw": 1.5,
    }


def sparse(i: int) -> tuple[float, float]:
    """Where a curve of many points has its markers, in parts of the axes' diagonal; curves that lie close alternate."""
    return (0.02 + 0.017 * (i % len(MARKERS)), 0.18)


def legend(axes: Axes, **options: Any) -> None:
    """A legend to the right of the axes, where it covers no curve."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), handlelength=3, **options)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the upper left: a layout engine would not give the same bytes every time."""
    total, tall = figure.get_size_inches()
    return figure.add_axes((left / total, 1 - (top + height) / tall, width / total, height / tall))


def write(figure: Figure, text: str, x: float, y: float, **style: Any) -> None:
    """Text whose middle stands x inches from the left, its foot y inches from the top."""
    total, tall = figure.get_size_inches()
    figure.text(x / total, 1 - y / tall, text, **{"ha": "center"} | style)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `name` as PNG and SVG, cut to what is drawn, and closes the figure."""
    for suffix in SUFFIXES:
        with written_atomically(folder / f"{name}.{suffix}") as path:
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(path, format=suffix, dpi=144, metadata=metadata, bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
