"""What decides the numbers of a run: the method, its anomalies, its threads.

Shapes: N normal images, M anomalous ones, G side of the feature grid in tokens, C channels.
"""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch

from adtr.config.methods import Params
from adtr.data.images import anomalous_tokens, verified_mask
from adtr.errors import UserError
from adtr.train.context import Anomalies, Context, Fitted


def method_of(params: Params) -> ModuleType:
    """The module of adtr/methods that the parameters name.

    Raises:
        UserError: there is none.
    """
    try:
        return importlib.import_module(f"adtr.methods.{params.method}")
    except ModuleNotFoundError as error:
        if error.name != f"adtr.methods.{params.method}":
            raise
        raise UserError(f"method: there is no {params.method}.py in adtr/methods") from None


def fit(features: np.ndarray, params: Params, context: Context) -> Fitted:
    """Fits the method to the features (N, G·G, C) float16 of normal images.

    Raises:
        UserError: the method failed in a way the user can mend.
    """
    if "train" in params.method_sections():
        torch.set_num_threads(params.train.threads)
    fitted: Fitted = method_of(params).fit(features, params, context)
    return fitted


def anomalies_of(features: np.ndarray, manifest: pd.DataFrame, root: Path, params: Params) -> Anomalies:
    """Anomalous images and which of their tokens are anomalous: all, where there is no mask.

    Args:
        features: (M, G·G, C) float16.
        manifest: their M rows.
        root: the folder of their masks.

    Raises:
        UserError: a mask is missing or has changed.
    """
    size, grid = params.features.image_size, params.features.grid_size
    tokens = [
        anomalous_tokens(verified_mask(root, reference, digest, size), grid) if reference else np.full(grid**2, True)
        for reference, digest in zip(manifest["mask"], manifest.mask_sha256, strict=True)
    ]
    return Anomalies(features, torch.from_numpy(np.stack(tokens)))
