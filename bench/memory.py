"""Peak memory of a training on one category of MVTec's size, in a process of its own, beside the size of its features.

Features are random: 240 images, 256 tokens, 720 channels (88 MB in float16).
    python bench/memory.py
"""

import argparse
import multiprocessing
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from measure import machine, paper

from adtr.features.select import data_digest
from adtr.features.store import write_store
from adtr.train.stage import train


def _train(folder: Path, manifest: pd.DataFrame, precision: str) -> None:
    params = paper(weights="random")
    params = params.model_copy(
        update={"train": params.train.model_copy(update={"epochs": 2, "snapshots": 0, "precision": precision})}
    )
    train(manifest, {"x": folder / "x.npy"}, params, 0, folder / "run", folder / "state")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # of getrusage a parent's is part
    (folder / "peak").write_text(peak[1] if peak else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    rows = [(f"{i}.png", f"{i:064}", "train", "x", 0, "", "", "") for i in range(options.images)]
    columns = ["image", "sha256", "split", "part", "label", "defect", "mask", "mask_sha256"]
    manifest = pd.DataFrame(rows, columns=columns)
    features = np.random.default_rng(0).standard_normal((options.images, 256, 720), np.float32).astype(np.float16)
    asked = paper(weights="random").features.model_dump(mode="json")
    with tempfile.TemporaryDirectory() as name:
        made = {"features": asked, "data": data_digest(manifest), "weights": "random", "code": ""}
        write_store(Path(name) / "x.npy", [features], made)
        child = multiprocessing.get_context("spawn").Process(
            target=_train, args=(Path(name), manifest, options.precision)
        )
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit("the training failed")
        peak = int((Path(name) / "peak").read_text())
    print(f"{machine()}, precision {options.precision}")
    print(f"features {features.nbytes / 2**20:.0f} MB, peak of the process {peak / 2**10:.0f} MB")


if __name__ == "__main__":
    main()
