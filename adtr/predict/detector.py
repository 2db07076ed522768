"""A trained run that scores new images, to be used from Python.

Shapes: H, W sides of an image as it is, S side of the square input in px, G side of the feature grid in tokens.
"""

import io
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage
from torch import Tensor

from adtr import provenance
from adtr.config.methods import Params
from adtr.data.findings import check_format, shown
from adtr.data.images import as_rgb, decode_file, eight_bit
from adtr.device import device_of
from adtr.errors import UserError
from adtr.evaluate import conformal
from adtr.evaluate.measure import LEAST, colour_scale, image_scores, raw_scores, upsampled
from adtr.features.backbones import Backbone, build
from adtr.features.extract import batch_size, tokens_of
from adtr.features.weights import weights_like
from adtr.files import content_of
from adtr.records import Record
from adtr.train.context import method_of
from adtr.train.run import read_model

logger = logging.getLogger(__name__)
Picture = str | os.PathLike[str] | Image.Image | np.ndarray  # an array is RGB (H, W, 3) uint8
ROOM = 100_000_000  # px of images that stay in memory, of each thread; beyond, each is read again for its overlay
Region = tuple[int, int, int, int, int]  # left, top, right, bottom (the last two beyond the region), area, all in px
NO_THRESHOLD = (
    "held out no images to set a threshold by, so scores have no labels: train it with threshold.calibration 0.2 "
    "(in `set` of its study, or --set 'threshold.calibration=0.2'), docs/thresholds.md"
)


@dataclass(frozen=True)
class Prediction:
    """What a detector finds in an image.

    Attributes:
        pred_score: the image's score; higher is more anomalous.
        threshold: an image above it is called anomalous; None where the run held out no calibration images.
        pred_label: True if it is, False if not, None without a threshold.
        token_map: (G, G) float32, the anomaly map on the feature grid.
        size: (H, W) of the image.
        pixel_threshold: the same for the pixels of the map, or None.
        milliseconds: from file to scores and overlay, on one core; the mean of the images of its batch.
    """

    pred_score: float
    threshold: float | None
    pred_label: bool | None
    token_map: np.ndarray
    size: tuple[int, int]
    pixel_threshold: float | None
    milliseconds: float = 0.0

    @property
    def anomaly_map(self) -> np.ndarray:
        """(H, W) float32, at the image's own size, computed each time."""
        map_: np.ndarray = upsampled(self.token_map[None], self.size)[0]
        return map_

    @property
    def pred_mask(self) -> np.ndarray | None:
        """(H, W) bool, true where the map is above the pixel threshold; None without one."""
        return None if self.pixel_threshold is None else self.anomaly_map > self.pixel_threshold

    @property
    def peak(self) -> tuple[int, int]:
        """Where the map is highest: x, y in px of the image, from its upper left corner."""
        places = np.unravel_index(int(self.token_map.argmax()), self.token_map.shape)
        steps = [(side - 1) / max(grid - 1, 1) for side, grid in zip(self.size, self.token_map.shape, strict=True)]
        y, x = (round(place * step) for place, step in zip(places, steps, strict=True))  # corners on corners
        return x, y

    @property
    def largest_region(self) -> Region | None:
        """The largest region of `pred_mask`, of pixels that touch by a side or a corner; None if there is none."""
        mask = self.pred_mask
        if mask is None or not mask.any():
            return None
        labels, _ = ndimage.label(mask, np.ones((3, 3)))
        areas = np.bincount(labels.ravel())[1:]
        rows, columns = ndimage.find_objects(labels)[int(areas.argmax())]
        return columns.start, rows.start, columns.stop, rows.stop, int(areas.max())


Then = Callable[[int, Image.Image, Prediction], None]


