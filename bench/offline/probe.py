"""Epochs in the training loop itself, what saving its state costs, whether bytes repeat, where a step's time goes.

Features are random, of the size of a category of MVTec-AD.
    python bench/offline/probe.py [--device cpu] [--tiny]
"""

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import profile

from adtr.config import PARAMS
from adtr.config.methods import Params
from adtr.config.reader import read_yaml
from adtr.methods import adtr
from adtr.train.context import Context, Fitted

TINY = {"width": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 4, "ffn_width": 64}
NEVER = 1000  # minutes between two states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny network and few features")
    options = parser.parse_args()
    device, tiny = options.device, options.tiny
    torch.backends.cudnn.allow_tf32 = False  # as `adtr` does
    images, tokens, channels = (32, 16, 64) if tiny else (320, 256, 512)
    features = np.random.default_rng(0).standard_normal((images, tokens, channels), np.float32).astype(np.float16)

    def fitted(epochs: int, **train: Any) -> tuple[Fitted, float]:
        """A training, and its seconds."""
        default = read_yaml(PARAMS / "default.yaml")
        default["model"] |= TINY if tiny else {}
        default["train"] |= {"epochs": epochs} | train
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as state:
            trained = adtr.fit(features, Params.model_validate(default), Context(0, device, Path(state)))
            return trained, time.perf_counter() - began

    few, many = (1, 3) if tiny else (5, 15)
    fitted(1)  # the start of the device counts nowhere
    for precision, capture in product(("bfloat16", "float32"), (False, True)[: 1 if device == "cpu" else 2]):
        train, side = (
            {"precision": precision, "capture": capture},
            f"{precision} {'recorded' if capture else 'launched'}",
        )
        for minutes, saved in ((NEVER, "at the end"), (0, "after each")):
            short, long = (fitted(epochs, save_minutes=minutes, **train)[1] for epochs in (few, many))
            each = 1000 * (long - short) / (many - few)
            print(f"{side}, saved {saved}: {each:8.1f} ms an epoch of {images} images")
        a, b = (fitted(few, **train)[0] for _ in range(2))
        worst = max((a.state[name].float() - b.state[name].float()).abs().max().item() for name in a.state)
        print(f"{side}, trained twice: largest difference of a weight {worst:.3g}", flush=True)
    with profile() as profiled:
        fitted(2, save_minutes=NEVER, precision="bfloat16")
    key = f"self_{'cpu' if device == 'cpu' else 'cuda'}_time_total"
    print(profiled.key_averages().table(sort_by=key, row_limit=35, max_name_column_width=70))


if __name__ == "__main__":
    main()
