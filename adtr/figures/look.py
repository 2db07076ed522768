"""What all figures share: colours for the colour-blind and for grey prints, reproducible files."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from adtr.figures import SUFFIXES
from adtr.figures.category import Run
from adtr.files import written_atomically

NORMAL, ANOMALOUS = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion
PALETTE = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # theirs without the yellow
SCORES = "inferno"  # the colours of every anomaly map: brighter is more anomalous, in grey too
METRICS = {"image_auroc": "image AUROC, %", "pixel_auroc": "pixel AUROC, %"}
LOOK = {
    "grid.color": "0.9",
    "axes.edgecolor": "0.75",
    "legend.frameon": False,
    "svg.hashsalt": "adtr",  # with no date in it, the same bytes every time
}


def set_look() -> None:
    """The theme of every figure."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9, rc=LOOK)


def scale_of(run: Run) -> Normalize:
    """The colour scale of all anomaly maps of a run: its test images', but for the highest thousandth of the tokens."""
    return Normalize(run.maps.min(), np.quantile(run.maps, 0.999))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `name` as PNG and SVG, cut to what is drawn, and closes the figure."""
    for suffix in SUFFIXES:
        with written_atomically(folder / f"{name}.{suffix}") as path:
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(path, format=suffix, dpi=144, metadata=metadata, bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