@dataclass(eq=False, repr=False)
class Detector:
    """A trained run that scores images. Several threads may call it at once, and it can be pickled.

    It needs the run's folder and the weights of its backbone, no checkout and no training data. An image's scores are
    those that evaluation gives it, to the bit on the same machine in float32, whatever other images come with it.

    Attributes:
        params: those that the run was trained and evaluated with; of the methods, its own section.
        threshold, pixel_threshold: of an image's score and of its map, or None.
        false_alarms: the rate that they are for: at most this share of normal images is called anomalous; None where
            the image's threshold was given.
        calibrated_on: how many images they rest on.
        scale: values of the map that have the lowest and the highest colour: of the test images' the median, and the
            highest but for a thousandth; without test images, of the normal images that set the threshold.
        normals_only: whether there were no test images; `scale_of` then stretches the scale to a map's highest value.
        made_of: sha256 of the model, of the backbone's weights and of the training images, and the digests of the code.
    """

    params: Params
    state: dict[str, Tensor]
    backbone: Backbone | None
    device: str
    threads: int
    made_of: dict[str, str]
    scale: tuple[float, float]
    normals_only: bool
    calibrated_on: int
    threshold: float | None = None
    pixel_threshold: float | None = None
    false_alarms: float | None = None

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        weights: str | os.PathLike[str] | None = None,
        false_alarms: float | None = None,
        device: str = "cpu",
        threads: int | None = None,
        threshold: float | None = None,
    ) -> "Detector":
        """Reads a run.

        On a CPU PyTorch computes with one thread from then on: images are what is done in parallel.

        Args:
            run: its folder, results/STUDY/runs/DATASET/EXPERIMENT/CATEGORY/SEED; it must be evaluated.
            weights: file of its backbone's weights; default: the installed package, or data/weights/.
            false_alarms: the rate that the threshold is for; default: the run's parameter threshold.false_alarms.
            device: cpu, cuda, cuda:NUMBER, or auto: a GPU if there is one.
            threads: images in work at once; default: a thread a core.
            threshold: of an image's score, in place of the calibrated one; pixels keep theirs, if they have one.

        Raises:
            UserError: a file is missing or damaged, the weights are others than those of the run, there are too few
                calibration images for the rate and no `threshold`, or there is no such device.
        """
        folder = Path(run)
        trained, evaluation = Record(folder / "run.json").values, Record(folder / "evaluation.json")
        if evaluation.values["model"] != trained["model"]:
            raise UserError(f"{folder}: trained again since it was evaluated: `adtr evaluate` it")
        params, features = _params(folder, trained, evaluation.values), trained["features"]
        _compare_code(folder, params, features["code"], evaluation.values["code"])
        file = weights_like(params.features.backbone, features["weights"], Path(weights) if weights else None)
        if (device := device_of(device)) == "cpu":
            torch.set_num_threads(1)
        backbone = None if features["weights"] == "none" else build(params.features, file).to(device)
        made_of = {"model": trained["model"], "weights": features["weights"], "data": trained["trained_on"]}
        made_of |= {"code_features": features["code"], "code_train": trained["code"]}
        made_of |= {"code_evaluate": evaluation.values["code"]}
        maps = np.load(io.BytesIO(evaluation.read("maps.npy")))
        scale = colour_scale(maps) if len(maps) else tuple(evaluation.values["scale"])
        scores = evaluation.table("calibration.csv", dtype={"pred_score": np.float32, "map_max": np.float32})
        threads, state = threads or len(os.sched_getaffinity(0)), read_model(folder)
        detector = cls(params, state, backbone, device, threads, made_of, scale, not len(maps), len(scores))
        detector._calibrate(folder, scores, false_alarms, evaluation.values.get("threshold"), threshold)
        return detector

    def _calibrate(
        self, run: Path, scores: Any, false_alarms: float | None, asked: dict[str, float] | None, given: float | None
    ) -> None:
        if asked is None and false_alarms is not None:
            raise UserError(f"{run} {NO_THRESHOLD}")
        if asked is not None:
            rate = asked["false_alarms"] if false_alarms is None else false_alarms
            try:
                self.threshold = conformal.threshold(scores.pred_score.to_numpy(), rate)
                self.pixel_threshold = conformal.threshold(scores.map_max.to_numpy(), rate)
                self.false_alarms = rate
            except UserError:  # too few images for that rate
                if given is None or false_alarms is not None:
                    raise
        if given is not None:
            self.threshold, self.false_alarms = given, None

    def scale_of(self, prediction: Prediction) -> tuple[float, float]:
        """The scale for the overlay of a prediction."""
        low, high = self.scale
        return low, max(high, float(prediction.token_map.max())) if self.normals_only else high

    def predict(self, images: Iterable[Picture] | Picture) -> list[Prediction]:
        """The predictions of images, in their order; an image alone counts as a list of one.

        Args:
            images: paths, Pillow's images, or RGB arrays (H, W, 3) uint8, of any size.

        Raises:
            UserError: an image cannot be read or is not of eight bits a channel.
        """
        alone = isinstance(images, str | os.PathLike | Image.Image | np.ndarray)
        found = []
        for prediction in self.stream([images] if alone else images):  # type: ignore[list-item, arg-type]
            if isinstance(prediction, UserError):
                raise prediction
            found.append(prediction)
        return found

    def stream(self, images: Iterable[Picture], then: Then | None = None) -> Iterator[Prediction | UserError]:
        """The predictions of images, in their order and as they come; an error in place of one that cannot be read.

        Args:
            images: as of `predict`.
            then: called with the place of each image, the image and its prediction, in the thread that made it.
        """
        count = max(LEAST, batch_size(self.params.features.image_size, self.device))
        numbered = enumerate(images)
        groups = iter(lambda: tuple(islice(numbered, count)), ())
        waiting: deque[Future[list[Prediction | UserError]]] = deque()
        # As at extraction and evaluation, a thread of one core: the bits do not depend on how many there are
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for group in groups:
                waiting.append(pool.submit(self._group, group, then))
                if len(waiting) > 2 * self.threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _group(self, images: tuple[tuple[int, Picture], ...], then: Then | None) -> list[Prediction | UserError]:
        began, size, room = time.perf_counter(), self.params.features.image_size, ROOM
        found: list[Any] = []  # predictions take the places of images, errors stay
        small, kept = list[np.ndarray](), dict[int, Image.Image]()
        for place, (_, image) in enumerate(images):
            found.append(opened := _opened(image))
            if isinstance(opened, UserError):
                continue
            small.append(as_rgb(opened, size))
            found[place] = (opened.height, opened.width)
            if then and room > 0:
                kept[place] = opened
            room -= opened.height * opened.width
        if not small:
            return found
        maps, scores = self._scores(np.stack(small))
        each = (time.perf_counter() - began) / len(small)
        read = (place for place, sides in enumerate(found) if not isinstance(sides, UserError))
        for place, map_, score in zip(read, maps, scores, strict=True):
            began = time.perf_counter()
            label = None if self.threshold is None else bool(score > self.threshold)
            fields = (float(score), self.threshold, label, map_, found[place], self.pixel_threshold)
            if then:
                number, image = images[place]
                if isinstance(picture := kept.pop(place, None) or _opened(image), UserError):  # it has gone since
                    found[place] = picture
                    continue
                then(number, picture, Prediction(*fields, milliseconds=1000 * each))
            found[place] = Prediction(*fields, milliseconds=1000 * (each + time.perf_counter() - began))
        return found

    def _scores(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, S, S, 3) uint8 to maps (N, G, G) and scores (N,), float32."""
        features, step = self.params.features, batch_size(self.params.features.image_size, self.device)
        tokens = np.concatenate(
            [tokens_of(images[i : i + step], self.backbone, features, self.device) for i in range(0, len(images), step)]
        )
        maps, own = raw_scores(method_of(self.params), self.state, tokens, self.params, self.device)
        if own is None:
            score = self.params.score
            own = image_scores(maps, features.image_size, score.pooling)[score.image_score].to_numpy()
        return maps, own


def _params(run: Path, trained: dict[str, Any], evaluated: dict[str, Any]) -> Params:
    """What a run was trained and evaluated with; the sections of other methods are absent.

    Raises:
        UserError: this program has other parameters.
    """
    sections = trained["params"] | {"features": trained["features"]["features"], "score": evaluated["score"]}
    try:
        made = {name: Params.model_fields[name].annotation.model_validate(values) for name, values in sections.items()}  # type: ignore[union-attr]
    except ValidationError as error:
        names = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
        raise UserError(f"{run}: made by another version, with other parameters ({names}): train it again") from None
    return Params.model_construct(method=trained["method"], **made)


def _compare_code(run: Path, params: Params, features: str, evaluation: str) -> None:
    """Warns where the code that decides scores is not the one that made the run's."""
    here = provenance.code("features", backbone=params.features.backbone), provenance.code("evaluate", params.method)
    if here != (features, evaluation):
        logger.warning("%s was made by another version of this program: scores may differ from its own", run)


def open_image(image: Picture) -> Image.Image:
    """An image, decoded.

    Raises:
        UserError: it cannot be read or is not of eight bits a channel.
    """
    if isinstance(image, Image.Image):
        return eight_bit(image, "an image")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"an array of shape {image.shape}, {image.dtype}: RGB (H, W, 3) uint8 is expected")
        return Image.fromarray(image)
    try:
        content = content_of(Path(image))
        check_format(content, str(image))
        return decode_file(content, shown(image))
    except (OSError, ValueError) as error:  # a NUL in its name is a ValueError
        raise UserError(f"{shown(image)}: not readable ({getattr(error, 'strerror', error)})") from None


def _opened(image: Picture) -> Image.Image | UserError:
    try:
        return open_image(image)
    except UserError as error:
        return error
