"""One image from its file to its anomaly map, all cores, batch 1: torch's own layers, against ours. Both in float32.

python bench/latency.py --backbone efficientnet_b4
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import plain
import torch
from measure import machine, paper, seconds
from PIL import Image

from adtr.data.images import read_rgb
from adtr.evaluate.measure import upsampled
from adtr.features.backbones import build
from adtr.features.extract import normalized, tokens_of
from adtr.methods.adtr import differences
from adtr.model.transformer import ADTR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="efficientnet_b4")
    parser.add_argument("--side", type=int, default=300, help="of the image in its file, px [300]")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    params = paper(backbone=options.backbone, weights="random")
    size, grid = params.features.image_size, params.features.grid_size
    network = plain.backbone(options.backbone, size)
    backbone = build(params.features, None)
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (options.side, options.side, 3), np.uint8)
        Image.fromarray(pixels).save(f"{folder}/x.png")
        channels = tokens_of(pixels[None, :size, :size], backbone, params.features, "cpu").shape[2]
        theirs, ours = plain.Transformer(grid**2, channels), ADTR(grid**2, channels)
        theirs.eval(), ours.eval()

        @torch.inference_mode()
        def their_map() -> None:
            image = Image.open(f"{folder}/x.png").convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            f = plain.features_of(network, normalized(np.array(image)[None]), params.features)
            upsampled((f - theirs(f)).norm(dim=-1).unflatten(1, (grid, grid)).numpy(), size)

        @torch.inference_mode()
        def our_map() -> None:
            f = tokens_of(read_rgb(Path(folder), "x.png", size)[None], backbone, params.features, "cpu")
            upsampled(differences(ours, f).norm(dim=-1).unflatten(1, (grid, grid)).numpy(), size)

        median = seconds({"plain": their_map, "ours": our_map}, options.rounds)
    print(f"{machine()}, {options.backbone}, {size} px")
    ratio = median["plain"] / median["ours"]
    print(f"plain {1000 * median['plain']:.0f} ms, ours {1000 * median['ours']:.0f} ms, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
