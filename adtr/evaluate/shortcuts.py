"""How far scores that know nothing of defects get: brightness, contrast, sharpness, the size of the file.

Where one of them ranks a test set, a method that reacts to it is right, or wrong, for nothing: a shortcut (Geirhos et
al., Nature Machine Intelligence 2, 2020). Where normal test images differ in it from training images, a distance from
these measures that, too.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage, stats

from adtr import provenance, records
from adtr.data.images import raw_bytes, read_rgb
from adtr.evaluate import bootstrap
from adtr.evaluate.metrics import UndefinedMetric, auroc

SCORES = ["brightness", "contrast", "sharpness", "file size"]
FAR, CHANCE = 90, 0.001  # AUROC in per cent from which on, and below 100 less that, a warning; and its largest p-value
SHIFT, STANDARD_ERRORS = 2, 4  # a warning beyond so many standard deviations and, of few images, standard errors
RANKED = "test images that a score without knowledge of defects ranks, as AUROC in per cent"
SHIFTED = "normal test images that differ from training images, in standard deviations of these"


def measure(manifest: pd.DataFrame, root: Path, category: str) -> pd.DataFrame:
    """How well each score ranks the test images of a category, and how far the normal ones are from training images.

    Columns: score; auroc in per cent, above 50 where anomalous images have more of it, and its 95 % interval, low and
    high; p_value of random scores being as far from 50 (Mann & Whitney); shift, the mean of the normal test images less
    that of the training images, in standard deviations of these; distance, the AUROC of how far an image is from the
    training images' mean, either way; train, normal, anomalous: numbers of images. NaN where there is nothing to
    compare, as with the file size of CIFAR's rows.
    """
    images = manifest[manifest.split.isin(["train", "test"])].reset_index(drop=True)
    rows = [simple_scores(root, row.image, row.sha256) for row in images.itertuples()]
    values, test = pd.DataFrame(rows, columns=SCORES, dtype=float), images.split == "test"
    normal, anomalous = (test & (images.label == label) for label in (0, 1))
    weights = bootstrap.weights(images[test].assign(category=category)) if test.any() else pd.DataFrame()
    label, found = (images.label[test] == 1).to_numpy(), []
    counts = {"train": (~test).sum(), "normal": normal.sum(), "anomalous": anomalous.sum()}
    for name, score in values.items():
        train, classes = score[~test], [score[of].to_numpy() for of in (normal, anomalous)]
        try:
            value, distance = (100 * auroc(label, of[test].to_numpy()) for of in (score, (score - train.mean()).abs()))
        except UndefinedMetric:
            value, low, high, p_value, distance = [math.nan] * 5
        else:
            drawn = (weights.loc[images.image[of]].to_numpy() for of in (normal, anomalous))
            freedom = max(min(map(len, classes)) - 1, 1)
            low, high = bootstrap.interval(value, 100 * bootstrap.auroc(*classes, *drawn), freedom)
            p_value = float(stats.mannwhitneyu(*classes).pvalue)
        shift = (score[normal].mean() - train.mean()) / train.std() if train.std() > 0 else math.nan
        row = {"score": name, "auroc": value, "low": low, "high": high, "p_value": p_value}
        found.append(row | {"shift": shift, "distance": distance})
    return pd.DataFrame(found).assign(**counts)


def simple_scores(root: Path, reference: str, digest: str = "") -> list[float]:
    """SCORES of an image: mean and standard deviation of its grey values, variance of their Laplacian, bytes.

    Grey is ITU-R 601's luma, 0 to 255, at the stored resolution; the Laplacian as a measure of focus is Pech-Pacheco
    et al.'s (ICPR 2000). Errors as of `read_rgb`.
    """
    grey = np.asarray(Image.fromarray(read_rgb(root, reference, digest=digest)).convert("L"), np.float32)
    laplacian = ndimage.laplace(grey)
    return [*(float(of) for of in (grey.mean(), grey.std(), laplacian.var())), len(raw_bytes(root, reference))]


def warnings(measured: pd.DataFrame) -> dict[str, list[str]]:
    """What a user should know of before any method's numbers, by kind, as `findings.sentences` takes it."""
    far = (measured.auroc - 50).abs() >= FAR - 50
    ranked = measured[far & (measured.p_value < CHANCE)]
    shifted = measured[measured["shift"].abs() > np.maximum(SHIFT, STANDARD_ERRORS / np.sqrt(measured.normal))]
    found = {
        RANKED: [f"{row.score} {row.auroc:.1f}" for row in ranked.itertuples()],
        SHIFTED: [f"{row.score} {row.shift:+.1f}".replace("-", "−") for row in shifted.itertuples()],
    }
    return {what: texts for what, texts in found.items() if texts}


def write(path: Path, measured: pd.DataFrame) -> None:
    """Writes what was measured as CSV, and beside it its record with the warnings."""
    made: Mapping[str, object] = {"warnings": warnings(measured), "code": provenance.code("shortcuts")}
    records.write(path.with_suffix(".json"), made, {path.name: measured.to_csv(index=False).encode()})
