"""How a study was run, and the authors of its images."""

import dataclasses
from typing import Any

import planted
import pytest

from adtr.config.reader import read_yaml
from adtr.config.schema import FOLDERS, Dataset
from adtr.config.study import resolve
from adtr.data.sources import read_sources
from adtr.report import protocol

PARAMS = planted.REPOSITORY / "params"


def departures(name: str, settings: dict[str, Any] | None = None) -> dict[tuple[str, str], tuple[str, ...]]:
    found = protocol.departures(resolve(name, PARAMS, settings))
    return {(row[0], row[1]): row[2:5] for row in found.itertuples(index=False, name=None)}


def test_the_paper_study_departs_from_nothing() -> None:
    assert departures("paper") == {}


def test_a_departure_shows_the_paper_and_what_was_used() -> None:
    assert departures("paper", {"train.epochs": 3, "features.weights": "random"}) == {
        ("features.weights", "imagenet"): ("random", "all", "all"),
        ("train.epochs", "500"): ("3", "all but ADTR+", "all"),
        ("train.epochs", "300"): ("3", "ADTR+", "all"),
    }


def test_a_departure_names_the_data_sets_and_the_experiments_that_it_concerns() -> None:
    assert departures("paper", {"train.batch_size": 128, "padim.channels": 50}) == {
        ("train.batch_size", "16"): ("128", "all", "MVTec-AD"),  # CIFAR-10 has 128 in the paper
        ("padim.channels", "100"): ("50", "PaDiM", "all"),
    }


def test_an_ablations_own_change_is_no_departure_but_a_studys_is() -> None:
    found = departures("screw")
    lite = "all but Pixels, EfficientNet-Lite1, EfficientNet-Lite2 and Autoencoder"
    assert found["features.backbone", "efficientnet_b4"] == ("efficientnet_lite0", lite, "all")
    assert not [key for key, _ in found if key == "features.layers"]


def test_each_method_is_told_with_what_differs_from_the_reference() -> None:
    rows = {row[0]: tuple(row[1:]) for row in protocol.methods(resolve("distance_mvtec", PARAMS)).text.to_numpy()}
    assert rows["ADTR"][1] == "the reference of the others"
    assert rows["CNN"] == (rows["ADTR"][0], "model.variant cnn; train.batch_size 16; train.lr 0.0005")
    method, differs = rows["w/o query, Mahalanobis"]
    assert method.startswith("What a reconstruction leaves, by its distance")
    assert differs.startswith("model.variant no_query; residual.start no_query; residual.distance mahalanobis; ")
    assert rows["PaDiM"][0].startswith("PaDiM: a Gaussian at every position")
    for row in protocol.methods(resolve("paper", PARAMS)).text.to_numpy():
        assert len(row[1]) > 20, row


def test_every_departure_has_its_meaning() -> None:
    found = protocol.departures(resolve("smoke", PARAMS))
    assert len(found) > 5
    assert (found.meaning != "").all()


def test_random_weights_and_made_up_images_are_warned_of() -> None:
    random, generated = protocol.warnings(resolve("smoke", PARAMS, {"features.weights": "random"}))
    assert random.startswith("Random weights, ")
    assert generated.startswith("Images made by a program")
    assert protocol.warnings(resolve("demo", PARAMS)) == []


def test_runs_of_one_experiment_on_different_devices_are_told() -> None:
    run = {"experiment": "ADTR", "dataset": "Cups", "device": "cpu, float32"}
    others = [run | {"experiment": "PaDiM"}, run | {"device": "a GPU, bfloat16"}]
    assert protocol.mixtures([run, run]) == []
    (said,) = protocol.mixtures([run, *others])
    assert said == "Trained on different devices: ADTR on Cups (a GPU, bfloat16; cpu, float32)."


def test_one_seed_is_said_to_tell_no_spread() -> None:
    plan = resolve("demo", PARAMS)
    more = dataclasses.replace(plan, study=plan.study.model_copy(update={"seeds": [0, 1]}))
    assert "One seed only" in protocol.about(plan, [])[0]
    assert "± is the standard deviation" in protocol.about(more, [])[0]


@pytest.mark.parametrize(("asked", "told"), [("float32", "8 × 8 tokens;"), ("bfloat16", "8 × 8 tokens, in bfloat16;")])
def test_features_that_are_not_in_float32_are_told(asked: str, told: str) -> None:
    plan = resolve("demo", PARAMS, settings={"features.precision": asked})
    assert told in protocol.about(plan, [])[1]


def credit(**changes: Any) -> dict[str, Any]:
    plan = resolve("paper", PARAMS)
    dataset = plan.datasets["mvtec"].model_copy(update=changes)
    own = dataclasses.replace(plan, datasets={"mvtec": dataset})
    return protocol.credits(own, read_sources(PARAMS / "sources.yaml"))[0]


def test_pictures_name_their_owners() -> None:
    mvtec, own = credit(root="/another/disk"), credit(root="/another/disk", benchmark=None)
    assert (mvtec["licence"], mvtec["by"][:14]) == ("CC BY-NC-SA 4.0", "P. Bergmann et")
    assert (own["licence"], own["by"]) == ("not known here", "images of your own")
    assert credit(layout="elpv")["page"] == "https://github.com/zae-bayern/elpv-dataset"
    assert credit(layout="cifar10", root="data/cifar-10-batches-py")["by"].startswith("A. Krizhevsky")


def test_pictures_of_published_data_sets_name_their_owners_where_they_are_fetched_to() -> None:
    plan, sources = resolve("paper", PARAMS), read_sources(PARAMS / "sources.yaml")
    known = {name: Dataset.model_validate(of) for name, of in read_yaml(PARAMS / "datasets.yaml").items()}
    published = {name: of for name, of in known.items() if of.layout in FOLDERS and not of.generated}
    assert len(published) == 7
    found = protocol.credits(dataclasses.replace(plan, datasets=published), sources)
    for name, told in zip(published, found, strict=True):
        assert told["by"]
        assert told["page"] == (sources[name].page if name in sources else "https://zenodo.org/records/12750201")
