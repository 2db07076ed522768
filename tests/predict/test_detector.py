"""New images are scored as evaluation scores them, for every method, alone or in company."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from vouched import vouch_again

from adtr import Detector
from adtr.errors import UserError
from adtr.evaluate.measure import upsampled
from adtr.predict import detector as detecting
from adtr.predict.detector import Prediction
from adtr.records import write_only

Make = Callable[..., Path]  # the fixture `made`
METHODS = ["adtr", "adtr_plus", "padim", "patchcore", "spade", "kde", "autoencoder"]
VARIANTS = ["no_attention", "no_query", "cnn"]


@pytest.mark.parametrize("name", [*METHODS, *VARIANTS])
def test_the_test_images_get_their_scores_to_the_bit(name: str, made: Make, images: Path) -> None:
    """Whether they come together, one by one, or in another order: of some methods the last bits would differ."""
    run = made("adtr", model={"variant": name}) if name in VARIANTS else made(name)
    scores = pd.read_csv(run / "scores.csv", dtype={"pred_score": np.float32})
    maps, paths = np.load(run / "maps.npy"), [images / image for image in scores.image]
    detector = Detector.load(run, threads=2)
    together, backwards = detector.predict(paths), detector.predict(paths[::-1])[::-1]
    single = [detector.predict(path)[0] for path in paths[:3]]
    assert [p.pred_score for p in together] == scores.pred_score.tolist()
    assert [p.pred_score for p in backwards] == scores.pred_score.tolist()
    assert [p.pred_score for p in single] == scores.pred_score[:3].tolist()
    assert all(np.array_equal(p.token_map, map_) for p, map_ in zip(together, maps, strict=True))


@pytest.fixture
def detector(made: Make) -> Detector:
    return Detector.load(made("padim"))


@pytest.fixture
def path(images: Path) -> Path:
    return sorted((images / "carpet/test").glob("*/*.png"))[0]


def test_a_path_an_image_and_an_array_are_the_same(detector: Detector, path: Path) -> None:
    image = Image.open(path)
    found = detector.predict([path, str(path), image, np.asarray(image.convert("RGB"))])
    assert len({prediction.pred_score for prediction in found}) == 1


def test_maps_are_of_the_images_own_size(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    wide, square = (rng.integers(0, 256, shape, np.uint8) for shape in ((40, 130, 3), (64, 64, 3)))
    first, second = detector.predict([wide, square])
    assert (first.anomaly_map.shape, first.anomaly_map.dtype) == ((40, 130), np.float32)
    assert np.array_equal(second.anomaly_map, upsampled(second.token_map[None], 64)[0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"an array of shape \(4, 4\), uint8: RGB"),
        (np.zeros((4, 4, 3), np.float32), "float32: RGB"),
        (np.zeros((0, 4, 3), np.uint8), "RGB"),
        (Image.new("I;16", (4, 4)), "mode I;16 is not of eight bits"),
        ("nowhere.png", "nowhere.png: not readable"),
        ("a\0b.png", r"a\\x00b.png: not readable"),
    ],
    ids=["grey", "float", "empty", "16 bits", "missing", "nul"],
)
def test_what_cannot_be_scored_is_refused_by_name(
    image: Image.Image | np.ndarray | str, message: str, detector: Detector
) -> None:
    with pytest.raises(UserError, match=message):
        detector.predict(image)


def test_an_image_is_anomalous_above_the_threshold(detector: Detector, made: Make, images: Path) -> None:
    """15 calibration images and a rate of 0.1: the 15th smallest of ceil(16 x 0.9) is the largest."""
    calibration = pd.read_csv(made("padim") / "calibration.csv", dtype={"pred_score": np.float32})
    assert detector.calibrated_on == len(calibration) == 15
    assert detector.threshold == calibration.pred_score.max()
    again = detector.predict([images / image for image in calibration.image])
    assert sorted(p.pred_score for p in again) == sorted(calibration.pred_score)
    assert not any(p.pred_label for p in again)
    assert not any(p.largest_region for p in again)  # so the pixel threshold is the largest of their maps
    lower = Detector.load(made("padim"), false_alarms=0.2).predict([images / image for image in calibration.image])
    assert sum(bool(p.pred_label) for p in lower) == 2  # of 16 ranks 3 lie above: 13th smallest of 15


@pytest.mark.parametrize("calibration", [0.0, 0.5])
def test_a_threshold_that_is_given_needs_no_calibration(calibration: float, made: Make, path: Path) -> None:
    run = made("padim", calibration)
    score = Detector.load(run).predict(path)[0].pred_score
    for threshold, label in ((score, False), (score - 0.01, True)):
        detector = Detector.load(run, threshold=threshold)
        (prediction,) = detector.predict(path)
        assert (prediction.pred_label, prediction.threshold, detector.false_alarms) == (label, threshold, None)


def test_too_few_calibration_images_are_refused_with_the_number_needed(made: Make, path: Path, tmp_path: Path) -> None:
    run = shutil.copytree(made("padim"), tmp_path / "run")
    told = r"15 calibration images are too few for a rate .* of 0.01, which needs 99"
    with pytest.raises(UserError, match=told):
        Detector.load(run, false_alarms=0.01)
    vouch_again(run / "evaluation.json", threshold={"calibration": 0.5, "false_alarms": 0.01})
    with pytest.raises(UserError, match=told):
        Detector.load(run)
    (prediction,) = Detector.load(run, threshold=0.0).predict(path)  # as the report then says to type
    assert (prediction.threshold, prediction.pred_label, prediction.pixel_threshold) == (0.0, True, None)


def test_large_images_are_read_again_for_their_overlays_and_scores_are_the_same(
    detector: Detector, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of them would fill the memory."""
    paths = [Path(shutil.copy(path, tmp_path)) for path in sorted((images / "carpet/test").glob("*/*.png"))[:3]]
    whole = [(p.pred_score, p.size) for p in detector.predict(paths)]
    monkeypatch.setattr(detecting, "ROOM", 0)
    seen = list[tuple[int, tuple[int, int]]]()

    def then(place: int, image: Image.Image, _: Prediction) -> None:
        seen.append((place, image.size[::-1]))
        paths[place + 1].unlink() if place == 0 else None

    found = list(detector.stream(paths, then))
    assert [(p.pred_score, p.size) for p in found if isinstance(p, Prediction)] == [whole[0], whole[2]]
    assert isinstance(found[1], UserError)
    assert seen == [(0, whole[0][1]), (2, whole[2][1])]


