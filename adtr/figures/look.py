"""What all figures share: colours for the colour-blind and for grey prints, reproducible files."""

import logging
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from adtr.figures import SUFFIXES
from adtr.figures.category import Run
from adtr.files import written_atomically

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it names each table of each font that it puts into a PDF

NORMAL, ANOMALOUS = "#6F7F8F", "#B0305C"  # of no experiment: those have theirs of adtr/tables/colours.py
INK, SOFT, LINE, HAIR, PAPER = "#262626", "#737373", "#bfbfbf", "#e6e6e6", "#ffffff"  # the page's own in its place
DASHES, MARKERS = ["-", "--", "-.", ":"], "os^DvP*X<>"
OTHERS = "other experiments"  # those in grey, in a legend
SCORES = "inferno"  # the colours of every anomaly map: brighter is more anomalous, in grey too
METRICS = {"image_auroc": "image AUROC, %", "pixel_auroc": "pixel AUROC, %"}
LOOK = {
    "grid.color": HAIR,
    "axes.edgecolor": LINE,
    **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], INK),
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.hashsalt": "adtr",  # with no date in it, the same bytes every time
    "svg.fonttype": "none",  # text is text
    "pdf.fonttype": 42,  # TrueType, as publishers ask for
}

# Fonts of other scripts, asked for letters that the theme's own does not have
SCRIPTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "IPAexGothic", "Noto Sans", "Unifont")


def set_look() -> None:
    """The theme of every figure."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9, rc=LOOK)
    installed = {font.name for font in fontManager.ttflist}
    plt.rcParams["font.family"] = ["sans-serif", *(name for name in SCRIPTS if name in installed)]


def scale_of(run: Run) -> Normalize:
    """The colour scale of all anomaly maps of a run: its test images', but for the highest thousandth of the tokens."""
    if not run.maps.size:  # no test images
        return Normalize(0, 1)
    return Normalize(run.maps.min(), np.quantile(run.maps, 0.999))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `name` as PNG of twice the size on a screen, SVG and PDF, cut to what is drawn, and closes the figure."""
    figure.draw_without_rendering()  # puts everything in its place
    drawn = figure.get_tightbbox().padded(0.06)
    for suffix in SUFFIXES:
        with written_atomically(folder / f"{name}.{suffix}") as path:
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
            figure.savefig(path, format=suffix, dpi=192, metadata=metadata, bbox_inches=drawn)
    plt.close(figure)
