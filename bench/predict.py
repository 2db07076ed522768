"""New images with a finished run, PyTorch beside ONNX Runtime: one image, a folder, the start, memory.

    python bench/predict.py results/demo/runs/elpv/adtr/mono/0

Images are in memory, as files. All sides have one thread and take turns; times are medians
of the processor's, which other programs move less than the clock's. `backbone` is its forward pass alone, and
`extraction` what `adtr features` does: read, resize, backbone.
"""

import argparse
import io
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from measure import machine, seconds
from PIL import Image

from adtr.data.images import as_rgb
from adtr.features.extract import batch_size, normalized, tokens_of
from adtr.files import saved
from adtr.predict.detector import Detector, Prediction, open_image
from adtr.predict.export import export, own_images
from adtr.predict.overlay import overlay

PYTORCH = "from adtr import Detector; print(Detector.load({run!r}).predict({image!r})[0].pred_score)"
ONNX = """
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession({onnx!r})
image = Image.open({image!r}).convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
print(session.run(["pred_score"], {{"image": np.asarray(image)[None]}})[0])
"""
USED = """
import time
from pathlib import Path
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(time.process_time(), int(peak.split()[1]) / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", nargs="+", help="others than some of the run's test images")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    detector = Detector.load(options.run, threads=1)
    features, pictures = (
        detector.params.features,
        [open_image(image) for image in options.images or own_images(options.run)],
    )
    if detector.backbone is None:
        parser.error("a run with a backbone is needed, not one of pixels")
    files = [saved(partial(picture.save, format="PNG")) for picture in pictures]
    print(f"{machine()}; {detector.params.method}, {features.backbone}, {features.image_size} px")
    print(f"{len(files)} images of {pictures[0].width}x{pictures[0].height} px")
    with TemporaryDirectory() as folder:
        onnx, image = Path(folder, "run.onnx"), Path(folder, "image.png")
        image.write_bytes(files[0])
        print(f"ONNX file: differences from PyTorch: {export(detector, onnx, pictures)}")
        inference(detector, files, onnx, options.rounds)
        starts({"run": str(options.run), "image": str(image), "onnx": str(onnx), "size": features.image_size})


def inference(detector: Detector, files: list[bytes], onnx: Path, rounds: int) -> None:
    """Prints times of an image alone, and rates of a folder."""
    features, backbone = detector.params.features, detector.backbone
    assert backbone is not None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, settings, providers=["CPUExecutionProvider"])
    torch.set_num_threads(1)

    def read(these: list[bytes]) -> np.ndarray:
        return np.stack([as_rgb(Image.open(io.BytesIO(file)), features.image_size) for file in these])

    def picture(_place: int, image: Image.Image, found: Prediction) -> None:
        drawn = overlay(image, found.token_map, detector.scale_of(found), found.pixel_threshold)
        saved(lambda file: drawn.save(file, "PNG", compress_level=1))

    def opened(these: list[bytes]) -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)) for file in these]

    def extraction() -> None:
        step = batch_size(features.image_size)
        for start in range(0, len(files), step):
            tokens_of(read(files[start : start + step]), backbone, features, "cpu")

    @torch.inference_mode()
    def forward() -> None:
        backbone(batch)

    batch = normalized(read(files[:1]))
    one = seconds(
        {
            "backbone": forward,
            "extraction": lambda: tokens_of(read(files[:1]), backbone, features, "cpu"),
            "PyTorch, score and map": lambda: detector.predict(opened(files[:1])),
            "PyTorch, with overlay": lambda: list(detector.stream(opened(files[:1]), picture)),
            "ONNX Runtime, score and map": lambda: session.run(None, {"image": read(files[:1])}),
        },
        rounds,
        time.process_time,
    )
    print("\none image, ms of the processor")
    for name, taken in one.items():
        print(f"  {name:28} {1000 * taken:7.1f}   {taken / one['backbone']:.2f} of the backbone's")
    folder = seconds(
        {
            "extraction": extraction,
            "PyTorch, scores and maps": lambda: detector.predict(opened(files)),
            "PyTorch, with overlays": lambda: list(detector.stream(opened(files), picture)),
            "ONNX Runtime, scores and maps": lambda: session.run(None, {"image": read(files)}),
        },
        max(3, rounds // 4),
        time.process_time,
    )
    print("\na folder, images/s of a core")
    for name, taken in folder.items():
        print(f"  {name:30} {len(files) / taken:7.1f}   {100 * folder['extraction'] / taken:.0f} % of extraction's")


def starts(names: dict[str, object], rounds: int = 5) -> None:
    """Prints the time from the start of a process to its first score, and its largest memory."""
    print("\nstart to first score, s of the processor; largest memory")
    for name, code in (("PyTorch", PYTORCH), ("ONNX Runtime", ONNX)):
        command = [sys.executable, "-c", f"{code.format(**names)}\n{USED}"]
        done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(rounds)]
        processor, memory = np.median([[float(word) for word in d.stdout.split()[-2:]] for d in done], axis=0)
        print(f"  {name:30} {processor:.2f}   {memory:.0f} MB")


if __name__ == "__main__":
    main()
