"""Parameters: which level wins, what is refused and how that is told, and that the paper's values stand."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from adtr.config import PARAMS
from adtr.config.levels import flatten, parse_settings, unflatten
from adtr.config.paths import bank_key, feature_key
from adtr.config.reader import read_yaml
from adtr.config.schema import Features
from adtr.config.study import Plan, Run, resolve
from adtr.errors import UserError

STUDIES = sorted(path.stem for path in (PARAMS / "studies").glob("*.yaml"))

FILES = {
    "default.yaml": (PARAMS / "default.yaml").read_text(encoding="utf-8"),
    "datasets.yaml": "cups: {title: Cups, layout: mvtec, root: data/cups, categories: [cup, mug]}",
    "recipes.yaml": "short: {}",
    "experiments.yaml": "adtr: {title: ADTR}\nspade: {title: SPADE, set: {method: spade}}\nsmall: {title: Small}",
    "studies/mine.yaml": "{title: Mine, recipe: short, seeds: [3, 1], datasets: {cups: [adtr, spade]}}",
}


def write(folder: Path, changes: dict[str, str]) -> Path:
    """A folder of parameters that holds FILES with some of them changed."""
    for name, text in (FILES | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def study(**changes: Any) -> dict[str, str]:
    """The study `mine` with some of its keys changed."""
    return {"studies/mine.yaml": yaml.safe_dump(yaml.safe_load(FILES["studies/mine.yaml"]) | changes, sort_keys=False)}


def read(folder: Path, changes: dict[str, str] | None = None, settings: str = "", name: str = "mine") -> Plan:
    return resolve(name, write(folder, changes or {}), parse_settings(settings))


def errors(folder: Path, changes: dict[str, str] | None = None, settings: str = "", name: str = "mine") -> list[str]:
    """The lines of what `resolve` refuses to read, file names without their folder."""
    with pytest.raises(UserError) as caught:
        read(folder, changes, settings, name)
    return [line.strip() for line in str(caught.value).replace(f"{folder}/", "").splitlines()]


# Which value wins

LEVELS = ["default", "data set", "recipe", "study", "experiment", "overrides", "command line"]


@pytest.mark.parametrize("winner", range(len(LEVELS)), ids=LEVELS)
def test_the_last_level_that_sets_a_value_wins(tmp_path: Path, winner: int) -> None:
    level = [f"{{train: {{epochs: {100 + i}}}}}" if i <= winner else "{}" for i in range(len(LEVELS))]
    changes = {
        "default.yaml": FILES["default.yaml"].replace("epochs: 500", "epochs: 100"),
        "datasets.yaml": f"cups: {{title: Cups, layout: mvtec, root: x, categories: [cup], set: {level[1]}}}",
        "recipes.yaml": f"short: {level[2]}",
        "experiments.yaml": f"adtr: {{title: ADTR, set: {level[4]}}}",
        "studies/mine.yaml": "{title: Mine, recipe: short, seeds: [0], datasets: {cups: [adtr]}, "
        f"set: {level[3]}, overrides: {{adtr: {level[5]}}}}}",
    }
    plan = read(tmp_path, changes, settings="train.epochs=106" if winner == 6 else "")
    assert plan.params["cups", "adtr"].train.epochs == 100 + winner


def test_a_level_changes_nothing_that_it_does_not_name(tmp_path: Path) -> None:
    before = read(tmp_path).params["cups", "adtr"].model_dump()
    after = read(tmp_path, study(set={"train": {"epochs": 7}, "model": {}})).params["cups", "adtr"].model_dump()
    assert after["train"].pop("epochs") == 7
    assert before["train"].pop("epochs") == 500
    assert after == before


def test_overrides_reach_their_experiment_only(tmp_path: Path) -> None:
    plan = read(tmp_path, study(overrides={"spade": {"spade": {"neighbours": 2}}}))
    assert plan.params["cups", "spade"].model_dump()["spade"]["neighbours"] == 2
    assert plan.params["cups", "adtr"].model_dump()["spade"]["neighbours"] == 50


def test_dotted_and_nested_keys_mean_the_same(tmp_path: Path) -> None:
    nested, dotted = {"train": {"epochs": 7, "lr": 0.5}}, {"train.epochs": 7, "train.lr": 0.5}
    plans = [read(tmp_path, study(set=values)) for values in (nested, dotted)]
    assert plans[0].params["cups", "adtr"].model_dump() == plans[1].params["cups", "adtr"].model_dump()


def test_a_tree_survives_flattening() -> None:
    tree = {"a": {"b": {"c": 1, "d": [1, 2]}, "e": None}, "f": {}, "g": 0}
    flat = flatten(tree, "here")
    assert flat["a.b.d"] == ([1, 2], "here")
    errors: list[str] = []
    assert (unflatten(flat, errors), errors) == (tree, [])


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ("train.epochs=5 train.lr=1e-3", {"train.epochs": 5, "train.lr": 1e-3}),
        ("train.epochs=5,model.standardize=true", {"train.epochs": 5, "model.standardize": True}),
        ("features.layers=[1,5] train.epochs=5", {"features.layers": [1, 5], "train.epochs": 5}),
        ("features.layers=[1, 5],train.epochs=5", {"features.layers": [1, 5], "train.epochs": 5}),
        (" a=x=y ,, b=[1] c=[2, 3] ", {"a": "x=y", "b": [1], "c": [2, 3]}),
    ],
)
def test_settings_of_the_command_line(text: str, settings: dict[str, Any]) -> None:
    assert parse_settings(text) == settings


@pytest.mark.parametrize("text", ["train.epochs", "train.epochs 5", "features.layers=[1,", "model={"])
def test_settings_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UserError, match=r"^set: '"):
        parse_settings(text)


def test_settings_take_the_types_of_the_parameters(tmp_path: Path) -> None:
    settings = "train.lr=1e-3 features.layers=[4,5] model.standardize=true"
    params = read(tmp_path, settings=settings).params["cups", "adtr"]
    assert (params.train.lr, params.features.layers, params.model.standardize) == (0.001, (4, 5), True)


# What a study makes of it


def test_runs_are_in_the_order_of_the_study_and_chance_alone_has_seeds(tmp_path: Path) -> None:
    runs = list(read(tmp_path).runs())
    expected = [("adtr", c, s) for c in ("cup", "mug") for s in (3, 1)]
    expected += [("spade", c, 3) for c in ("cup", "mug")]  # nothing in it is random
    assert runs == [("cups", *run) for run in expected]


def test_a_run_has_one_name(tmp_path: Path) -> None:
    plan = read(tmp_path)
    assert str(plan.run("cups/adtr/mug/1")) == "cups/adtr/mug/1"
    assert plan.run("cups/adtr/mug/1") == Run("cups", "adtr", "mug", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cups/adtr/mug", "a name of the form DATASET/EXPERIMENT/CATEGORY/SEED is expected"),
        ("cups/adtr/mug/first", "no seed 'first'; known: 3, 1"),
        ("cup/adtr/mug/1", "no data set 'cup', did you mean 'cups'?"),
        ("cups/adt/muk/1", "no experiment 'adt', did you mean 'adtr'?"),
        ("cups/adt/muk/1", "no category 'muk', did you mean 'mug'?"),
        ("cups/adtr/mug/2", "no seed '2'; known: 3, 1"),
        ("cups/spade/mug/1", "no seed '1'; known: 3"),
    ],
)
def test_a_name_that_is_no_run_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read(tmp_path).run(name)


def test_a_study_may_define_its_own_data_set_and_change_another(tmp_path: Path) -> None:
    pots = {"title": "Pots", "layout": "mvtec", "root": "data/pots", "categories": ["pot"], "set": {"train.epochs": 9}}
    datasets = {"pots": ["adtr"], "cups": ["adtr"]}
    plan = read(tmp_path, study(datasets=datasets, define={"pots": pots, "cups": {"root": "/x"}}))
    assert list(plan.datasets) == ["pots", "cups"]
    assert plan.params["pots", "adtr"].train.epochs == 9
    assert plan.params["cups", "adtr"].train.epochs == 500
    assert (plan.datasets["cups"].root, plan.datasets["cups"].title) == ("/x", "Cups")


def test_categories_are_the_folders_that_hold_training_images(tmp_path: Path) -> None:
    hidden = [".ipynb_checkpoints/train/good", "__MACOSX/train/good"]
    for name in ("pan/train/good", "jug/train/good", "jar/train/bad", "lid/test/good", *hidden):
        (tmp_path / "cups" / name).mkdir(parents=True)
    text = f"cups: {{title: Cups, layout: mvtec, root: {tmp_path}/cups}}"
    plan = read(tmp_path, {"datasets.yaml": text})
    assert plan.datasets["cups"].categories == ["jug", "pan"]
    assert {category for _, _, category, _ in plan.runs()} == {"jug", "pan"}


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("cups/tea$pot/train/good", r"data set cups: the folders of cups: categories\.0: .* \(it is 'tea\$pot'\)"),
        ("cups/.pot/train/good", "data set cups: no folder in cups holds train/good: set its root or layout"),
        ("cups/pot/test/good", "data set cups: no folder in cups holds train/good: set its root or layout"),
    ],
)
def test_a_root_whose_folders_are_no_categories_is_told(tmp_path: Path, folder: str, told: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    text = f"cups: {{title: Cups, layout: mvtec, root: {tmp_path}/cups}}"
    heading, line = errors(tmp_path, {"datasets.yaml": text})
    assert heading == "1 error in the parameters:"
    assert re.fullmatch(told, line)


PLUS = {
    "experiments.yaml": "adtr: {title: ADTR}\nadtr_plus: {title: ADTR+, set: {method: adtr_plus}}\n"
    "small: {title: Small, set: {model: {width: 128}}}"
}


MUGS = FILES["datasets.yaml"] + "\nmugs: {title: Mugs, layout: cifar100, root: data/mugs, categories: [mug]}"


def plus(experiments: list[str], **changes: Any) -> dict[str, str]:
    return PLUS | study(datasets={"cups": experiments}, **changes)


STARTS = [
    (["adtr_plus"], "adtr", "adtr, which the study does not run there: add it"),
    (["adtr", "adtr_plus"], "adtr_plus", "adtr_plus, whose method is adtr_plus, not adtr"),
]


@pytest.mark.parametrize(("experiments", "start", "told"), STARTS)
def test_adtr_plus_starts_from_an_adtr_of_the_same_study(
    tmp_path: Path, experiments: list[str], start: str, told: str
) -> None:
    assert read(tmp_path, plus(["adtr", "adtr_plus"])).params["cups", "adtr_plus"].adtr_plus.start == "adtr"
    lines = errors(tmp_path, plus(experiments), f"adtr_plus.start={start}")
    assert f"studies/mine.yaml: datasets.cups: adtr_plus: starts from {told}" in lines


def test_adtr_plus_is_of_the_same_network_as_its_start(tmp_path: Path) -> None:
    told = "studies/mine.yaml: datasets.cups: adtr_plus: its features or model are not those of small, its start"
    assert told in errors(tmp_path, plus(["adtr", "small", "adtr_plus"]), "adtr_plus.start=small")


def test_confetti_is_for_images_in_files(tmp_path: Path) -> None:
    cifar = {"datasets.yaml": FILES["datasets.yaml"].replace("mvtec", "cifar10")}
    assert any(
        "confetti is for images in files" in line for line in errors(tmp_path, plus(["adtr", "adtr_plus"]) | cifar)
    )


def test_outliers_come_from_a_data_set_that_is_known_and_that_the_study_may_move(tmp_path: Path) -> None:
    outliers = {"adtr_plus.anomalies": "outliers", "outliers.dataset": "mugs"}
    mugs, experiments = {"datasets.yaml": MUGS}, ["adtr", "adtr_plus"]
    assert not read(tmp_path, plus(experiments) | mugs).outliers
    assert list(read(tmp_path, plus(experiments, set=outliers) | mugs).outliers) == ["mugs"]
    moved = plus(experiments, set=outliers, define={"mugs": {"root": "elsewhere"}})
    assert read(tmp_path, moved | mugs).outliers["mugs"].root == "elsewhere"
    assert any("no data set 'mugs'" in line for line in errors(tmp_path, plus(experiments, set=outliers)))
    own = outliers | {"outliers.dataset": "cups"}
    assert any("outliers of the data set itself" in line for line in errors(tmp_path, plus(experiments, set=own)))


def test_the_name_of_a_bank_changes_with_what_decides_its_images(tmp_path: Path) -> None:
    settings = ["", "confetti.seed=1", "features.image_size=512", "train.epochs=9", "outliers.seed=1"]
    outliers = "adtr_plus.anomalies=outliers outliers.dataset=mugs "
    settings += [outliers + more for more in ("", "outliers.seed=1", "confetti.seed=1")]
    changes = plus(["adtr", "adtr_plus"]) | {"datasets.yaml": MUGS}
    names = [bank_key(read(tmp_path, changes, setting).params["cups", "adtr_plus"]) for setting in settings]
    assert names[0] == names[3] == names[4]
    assert names[5] == names[7]
    assert len(set(names)) == 5


def test_sections_of_a_method_are_its_networks_or_its_own(tmp_path: Path) -> None:
    found = {
        method: read(tmp_path, settings=f"method={method}").params["cups", "adtr"].method_sections()
        for method in ("adtr", "spade", "autoencoder")
    }
    assert found == {"adtr": ["model", "train"], "spade": ["spade"], "autoencoder": ["train", "autoencoder"]}


def test_the_dump_is_yaml_that_holds_every_resolved_value_that_decides_a_number(tmp_path: Path) -> None:
    plan = read(tmp_path)
    content = yaml.safe_load(plan.dump())
    assert content["study"]["name"] == "mine"
    assert content["datasets"]["cups"]["categories"] == ["cup", "mug"]
    for (dataset, experiment), params in plan.params.items():
        written = content["params"][f"{dataset}/{experiment}"]
        dumped = params.model_dump(mode="json")
        assert type(params).model_validate(dumped | written).model_dump(mode="json") == dumped
        assert {"spade", "adtr_plus"} & set(written) == {params.method} & {"spade", "adtr_plus"}


def test_a_section_of_a_method_that_a_study_does_not_run_is_no_part_of_it(tmp_path: Path) -> None:
    plans = [read(tmp_path, settings=f"autoencoder.{name}") for name in ("width=8", "width=16", "latent=2")]
    assert len({plan.dump() for plan in plans}) == 1


def test_parameters_cannot_be_changed_once_read(tmp_path: Path) -> None:
    params = read(tmp_path).params["cups", "adtr"]
    with pytest.raises(ValidationError, match="frozen"):
        params.train.epochs = 3
    with pytest.raises(ValidationError, match="frozen"):
        params.method = "spade"


# What is refused

REFUSED = {
    "train.epoch=5": "command line: train.epoch: unknown key, did you mean 'epochs'?",
    "training.epochs=5": "command line: training: unknown key, did you mean 'train'?",
    "spade.neighbors=5": "command line: spade.neighbors: unknown key, did you mean 'neighbours'?",
    "train.epochs=many": "command line: train.epochs: Input should be a valid integer",
    "train.epochs=0": "command line: train.epochs: Input should be greater than 0 (it is 0)",
    "train.epochs=2.5": "command line: train.epochs: Input should be a valid integer",
    "train.epochs=": "command line: train.epochs: Input should be a valid integer (it is None)",
    "train=5": "command line: train: Input should be a valid dictionary",
    "train.lr=.inf": "command line: train.lr: Input should be a finite number (it is inf)",
    "train.lr=.nan": "command line: train.lr: Input should be a finite number (it is nan)",
    "train.lr_drop_at=1.5": "command line: train.lr_drop_at: Input should be less than or equal to 1 (it is 1.5)",
    "train.precision=half": "command line: train.precision: Input should be 'auto', 'float32' or 'bfloat16'",
    "model.dropout=1": "command line: model.dropout: Input should be less than 1 (it is 1)",
    "model.standardize=maybe": "command line: model.standardize: Input should be a valid boolean",
    "score.image_score=median": "command line: score.image_score: Input should be 'max' or 'mean'",
    "features.backbone=vgg16": "command line: features.backbone: Input should be 'efficientnet_b0'",
    "features.layers=[]": "command line: features.layers: Tuple should have at least 1 item",
    "features.layers=[0,1]": "command line: features.layers.0: Input should be greater than or equal to 1 (it is 0)",
    "features.layers=[2,1]": "command line: features.layers: layers must ascend, each once (it is [2, 1])",
    "features.layers=[1,1]": "command line: features.layers: layers must ascend, each once (it is [1, 1])",
    "method=vgg": "command line: method: Input should be 'adtr', 'adtr_plus', ",
    "method=../../x": "command line: method: Input should be 'adtr', ",
    "spade.kappa=all": "command line: spade.kappa: Input should be a valid integer",
    "features.image_size=2147483616": "command line: features.image_size: Input should be less than or equal to 16384",
    "train.threads=2147483647": "command line: train.threads: Input should be less than or equal to 1024",
    "train.lr=true": "command line: train.lr: Input should be a valid number (it is True)",
    "train.epochs='5'": "command line: train.epochs: Input should be a valid integer (it is '5')",
    "patchcore.neighbourhood=2": "command line: patchcore.neighbourhood: an odd number is expected (it is 2)",
    "patchcore.coreset_ratio=7": "command line: patchcore.coreset_ratio: Input should be less than or equal to 1",
    "residual.equal_scale=true residual.shared=true": "default.yaml and command line: residual: equal_scale: ",
    "confetti.blur=24": "command line: confetti.blur: an odd number is expected (it is 24)",
    "model.heads=3": "default.yaml and command line: model: width 256 is not a multiple of heads 3",
    "features.grid_size=24 features.backbone=pixels": "default.yaml and command line: features: image_size",
    "features.grid_size=257": "default.yaml and command line: features: image_size 256 is not a multiple of",
    "features.grid_size=24 method=adtr_plus": "default.yaml: method adtr_plus: image_size 256 is not a",
    "features.image_size=16": "default.yaml and command line: features: image_size 16 is less than 32",
}


@pytest.mark.parametrize(("setting", "told"), REFUSED.items(), ids=REFUSED.keys())
def test_an_impossible_value_is_refused_with_its_key_and_source(tmp_path: Path, setting: str, told: str) -> None:
    heading, line = errors(tmp_path, study(datasets={"cups": ["adtr"]}), setting)
    assert heading == "1 error in the parameters:"
    assert line.startswith(told)


def cups(**more: str) -> str:
    """datasets.yaml with more keys of the data set."""
    return FILES["datasets.yaml"].replace("}", "".join(f", {key}: {value}" for key, value in more.items()) + "}")


# By file: what is changed in it, and what is said
IN_A_STUDY: list[tuple[dict[str, Any], str]] = [
    ({"seeds": [10**23]}, "seeds.0: Input should be less than 4294967296"),
    ({"seeds": [True]}, "seeds.0: Input should be a valid integer (it is True)"),
    ({"seeds": [0, 0]}, "seeds: one of them stands twice"),
    ({"datasets": {"cups": []}}, "datasets.cups: List should have at least 1 item"),
    ({"datasets": {"cups": ["adtr", "adtr"]}}, "cups: one of them stands twice"),
    ({"title": "=1+1"}, "title: a title is expected, which does not begin with ="),
    ({"title": " \n"}, "title: a title is expected"),
    ({"title": "\u200b \ufeff"}, "title: a title is expected"),
    ({"define": {"cups": {"note": "a\ab"}}}, "cups: note: holds '\\x07', which is no sign of a line of text"),
    ({"seeds": []}, "seeds: List should have at least 1 item"),
    ({"seeds": [0, -1]}, "seeds.1: Input should be greater than or equal to 0"),
    ({"datasets": {}}, "datasets: Dictionary should have at least 1"),
    ({"recipes": "short"}, "recipes: unknown key, did you mean 'recipe'?"),
    ({"recipe": "sort"}, "no recipe 'sort', did you mean 'short'?; known: short"),
    ({"datasets": {"cup": ["adtr"]}}, "datasets: no data set 'cup', did you mean 'cups'?; known: cups"),
    (
        {"datasets": {"cups": ["adrt"]}},
        "datasets.cups: no experiment 'adrt', did you mean 'adtr'?; known: adtr, spade, small",
    ),
    ({"overrides": {"spad": {}}}, "overrides: no experiment 'spad', did you mean 'spade'?"),
    ({"define": {"cup": {"root": "/x"}}}, "define: no data set 'cup', did you mean 'cups'?"),
    ({"set": {"train": {"epochs": "x"}}}, "set: train.epochs: Input should be a valid integer"),
    ({"overrides": {"adtr": {"train.epochs": "x"}}}, "overrides.adtr: train.epochs: Input should be a valid integer"),
    (
        {"define": {"cups": {"set": {"train.epochs": "x"}}}},
        "define: cups.set: train.epochs: Input should be a valid int",
    ),
]
IN_A_FILE = [
    ("datasets.yaml", cups(set="{train: {epochs: x}}"), "cups.set: train.epochs: Input should be a valid integer"),
    (
        "datasets.yaml",
        cups().replace("mvtec", "coco"),
        "cups: layout: Input should be 'mvtec', 'btad', 'visa', 'dagm', 'kolektorsdd', 'kolektorsdd2', 'cifar10', "
        "'cifar100' or 'elpv' (it is 'coco')",
    ),
    ("datasets.yaml", cups().replace("mug", "cup"), "cups: a category stands twice"),
    ("datasets.yaml", cups().replace("mug", "../mug"), "cups: categories.1: no category may hold '/'"),
    *(
        ("datasets.yaml", cups().replace("mug", name), f"cups: categories.1: {told}")
        for name, told in {
            '"$(touch pwned)"': "no category may hold '$'",
            "'{A}'": "no category may hold '{'",
            '"a\\nb"': "no category may hold '\\n'",
            '"\\u200b"': "no category may hold '\\u200b'",
            "'..'": "the name of a folder is expected",
            "mean": "the name of a folder is expected",
            "' x'": "the name of a folder is expected",
            "x" * 101: "the name of a folder is expected",
            "7": "Input should be a valid string (it is 7: put it in quotes)",
            "null": "Input should be a valid string (it is None)",
        }.items()
    ),
    *(
        ("datasets.yaml", cups().replace("mvtec", layout).replace("cup, mug", name), f"cups: no category {told}")
        for layout, name, told in [
            ("cifar10", "trucks", "'trucks', did you mean 'truck'?"),
            ("cifar100", "appel", "'appel', did you mean 'apple'?"),
            ("elpv", "cup", "'cup'; known: mono, poly"),
        ]
    ),
    ("datasets.yaml", cups().replace("Cups", '"a\\0b"'), "cups: title: holds '\\x00', which is no sign of a line"),
    ("datasets.yaml", cups().replace("data/cups", '"a\\0"'), "cups: root: holds '\\x00'"),
    ("datasets.yaml", cups() + "\n7: {}", "7: a name is of letters, digits, _ . and -, in quotes"),
    ("experiments.yaml", FILES["experiments.yaml"] + "\na/b: {title: B}", "'a/b': a name is of letters"),
    (
        "datasets.yaml",
        "cups: {title: C, layout: cifar10, root: x}",
        "cups: categories may be left out in the layouts mvtec, btad, visa",
    ),
    (
        "datasets.yaml",
        cups(generated="{images: 9, size: 31}"),
        "cups: generated.size: Input should be greater than or equal to 32 (it is 31)",
    ),
    (
        "datasets.yaml",
        cups(generated="{images: 9, size: 64, seeds: 1}"),
        "cups: generated.seeds: unknown key, did you mean 'seed'?",
    ),
    ("datasets.yaml", cups() + "\npots:", "pots: a mapping is expected (it is None)"),
    ("recipes.yaml", "short: {train: {epochs: x}}", "short: train.epochs: Input should be a valid integer"),
    ("recipes.yaml", "short: {}\nlong:", "long: a mapping is expected (it is None)"),
    ("experiments.yaml", FILES["experiments.yaml"] + "\nnew: {set: {}}", "new: title: Field required"),
    (
        "experiments.yaml",
        "adtr: {title: ADTR, set: {train: {epochs: x}}}\nspade: {title: SPADE}",
        "adtr.set: train.epochs: Input should be a valid integer",
    ),
    ("default.yaml", FILES["default.yaml"].replace("epochs: 500", ""), "train.epochs: Field required"),
]
MISTAKES = [
    ("studies/mine.yaml", study(**changes)["studies/mine.yaml"], told) for changes, told in IN_A_STUDY
] + IN_A_FILE


@pytest.mark.parametrize(("file", "text", "told"), MISTAKES, ids=[f"{file}: {told}" for file, _, told in MISTAKES])
def test_a_mistake_in_a_file_is_told_with_the_file(tmp_path: Path, file: str, text: str, told: str) -> None:
    heading, line = errors(tmp_path, {file: text})
    assert heading == "1 error in the parameters:"
    assert line.startswith(f"{file}: {told}")


def test_an_unknown_study_is_told_with_those_known(tmp_path: Path) -> None:
    told = "studies: no study 'mien', did you mean 'mine'?; known: mine"
    assert errors(tmp_path, name="mien") == ["1 error in the parameters:", told]


def test_all_errors_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    changes = study(datasets={"cups": ["adtr", "gone"], "pots": ["adtr"]}, set={"train": {"epochs": -1, "lr": "fast"}})
    changes |= {
        "datasets.yaml": FILES["datasets.yaml"] + "\npots: {title: Pots, layout: elpv, root: x, seeds: 1}",
        "experiments.yaml": FILES["experiments.yaml"] + "\nbad: {titel: Bad}",
        "recipes.yaml": "short: {model: {depth: 3}}",
    }
    heading, *lines = errors(tmp_path, changes, "score.pooling=0")
    assert heading == "8 errors in the parameters:"
    assert [line.partition(" (it is")[0].partition(": Input")[0] for line in lines] == [
        "experiments.yaml: bad: title: Field required",
        "experiments.yaml: bad: titel: unknown key, did you mean 'title'?",
        "datasets.yaml: pots: seeds: unknown key, did you mean 'seed'?",
        "recipes.yaml: short: model.depth: unknown key, did you mean 'width'?",
        "studies/mine.yaml: set: train.epochs",
        "studies/mine.yaml: set: train.lr",
        "command line: score.pooling",
        "studies/mine.yaml: datasets.cups: no experiment 'gone'; known: adtr, spade, small",
    ]


def test_an_unknown_recipe_data_set_or_section_hides_no_other_error(tmp_path: Path) -> None:
    """But what keys mean together is not told, as levels are lacking: `heads` divides no width of the default's."""
    changes = study(recipe="shrot", datasets={"cusp": ["adtr"]}, set={"train": {"epochs": -1}, "model": {"heads": 7}})
    heading, *lines = errors(tmp_path, changes, "train.lr.drop=1 score.pooling=0")
    assert heading == "5 errors in the parameters:"
    assert [line.partition(" (it is")[0].partition(": Input")[0].partition("; known")[0] for line in lines] == [
        "studies/mine.yaml: no recipe 'shrot', did you mean 'short'?",
        "studies/mine.yaml: datasets: no data set 'cusp', did you mean 'cups'?",
        "command line: train.lr.drop: lr is a value, not a section",
        "studies/mine.yaml: set: train.epochs",
        "command line: score.pooling",
    ]


