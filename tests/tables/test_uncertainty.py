"""Draws read from the files of runs."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from vouched import vouch

from adtr.config.paths import Paths
from adtr.config.study import Plan, Run
from adtr.errors import UserError
from adtr.evaluate import bootstrap, metrics
from adtr.evaluate.pixels import count, empty
from adtr.files import saved
from adtr.tables.uncertainty import of_run, read_draws


def write_run(folder: Path, names: list[str], seed: int, masked: bool, marked: slice = slice(6, None)) -> None:
    """Six normal and six anomalous test images and two more, of random scores and maps; `marked` ones have a region."""
    rng = np.random.default_rng(seed)
    label = [0] * 6 + [1] * 8
    split = ["test"] * 14 if masked else ["test"] * 12 + ["rest"] * 2
    scores = {"image": names, "label": label, "split": split, "pred_score": rng.normal(size=14) + label}
    folder.mkdir(parents=True)
    pd.DataFrame(scores | {"defect": ""}).to_csv(folder / "scores.csv", index=False)
    masks = np.zeros((14, 8, 8), bool)
    masks[marked, 2:4, 2:5] = True
    counts = count(masks, (rng.random(masks.shape) + masks).astype(np.float32)) if masked else empty(14)
    (folder / "pixels.npz").write_bytes(saved(lambda file: np.savez_compressed(file, **counts._asdict())))
    vouch(folder / "evaluation.json", {}, "scores.csv", "pixels.npz")


@pytest.fixture
def small(plan: Plan) -> Plan:
    """Two experiments on either data set, of which one has masks."""
    chosen = {key: params for key, params in plan.params.items() if key[1] in ("adtr", "spade", "padim")}
    return dataclasses.replace(plan, params=chosen)


@pytest.fixture
def paths(small: Plan, tmp_path: Path) -> Paths:
    paths = Paths(small, tmp_path)
    for number, run in enumerate(small.runs()):
        names = [f"{run.category}/{i}" for i in range(14)]
        write_run(paths.run(run), names, number, run.dataset == "smoke_mvtec")
    return paths


def test_every_run_meets_the_same_draws(small: Plan, paths: Paths) -> None:
    draws = read_draws(paths)
    assert set(draws.values.index.droplevel("metric")) == set(small.runs())
    of = draws.values.index.to_frame(index=False).groupby("dataset").metric.unique()
    assert set(of["smoke_mvtec"]) == {"image_auroc", "pixel_auroc", "aupro"}
    assert set(of["smoke_cifar10"]) == {"image_auroc", "image_auroc_all"}
    assert draws.images.loc["smoke_mvtec", "image_auroc", "screw"].tolist() == [6, 8]
    assert draws.images.loc["smoke_cifar10", "image_auroc", "airplane"].tolist() == [6, 6]
    pool = pd.DataFrame({"category": "screw", "image": [f"screw/{i}" for i in range(14)], "label": [0] * 6 + [1] * 8})
    weights = bootstrap.weights(pool).loc[pool.image].to_numpy()
    for run in (run for run in small.runs() if run[::2] == ("smoke_mvtec", "screw")):
        scores = pd.read_csv(paths.run(run) / "scores.csv").pred_score.to_numpy()
        expected = 100 * bootstrap.auroc(scores[:6], scores[6:], weights[:6], weights[6:])
        found = draws.values.loc[("smoke_mvtec", "image_auroc", *run[1:])]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_of_pixels_the_images_with_a_region_count(small: Plan, tmp_path: Path) -> None:
    paths = Paths(small, tmp_path)
    for run in small.runs():
        names, masked = [f"{run.category}/{i}" for i in range(14)], run.dataset == "smoke_mvtec"
        write_run(paths.run(run), names, 0, masked, slice(12, 14))
    draws = read_draws(paths)
    assert draws.images.loc["smoke_mvtec", "aupro", "screw"].tolist() == [6, 2]
    assert bootstrap.freedom(draws, "smoke_mvtec", "aupro", ["screw"]) == 1
    assert bootstrap.freedom(draws, "smoke_mvtec", "image_auroc", ["screw"]) == 5
    draws.images.loc[("smoke_mvtec", "aupro", "screw"), "normal"] = 0  # normal pixels are those of anomalous images
    draws.images.loc[("smoke_mvtec", "aupro", "screw"), "anomalous"] = 30
    assert bootstrap.freedom(draws, "smoke_mvtec", "aupro", ["screw"]) == 29
    draws.images.loc[("smoke_mvtec", "aupro", "screw")] = 0
    assert bootstrap.freedom(draws, "smoke_mvtec", "aupro", ["screw"]) == 1


def test_images_drawn_once_each_have_the_metrics_of_the_run(paths: Paths) -> None:
    run = Run("smoke_cifar10", "spade", "airplane", 0)
    scores = pd.read_csv(paths.run(run) / "scores.csv")
    found = of_run(scores, empty(14), np.ones((14, 1)), 0.3)
    for name, chosen in {"image_auroc": scores[scores.split == "test"], "image_auroc_all": scores}.items():
        assert found[name][0] == pytest.approx(metrics.auroc(chosen.label == 1, chosen.pred_score.to_numpy()))


def test_a_class_without_images_has_no_draws() -> None:
    scores = pd.DataFrame({"label": [0, 0], "split": "test", "pred_score": [0.1, 0.2]})
    assert np.isnan(of_run(scores, empty(2), np.ones((2, 3)), 0.3)["image_auroc"]).all()


def test_a_damaged_file_is_named(small: Plan, paths: Paths) -> None:
    path = paths.run(next(small.runs())) / "pixels.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"pixels\.npz: damaged or edited"):
        read_draws(paths)
