"""What jobs are expected to take, by arithmetic done here by hand."""

import re
from pathlib import Path
from typing import Any

import pytest

from adtr import cost
from adtr.cli import main
from adtr.config.paths import Paths
from adtr.config.study import Run, resolve
from adtr.cost import Cluster, Images, assumptions

ROOT = Path(__file__).parent.parent
SPEEDS: dict[str, Any] = {
    "gpus": 1, "start": 10, "step": 0.01, "teraflops": 1, "features": 100, "baseline": 5, "evaluation": 4, "margin": 2,
    "longest": 600, "memory": 1000, "images": {"mvtec": [200, 100], "cifar10": [5000, 10000]},
}  # fmt: skip
CLUSTER = Cluster.model_validate(SPEEDS)


def params(experiment: str, dataset: str = "mvtec", **settings: Any) -> Any:
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return resolve("paper", ROOT / "params", dotted).params[dataset, experiment]


def test_small_steps_take_the_time_of_their_launch() -> None:
    small = params("adtr", train__epochs=10, model__width=8, model__ffn_width=8, model__heads=1)
    assert cost.fit(small, Images(33, 0), CLUSTER) == pytest.approx(3 * 10 * 0.01)  # three batches of 16 or fewer


def test_large_steps_take_the_time_of_their_operations() -> None:
    adtr = params("adtr", train__epochs=10)
    encoder = 4 * (4 * 256**2 + 2 * 256 * 256 + 2 * 256 * 1024)
    decoder = 4 * (2 * (4 * 256**2 + 2 * 256 * 256) + 2 * 256 * 1024)
    multiplications = encoder + decoder + 2 * 1000 * 256
    assert cost.multiplications(adtr.model, 256) == multiplications
    assert cost.fit(adtr, Images(100, 0), CLUSTER) == pytest.approx(6 * multiplications * 256 * 100 * 10 / 1e12)


def test_confetti_stands_in_the_place_of_normal_images_and_outliers_beside_them() -> None:
    for dataset, more in (("mvtec", 0), ("cifar10", 5000)):
        runs = [params(name, dataset, train__epochs=10) for name in ("adtr", "adtr_plus")]
        adtr, plus = (cost.fit(run, Images(100, 0), CLUSTER) for run in runs)
        assert plus == pytest.approx((100 + more) / 100 * adtr)
        batch = runs[0].train.batch_size
        assert cost.steps_of(runs[1], 100) == 10 * -(-(100 + more) // batch)


def test_a_baseline_takes_no_epochs() -> None:
    assert cost.fit(params("padim"), Images(100, 0), CLUSTER) == 20
    assert cost.fit(params("autoencoder"), Images(100, 0), CLUSTER) > 20


@pytest.mark.usefixtures("elsewhere")
def test_four_times_the_pixels_take_four_times_as_long_to_extract() -> None:
    paths = Paths(resolve("paper", ROOT / "params"))
    small = next(store for store in paths.all_stores.values() if store.experiment == "adtr")
    large = small._replace(params=params("adtr_512"))
    assert cost.extraction(paths, small, "screw", CLUSTER) == 3  # 200 + 100 images
    assert cost.extraction(paths, large, "screw", CLUSTER) == 12
    cifar = small._replace(dataset="cifar10", params=params("adtr"))
    seconds = [cost.extraction(paths, cifar, part, CLUSTER) for part in ("train_cat", "test")]
    assert seconds == [50, 100]
    plus = small._replace(params=params("adtr_plus"), anomalies=True)
    assert cost.extraction(paths, plus, "screw", CLUSTER) == 2 * plus.params.confetti.variants


def test_models_kept_on_the_way_are_evaluated_too() -> None:
    one, three = (cost.evaluation(params("adtr", train__snapshots=n), Images(0, 40), CLUSTER) for n in (0, 2))
    assert (one, three) == (10, 30)


def test_memory_grows_with_the_features() -> None:
    assert cost.memory(params("adtr").features, 0, CLUSTER) == 1000
    assert cost.memory(params("adtr").features, 1000, CLUSTER) == 1000 + 1536  # 256 tokens, 1000 channels, 6 bytes


def test_the_queue_is_asked_for_the_margin() -> None:
    assert CLUSTER.minutes(50) == 2  # 2 * (10 + 50) s
    assert CLUSTER.minutes(51) == 3


def test_images_are_counted_where_there_is_a_manifest(tmp_path: Path) -> None:
    dataset = resolve("paper", ROOT / "params").datasets["mvtec"]
    manifest = tmp_path / "screw.csv"
    assert cost.images_of(dataset, manifest, CLUSTER) == (200, 100)
    manifest.write_text("image,split\na,train\nb,train\nc,test\nd,extra\n")
    assert cost.images_of(dataset, manifest, CLUSTER) == (2, 2)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"a,b\n1,2\n", b'split\n"train'])
def test_of_a_damaged_manifest_images_are_as_many_as_expected(tmp_path: Path, content: bytes) -> None:
    """So that a plan is made, and the stage that reads it says what to do."""
    manifest = tmp_path / "screw.csv"
    manifest.write_bytes(content)
    assert cost.images_of(resolve("paper", ROOT / "params").datasets["mvtec"], manifest, CLUSTER) == (200, 100)


@pytest.mark.usefixtures("elsewhere")
def test_the_plan_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cost", "--study", "paper"])
    message = capsys.readouterr().out
    assert re.search(r"Table 1 +255\b", message)  # 5 experiments of 3 seeds and 2 of one, 15 categories
    assert re.search(r"Table 4 +405\b", message)  # 9 experiments
    assert "nothing was measured" in message


def test_hours_grow_with_the_epochs() -> None:
    plans = [resolve("paper", ROOT / "params", {"train.epochs": epochs}) for epochs in (1000, 2000)]
    short, long = (cost.run_seconds(plan, CLUSTER) for plan in plans)
    adtr, padim = (Run("mvtec", experiment, "screw", 0) for experiment in ("adtr", "padim"))
    assert long[adtr] > 1.5 * short[adtr]
    assert long[padim] == short[padim]


@pytest.mark.usefixtures("elsewhere")
def test_images_that_nobody_counted_are_told() -> None:
    plan = resolve("screw")
    assert "not indexed yet: mvtec. To count them: `adtr index --study screw mvtec/screw`" in assumptions(plan)
    manifest = Paths(plan).manifest("mvtec", "screw")
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    assert assumptions(plan) == assumptions(resolve("smoke")) == ""  # as many as are generated are known


@pytest.mark.usefixtures("elsewhere")
def test_the_time_on_this_machine_is_some_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["cost", "--study", "smoke", "--here"])
    message = r"smoke: about [1-9]\d* minutes on this machine, if its \d+ cores are idle\n"
    assert re.fullmatch(message, capsys.readouterr().out)
