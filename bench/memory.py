"""Peak memory of `adtr train` on one category of MVTec's size, beside the size of its features.

Features are random: 240 images, 256 tokens, 720 channels (88 MB in float16).
    python bench/memory.py
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from measure import machine, paper

from adtr.features.select import data_digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, shape = Path(name), (options.images, 256, 720)
        rows = [(f"{i}.png", f"{i:064}", "train", "x", 0, "", "", "") for i in range(options.images)]
        columns = ["image", "sha256", "split", "part", "label", "defect", "mask", "mask_sha256"]
        manifest = pd.DataFrame(rows, columns=columns)
        manifest.to_csv(folder / "x.csv", index=False)
        features = np.random.default_rng(0).standard_normal(shape, np.float32).astype(np.float16)
        np.save(folder / "x.npy", features)
        asked = paper(weights="random").features.model_dump(mode="json")
        made = {"shape": shape, "features": asked, "data": data_digest(manifest), "weights": "random", "code": ""}
        (folder / "x.json").write_text(json.dumps(made))
        words = ["adtr", "train", "--manifest", "x.csv", "--features", "x.npy", "--device", "cpu"]
        words = [str(folder / word) if word.startswith("x.") else word for word in words]
        words += ["--epochs", "2", "--precision", options.precision, "--snapshots", "0"]
        words += ["--state", str(folder / "state"), "--output", str(folder / "run")]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the training failed")
    print(f"{machine()}, precision {options.precision}")
    print(f"features {features.nbytes / 2**20:.0f} MB, peak of the process {usage.ru_maxrss / 2**10:.0f} MB")


if __name__ == "__main__":
    main()