NOT_YAML = {
    "key twice": (b"short: {}\nshort: {}", "not valid YAML: key 'short' stands twice in .*line 1"),
    "key twice, deeper": (b"short: {train: {lr: 1, lr: 2}}", "not valid YAML: key 'lr' stands twice"),
    "bracket left open": (b"short: {train: [1", "not valid YAML: while parsing"),
    "tab": (b"short:\n\ttrain: 1", "not valid YAML: while scanning"),
    "no text": (b"\x89PNG\r\n\xff", "not valid YAML"),
    "list": (b"- short", "a mapping is expected"),
    "empty": (b"", "a mapping is expected"),
}


@pytest.mark.parametrize(("content", "told"), NOT_YAML.values(), ids=NOT_YAML.keys())
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    write(tmp_path, {})
    (tmp_path / "recipes.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"/recipes\.yaml: {told}"):
        resolve("mine", tmp_path)


def test_a_missing_folder_of_parameters_says_how_to_install(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder: install the package from its checkout"):
        resolve("paper", tmp_path / "params")


@pytest.mark.parametrize("what", ["experiments", "data sets"])
def test_two_of_one_title_are_refused(tmp_path: Path, what: str) -> None:
    """Tables name their rows by titles."""
    again = {"experiments.yaml": FILES["experiments.yaml"] + "\nspade_b: {title: ' SPADE ', set: {method: spade}}"}
    changes = study(datasets={"cups": ["spade", "spade_b"]}) | again
    told = "experiments of one title, SPADE: spade, spade_b: change it of all but one"
    if what == "data sets":
        told = "data sets of one title, Cups: cups, mugs: change it of all but one"
        changes = study(datasets={"cups": ["adtr"], "mugs": ["adtr"]})
        changes |= {"datasets.yaml": cups() + "\nmugs: {title: Cups, layout: mvtec, root: x, categories: [mug]}"}
    assert errors(tmp_path, changes) == ["1 error in the parameters:", f"studies/mine.yaml: {told}"]


def test_a_title_is_one_line_of_any_letters(tmp_path: Path) -> None:
    plan = read(tmp_path, study(title="生产线 {A} ${HOME}\n 4 ✓ Ω \u200b 😀\n"))
    assert plan.study.title == "生产线 {A} ${HOME} 4 ✓ Ω \u200b 😀"


@pytest.mark.parametrize("name", ["a b", "-x", "v1.2", "$(touch pwned)", "007", "мой"])
def test_a_study_is_named_safely_or_refused(tmp_path: Path, name: str) -> None:
    changes = {f"studies/{name}.yaml": FILES["studies/mine.yaml"]}
    if name in ("v1.2", "007"):
        assert read(tmp_path, changes, name=name).name == name
    else:
        told = f"studies: {name!r}: a name is of letters, digits, _ . and -, in quotes where it reads as a number"
        assert errors(tmp_path, changes, name=name)[1] == f"{told}: rename the file"


@pytest.mark.parametrize("root", ["~/cups", "package:cups"])
def test_the_root_of_a_data_set_is_expanded_in_the_plan(
    tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cups/jug/train/good").mkdir(parents=True)
    (tmp_path / "cups/__init__.py").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    plan = read(tmp_path, {"datasets.yaml": f"cups: {{title: Cups, layout: mvtec, root: '{root}'}}"})
    assert plan.datasets["cups"].categories == ["jug"]


@pytest.mark.parametrize("root", ["~nobody_here/cups", "package:no_such", "package:", "package:../x", "${HOME}/cups"])
def test_a_root_that_is_none_is_told(tmp_path: Path, root: str) -> None:
    (line,) = errors(tmp_path, {"datasets.yaml": f"cups: {{title: Cups, layout: mvtec, root: '{root}'}}"})[1:]
    assert line.startswith("data set cups: ")
    assert not root.startswith("~") or line.endswith(f"root {root}: no such user: write the folder in full")


@pytest.mark.parametrize("text", ["=5", "a=1 a=2", "a=&x [*x]", "a=" + "[" * 5000, "a=\ud800", "a=2024-13-45"])
def test_odd_settings_are_refused_in_a_short_message(text: str) -> None:
    with pytest.raises(UserError, match=r"^set: ") as caught:
        parse_settings(text)
    assert len(str(caught.value)) < 600


def test_many_blanks_in_brackets_take_no_time() -> None:
    assert parse_settings(f"a=[{' ' * 100_000}]") == {"a": []}


# Names and options made of parameters

# Each parameter of the features with two values
VALUES: dict[str, tuple[Any, Any]] = {
    "backbone": ("resnet18", "resnet34"),
    "weights": ("random", "imagenet"),
    "layers": ([2, 3], [2, 4]),
    "image_size": (64, 128),
    "grid_size": (8, 16),
    "precision": ("float32", "bfloat16"),
}


def key_of(**changes: Any) -> str:
    return feature_key(Features.model_validate({name: first for name, (first, _) in VALUES.items()} | changes))


def test_the_feature_key_is_what_stores_on_disk_are_named_by() -> None:
    """Another key would have all features computed again."""
    assert key_of() == key_of(layers=(2, 3)) == "resnet18-64px-8x8-9d6db29d"


@pytest.mark.parametrize("name", Features.model_fields)
def test_the_feature_key_changes_with_every_parameter(name: str) -> None:
    assert key_of(**{name: VALUES[name][1]}) != key_of()


# The files of this repository


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_resolves(name: str) -> None:
    plan = resolve(name, PARAMS)
    assert set(plan.params) == {(d, e) for d, names in plan.study.datasets.items() for e in names}
    assert len(list(plan.runs())) > 0


def fixed(value: Any, cifar10: Any = None) -> tuple[Any, Any]:
    return value, value if cifar10 is None else cifar10


# params/default.yaml and docs/protocol.md: (MVTec-AD, CIFAR-10)
PAPER = {
    "method": fixed("adtr"),
    "features.backbone": fixed("efficientnet_b4"),
    "features.weights": fixed("imagenet"),
    "features.layers": fixed([1, 2, 3, 4, 5]),
    "features.image_size": fixed(256, cifar10=32),
    "features.grid_size": fixed(16, cifar10=8),
    "features.precision": fixed("float32"),
    "model.width": fixed(256),
    "model.encoder_layers": fixed(4),
    "model.decoder_layers": fixed(4),
    "model.heads": fixed(8),
    "model.ffn_width": fixed(1024),
    "model.dropout": fixed(0.1),
    "train.epochs": fixed(500),
    "train.batch_size": fixed(16, cifar10=128),
    "train.lr": fixed(1e-4),
    "train.lr_drop_at": fixed(400 / 500),
    "train.lr_drop_factor": fixed(0.1),
    "train.weight_decay": fixed(1e-4),
    "train.grad_clip": fixed(0.0),
    "score.pooling": fixed(1),
    "score.image_score": fixed("max"),
}


@pytest.mark.parametrize(("key", "values"), PAPER.items(), ids=PAPER.keys())
def test_the_default_is_the_papers(key: str, values: tuple[Any, Any]) -> None:
    plan = resolve("paper", PARAMS)
    for dataset, value in zip(("mvtec", "cifar10"), values, strict=True):
        resolved = flatten(plan.params[dataset, "adtr"].model_dump(mode="json"), "")
        assert resolved[key][0] == value, dataset


def test_the_paper_is_run_with_several_seeds_on_both_data_sets() -> None:
    plan = resolve("paper", PARAMS)
    assert len(set(plan.study.seeds)) >= 3
    assert [len(plan.datasets[name].categories) for name in ("mvtec", "cifar10")] == [15, 10]


@pytest.mark.parametrize("file", ["experiments.yaml", "recipes.yaml", "datasets.yaml"])
def test_a_variant_holds_only_what_differs(file: str) -> None:
    default = flatten(read_yaml(PARAMS / "default.yaml"), "")
    recipes = [flatten(recipe, "") for recipe in read_yaml(PARAMS / "recipes.yaml").values()]
    for name, entry in read_yaml(PARAMS / file).items():
        changes = entry if file == "recipes.yaml" else entry.get("set", {})
        for key, (value, _) in flatten(changes, "").items():
            before = [default[key][0]]
            if file == "experiments.yaml":  # they stand above the recipe
                before += [recipe[key][0] for recipe in recipes if key in recipe]
            assert any(value != other for other in before), f"{name}: {key} is the default"


# The paper's numbers


def paper(table: int) -> list[dict[str, str]]:
    with (PARAMS / f"paper/table{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_method(table: int) -> dict[str, dict[str, str]]:
    """Method -> category -> what is printed."""
    methods: dict[str, dict[str, str]] = {}
    for row in paper(table):
        printed = methods.setdefault(row["method"], {})
        assert row["category"] not in printed
        printed[row["category"]] = row["value"]
    return methods


@pytest.mark.parametrize(("table", "dataset"), [(1, "mvtec"), (2, "mvtec"), (3, "cifar10")])
def test_every_row_of_the_paper_covers_the_data_set(table: int, dataset: str) -> None:
    categories = read_yaml(PARAMS / "datasets.yaml")[dataset]["categories"]
    for method, printed in by_method(table).items():
        assert list(printed) == [*categories, "mean"], method
