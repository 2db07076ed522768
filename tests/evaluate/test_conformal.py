"""Thresholds from normal images: the guarantee, counted by hand, by brute force and on real images."""

from pathlib import Path

import numpy as np
import pandas as pd
import planted
import pytest
from scipy.stats import beta

from adtr.config import PARAMS
from adtr.config.paths import root_of
from adtr.config.study import resolve
from adtr.data.manifest import index
from adtr.errors import UserError
from adtr.evaluate import conformal
from adtr.evaluate.measure import CALIBRATED, rates, scored
from adtr.features.extract import extract
from adtr.features.select import held_out, select
from adtr.features.weights import weights_file
from adtr.methods import padim
from adtr.train.context import Context


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [(99, 0.01, 99), (100, 0.01, 100), (199, 0.01, 198), (9, 0.1, 9), (19, 0.29, 15), (3, 0.5, 2)],
)
def test_the_rank_of_the_threshold(count: int, rate: float, rank: int) -> None:
    """ceil((n + 1)(1 - alpha)), by hand: of 20 ranks and 0.29, ceil(14.2)."""
    scores = np.random.default_rng(0).permutation(np.arange(1, count + 1)).astype(np.float32)
    assert conformal.threshold(scores, rate) == rank


@pytest.mark.parametrize("rate", [0.3, 0.1, 0.07, 0.05, 0.02, 0.01, 0.001])
def test_fewer_images_than_the_rate_needs_are_refused(rate: float) -> None:
    needed = conformal.images_needed(rate)
    assert needed == np.ceil(1 / rate - 1e-9) - 1
    conformal.threshold(np.zeros(needed), rate)
    with pytest.raises(UserError, match=f"{needed - 1} calibration images are too few .* needs {needed}:") as error:
        conformal.threshold(np.zeros(needed - 1), rate)
    least = float(str(error.value).partition("--false-alarms ")[2].partition(")")[0])
    assert conformal.threshold(np.zeros(needed - 1), least) == 0


@pytest.mark.parametrize("count", [9, 10, 37])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_the_guarantee_by_brute_force(count: int, rate: float) -> None:
    """Of n + 1 scores each is the new one in turn: the share above the threshold of the others is exactly known."""
    scores = np.random.default_rng(1).normal(size=count + 1)
    alarms = [score > conformal.threshold(np.delete(scores, i), rate) for i, score in enumerate(scores)]
    assert sum(alarms) == int((count + 1) * rate)
    tied = np.round(scores)
    alarms = [score > conformal.threshold(np.delete(tied, i), rate) for i, score in enumerate(tied)]
    assert sum(alarms) <= (count + 1) * rate


@pytest.mark.parametrize(("count", "of"), [(0, 20), (3, 20), (20, 20)])
def test_intervals_are_clopper_and_pearsons(count: int, of: int) -> None:
    low = beta.ppf(0.025, count, of - count + 1) if count else 0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1
    assert conformal.interval(count, of) == pytest.approx((low, high))


def test_rates_of_the_test_images_by_hand() -> None:
    """Threshold 4 of 1..4 at 0.2: of the normal 1, 5 one alarm, of the anomalous 3, 4, 9 two misses."""
    scores = pd.DataFrame({"split": "test", "label": [0, 0, 1, 1, 1], "pred_score": [1.0, 5, 3, 4, 9]})
    rest = pd.DataFrame({"split": ["rest"], "label": [1], "pred_score": [0.0]})
    normal = pd.DataFrame({"image": "", "pred_score": [1.0, 2, 3, 4], "map_max": 0.0})
    rows = {row["metric"]: row for row in rates(pd.concat([scores, rest]), normal, 0.2)}
    assert {name: row["value"] for name, row in rows.items() if name in ("false_alarms", "misses")} == {
        "false_alarms": 50, "misses": pytest.approx(200 / 3)
    }  # fmt: skip
    assert rows["misses_high"]["value"] == pytest.approx(100 * conformal.interval(2, 3)[1])
    assert rates(scores, pd.DataFrame(columns=CALIBRATED), 0.2) == []
    assert "needs 99" in str(rates(scores, normal, 0.01)[0]["note"])
    assert "no such test images" in str(rates(scores[:2], normal, 0.2)[-1]["note"])


def test_images_held_out_are_drawn_by_the_seed_and_the_manifest_is_left_alone(tmp_path: Path) -> None:
    case = planted.write(tmp_path, *planted.features())
    manifest = planted.read_manifest(case.manifest)
    before = manifest.copy()
    drawn = [held_out(manifest, 0.3, seed) for seed in (0, 0, 1)]
    assert manifest.equals(before)
    assert [(m.split == "calibration").sum() for m in drawn] == [3, 3, 3]
    assert drawn[0].equals(drawn[1])
    assert not drawn[0].equals(drawn[2])
    assert (drawn[0].split == "test").equals(manifest.split == "test")
    assert held_out(manifest, 0.0, 0) is manifest
    with pytest.raises(UserError, match="of 10 training images none is left"):
        held_out(manifest, 0.99, 0)


def test_false_alarms_on_solar_cells_are_as_many_as_promised(tmp_path: Path) -> None:
    """ELPV's monocrystalline cells, real weights, PaDiM, 20 draws of a fifth: the mean rate on 147 normal test cells.

    A mean over draws with the same test cells scatters about the rate by these cells: two standard deviations count.
    """
    plan = resolve("demo", PARAMS)
    dataset, params = plan.datasets["elpv"], plan.params["elpv", "padim"]
    changes = {"image_size": 64, "grid_size": 4}
    params = params.model_copy(update={"features": params.features.model_copy(update=changes)})
    manifest, root = index(dataset, "mono"), root_of(dataset.root)
    normal = manifest[manifest.label == 0].reset_index(drop=True)
    stores = {"mono": tmp_path / "mono.npy"}
    extract(normal, root, params.features, weights_file(params.features, {}, Path()), stores["mono"])
    found: dict[float, list[float]] = {0.05: [], 0.1: [], 0.2: []}
    for seed in range(20):
        drawn = held_out(normal, 0.2, seed)
        state = padim.fit(select(drawn, stores, ["train"])[0], params, Context(seed)).state
        calibration, test = (
            scored(padim, state, *select(drawn, stores, [split]), params, "cpu")[1].pred_score.to_numpy()
            for split in ("calibration", "test")
        )
        assert (len(calibration), len(test)) == (88, 147)
        for rate, alarms in found.items():
            alarms.append(float((test > conformal.threshold(calibration, rate)).mean()))
    for rate, alarms in found.items():
        assert abs(np.mean(alarms) - int(89 * rate) / 89) < 2 * np.sqrt(rate * (1 - rate) / 147)
