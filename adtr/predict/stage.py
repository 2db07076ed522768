"""Prediction from the command line: a run and image files in, a table, overlays and maps out."""

import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from adtr.config.paths import RESULTS
from adtr.data.findings import shown
from adtr.errors import UserError
from adtr.files import saved, write_bytes, write_text
from adtr.predict.detector import NO_THRESHOLD, Detector, Prediction, Region
from adtr.predict.names import cell, file_names, images_of
from adtr.predict.overlay import overlay

logger = logging.getLogger(__name__)

REGION = ["left", "top", "right", "bottom", "area"]  # of the largest region, px
COLUMNS = ["file", "pred_score", "threshold", "pred_label", "peak_x", "peak_y", "pixel_threshold"]
COLUMNS += [*(f"region_{name}" for name in REGION), "milliseconds", "overlay"]
WIDE = 0.5  # of an image; a larger region says little of where the defect is


def find_run(name: str, study: str | None) -> Path:
    """The folder of a run: `name` is that, or DATASET/EXPERIMENT/CATEGORY/SEED of a study.

    Raises:
        UserError: there is no run.
    """
    folder = RESULTS / study / "runs" / name if study and name.count("/") == 3 else Path(name)
    if not (folder / "run.json").is_file():
        advice = "" if study else "; or DATASET/EXPERIMENT/CATEGORY/SEED with --study"
        raise UserError(f"{folder}: no run is there: name its folder, which holds run.json{advice}")
    return folder


def predict(
    detector: Detector, words: Iterable[str], output: Path, listed: bytes = b"", maps: bool = False
) -> tuple[str, int]:
    """Scores images and writes predictions.csv, overlays/NAME.png and, if asked, maps/NAME.npy below `output`.

    predictions.csv has a row for each image that could be read: COLUMNS. The others are named in the log. After an
    interrupt it has the images that were scored until then.

    Args:
        words, listed: as of `names.images_of`.
        maps: whether to write the maps (H, W) float32 as well.

    Returns:
        A summary as text, and how many images were skipped.

    Raises:
        UserError: no image is named, or the disk is full.
    """
    paths, notes = images_of(words, listed, [output / "overlays", output / "maps"])
    for note in notes:
        logger.info("%s", note)
    names, began, regions = file_names(paths), time.monotonic(), dict[int, Region | None]()

    def write(place: int, image: Image.Image, prediction: Prediction) -> None:
        picture = overlay(image, prediction.token_map, detector.scale_of(prediction), prediction.pixel_threshold)
        content = saved(lambda file: picture.save(file, "PNG", compress_level=1))
        write_bytes(output / "overlays" / f"{names[place]}.png", content)
        if maps:
            content = saved(lambda file: np.save(file, prediction.anomaly_map))
            write_bytes(output / "maps" / f"{names[place]}.npy", content)
        regions[place] = prediction.largest_region

    rows, pixels = [], []
    try:
        with logging_redirect_tqdm():
            found = tqdm(detector.stream(paths, write), total=len(paths), unit="image", disable=None)
            for place, prediction in enumerate(found):
                if isinstance(prediction, UserError):
                    logger.warning("skipped %s", prediction)
                else:
                    values = _values(prediction, regions[place])
                    rows.append([cell(paths[place]), *values, f"overlays/{names[place]}.png"])
                    pixels.append(math.prod(prediction.size))
    except KeyboardInterrupt:
        if rows:
            _write(output, rows)
            logger.warning("interrupted: %d of %d images are in predictions.csv", len(rows), len(paths))
        raise
    table = _write(output, rows)
    share = (pd.to_numeric(table.region_area) / pixels).median()  # NaN without a region
    if share > WIDE:
        logger.warning(
            "the largest regions cover %.0f %% of their images (median): peak_x and peak_y say where the map is "
            "highest; a larger features.image_size makes regions smaller",
            100 * share,
        )
    return _summary(detector, table, len(paths) - len(table), time.monotonic() - began, output), len(paths) - len(table)


def _write(output: Path, rows: list[list[Any]]) -> pd.DataFrame:
    digits = dict.fromkeys(["pred_score", "threshold", "pixel_threshold"], np.float32)  # as many as they have
    table = pd.DataFrame(rows, columns=COLUMNS).astype(digits)
    write_text(output / "predictions.csv", table.to_csv(index=False))
    return table


def _values(prediction: Prediction, region: Region | None) -> list[Any]:
    """The row of a prediction, without the names of files."""
    label = None if prediction.pred_label is None else int(prediction.pred_label)
    values = [prediction.pred_score, prediction.threshold, label, *prediction.peak, prediction.pixel_threshold]
    return [*values, *(region or [""] * len(REGION)), round(prediction.milliseconds, 2)]


def _summary(detector: Detector, table: pd.DataFrame, skipped: int, seconds: float, output: Path) -> str:
    lines = [f"{len(table)} images scored in {seconds:.1f} s ({len(table) / seconds:.1f} images/s), {skipped} skipped"]
    if detector.threshold is None:
        lines.append(f"no threshold: this run {NO_THRESHOLD}")
    else:
        anomalous, rate, source = int((table.pred_label == 1).sum()), detector.false_alarms, "as given"
        if rate is not None:
            source = f"for at most {100 * rate:g} % false alarms, from {detector.calibrated_on} normal images"
        counts = f"{anomalous} anomalous, {len(table) - anomalous} normal"
        lines.append(f"{counts}: threshold {detector.threshold:.6g}, {source}")
    return "\n".join([*lines, f"written to {shown(output)}: predictions.csv and overlays/"])
