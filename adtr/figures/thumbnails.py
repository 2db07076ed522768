"""The gallery of a category on the report's page: test images, contours of their masks, every method's maps."""

import base64
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from contourpy import contour_generator
from PIL import Image

from adtr.data.images import read_mask, read_rgb
from adtr.figures.category import Category, Run
from adtr.figures.look import scale_of
from adtr.files import saved

SIDE = 256  # px of an image, if its input is not smaller
CONTOUR = 128  # px of the mask that a contour is drawn of
MOST = 32  # images


def thumbnails(category: Category) -> dict[str, Any]:
    """Test images and the first seed's maps of every method, as plain values for JSON.

    Keys: side; images: image, the first method's score, picture (WebP) and contour, a path in CONTOUR px, the most
    telling first; runs: title, grid, and maps, G·G bytes an image; no run without test images. Pictures and maps are
    in base64.
    """
    tested, side = category.tested(), min(SIDE, category.runs[0].size)
    if tested.empty:
        return {"side": side, "images": [], "runs": []}
    shown = tested.iloc[telling(tested, [run.scores.pred_score.to_numpy() for run in category.runs])[:MOST]]
    images = [
        {
            "image": row.image,
            "score": float(row.pred_score),
            "picture": webp(Image.fromarray(read_rgb(category.root, row.image, side, row.sha256)), quality=75),
            "contour": contour(read_mask(category.root, mask, CONTOUR, row.mask_sha256)) if mask else "",
        }
        for row, mask in zip(shown.itertuples(), shown["mask"], strict=True)
    ]
    return {"side": side, "images": images, "runs": [_maps(run, shown.index) for run in category.runs]}


def telling(tested: pd.DataFrame, scores: list[np.ndarray]) -> list[int]:
    """Places of all images, so that any number of the first ones tells most.

    In turn: one that most methods get wrong, by mean rank; an anomalous one, the kinds of defect and, in each, the
    ranks of the first method's scores as evenly as may be; a normal one. Before these the first method's extremes.

    Args:
        tested: the N test images with label and defect.
        scores: (N,) of each method.
    """
    ranks = pd.DataFrame(scores).rank(axis=1, pct=True).T.set_axis(tested.index)
    mean, first, anomalous = ranks.mean(axis=1), ranks[0], tested.label == 1
    hardest = (mean - anomalous).abs().sort_values(ascending=False, kind="stable").index
    by_rank = first.sort_values(kind="stable").index
    kinds = [by_rank[tested.defect[by_rank] == kind] for kind in sorted(set(tested.defect[anomalous]))]
    defects = [i for turn in zip_longest(*(list(_middles(kind)) for kind in kinds)) for i in turn if i is not None]
    normal = by_rank[~anomalous[by_rank]]
    wrong = [*by_rank[anomalous[by_rank]][:1], *normal[-1:], *by_rank[anomalous[by_rank]][-1:]]
    turns = zip_longest(hardest, defects, _middles(normal))
    order = [*wrong, *(i for turn in turns for i in turn if i is not None)]
    return [tested.index.get_loc(i) for i in dict.fromkeys(order)]


def _middles(ranked: Iterable[int]) -> Iterator[int]:
    """The middle, then the middles of both halves, and so on."""
    parts = [list(ranked)]
    for part in parts:
        if part:
            middle = len(part) // 2
            yield part[middle]
            parts += [part[:middle], part[middle + 1 :]]


def contour(mask: np.ndarray) -> str:
    """The outline of a mask (S, S) bool as an SVG path, to a pixel."""
    lines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    path = []
    for line in lines:
        points = np.asarray(line).round().astype(int) - 1
        kept = np.r_[True, (np.diff(points, axis=0) != 0).any(axis=1)]
        points = points[kept]
        turns = np.diff(np.diff(points, axis=0), axis=0).any(axis=1)  # straight on, a point says nothing
        points = points[np.r_[True, turns, True]] if len(points) > 2 else points
        path.append("M" + "L".join(f"{x} {y}" for x, y in points) + "Z")
    return "".join(path)


def _maps(run: Run, shown: pd.Index) -> dict[str, Any]:
    scale = scale_of(run)
    low, high = float(scale.vmin or 0), float(scale.vmax or 0)
    levels = np.clip((run.maps[shown] - low) / max(high - low, 1e-12), 0, 1) * 255
    maps = base64_of(levels.round().astype(np.uint8).tobytes())
    return {"title": run.title, "grid": run.maps.shape[-1], "maps": maps}


def webp(image: Image.Image, quality: int) -> str:
    """An image as WebP in base64."""
    return base64_of(saved(lambda file: image.save(file, "WEBP", quality=quality, method=6)))


def base64_of(raw: bytes) -> str:
    """Bytes as text for JSON or a data URI."""
    return base64.b64encode(raw).decode()
