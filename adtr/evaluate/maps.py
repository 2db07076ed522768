"""From anomaly maps to scores of images.

Shapes: N images, G side of the feature grid in tokens, S side of the input in px.
"""

import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from adtr.config.schema import Score


def upsampled(maps: np.ndarray, size: int) -> np.ndarray:
    """Anomaly maps (N, G, G) to (N, S, S) float32, bilinear as in UniAD."""
    tensor = torch.from_numpy(maps)[:, None]
    return F.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=True)[:, 0].numpy()


def image_scores(maps: np.ndarray, size: int, pooling: int) -> pd.DataFrame:
    """Maximum and mean of each averagely pooled map (N, G, G) (Sec. 3.1): columns max and mean, N rows.

    It is resized to `size` px first; the kernel is `pooling` grid strides of S / G px, its stride 1.
    """
    kernel = min(size, pooling * size // maps.shape[-1])
    scores = []
    for batch in np.array_split(maps, math.ceil(len(maps) / 64)):
        images = torch.from_numpy(upsampled(batch, size))[None]  # as channels: four times as fast, the same bits
        images = images.contiguous(memory_format=torch.channels_last)
        pooled = F.avg_pool2d(images, kernel, stride=1)[0].contiguous().flatten(1)
        scores.append(torch.stack([pooled.amax(1), pooled.mean(1)], dim=1))
    return pd.DataFrame(torch.cat(scores).numpy(), columns=["max", "mean"])


def score(
    maps: np.ndarray, images: pd.DataFrame, size: int, params: Score, own: np.ndarray | None = None
) -> pd.DataFrame:
    """The table of scores, a row an image: what it is, `pred_score`, and the score by maximum and by mean.

    Args:
        maps: (N, G, G), in the order of `images`, rows of the manifest.
        own: (N,), the scores of a method that does not take them from its map.
    """
    scores = image_scores(maps, size, params.pooling)
    table = images[["image", "label", "split", "defect"]].reset_index(drop=True)
    predicted = scores[params.image_score] if own is None else own
    return table.assign(pred_score=predicted, score_max=scores["max"], score_mean=scores["mean"])