def test_without_calibration_images_there_are_no_labels_and_no_threshold(made: Make, path: Path) -> None:
    (prediction,) = Detector.load(made("padim", 0.0)).predict(path)
    assert (prediction.threshold, prediction.pred_label, prediction.pred_mask) == (None, None, None)
    with pytest.raises(UserError, match=r"held out no images .* threshold\.calibration 0\.2"):
        Detector.load(made("padim", 0.0), false_alarms=0.1)


def test_a_run_without_test_images_stretches_the_scale_to_what_it_sees(made: Make, path: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made("padim"), tmp_path / "run"))
    np.save(run / "maps.npy", np.empty((0, 8, 8), np.float32))
    vouch_again(run / "evaluation.json", scale=[0.1, 0.2])
    detector = Detector.load(run)
    (prediction,) = detector.predict(path)
    assert detector.scale_of(prediction) == (0.1, pytest.approx(prediction.token_map.max()))
    assert prediction.token_map.max() > 0.2
    whole = Detector.load(made("padim"))
    assert whole.scale_of(prediction) == whole.scale


def test_a_copy_by_pickle_and_threads_at_once_give_the_same(detector: Detector, images: Path) -> None:
    paths = sorted((images / "carpet/test").glob("*/*.png"))
    expected = [p.pred_score for p in detector.predict(paths)]
    copy = pickle.loads(pickle.dumps(detector))
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda of: [p.pred_score for p in of.predict(paths)], [copy, *[detector] * 3]))
    assert found == [expected] * 4


def test_the_largest_region_is_boxed(detector: Detector) -> None:
    token_map = np.zeros((8, 8), np.float32)
    token_map[1, 1], token_map[5:7, 4:7] = 2, 2
    (p,) = detector.predict(np.zeros((70, 80, 3), np.uint8))
    region = type(p)(0.0, 0.5, False, token_map, (71, 81), 1.0).largest_region
    assert region is not None
    left, top, right, bottom, area = region  # half way between tokens: 10 px apart down, 80 / 7 px across
    assert (left, top, right, bottom) == (41, 46, 75, 65)
    assert 0.8 * 34 * 19 < area < 34 * 19


@pytest.mark.parametrize("size", [(71, 81), (8, 8), (1, 3)])
def test_the_peak_is_where_the_map_is_highest(size: tuple[int, int]) -> None:
    token_map = np.zeros((8, 8), np.float32)
    token_map[2, 6] = 1
    found = Prediction(0.0, None, None, token_map, size, None)
    x, y = found.peak
    assert found.anomaly_map[y, x] == found.anomaly_map.max()
    assert Prediction(0.0, None, None, np.ones((1, 1), np.float32), size, None).peak == (0, 0)


def test_a_first_score_imports_nothing_slow(made: Make, path: Path) -> None:
    """Of what takes seconds: PyTorch's compiler, which fresh weights of a network without memory once asked for."""
    code = f"""
import sys
from adtr import Detector
Detector.load({str(made("adtr"))!r}).predict({str(path)!r})
print({{"torch._dynamo", "sympy", "sklearn", "scipy.stats", "matplotlib", "onnxruntime", "fastapi"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr


def test_a_run_of_other_parameters_is_refused_by_name(made: Make, tmp_path: Path) -> None:
    """As of an earlier version, whose run.json has a parameter that is gone."""
    run = shutil.copytree(made("padim"), tmp_path / "run")
    values = json.loads((run / "run.json").read_text())
    values["params"]["padim"]["gone"] = 1
    write_only(run / "run.json", {name: value for name, value in values.items() if name != "sha256"})
    with pytest.raises(UserError, match=r"run: made by another version, .* \(gone\): train it again"):
        Detector.load(run)
