"""Paths, inputs and digests of the rules, as functions of wildcards: no Snakemake, no PyTorch."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from snakemake.cli import parse_config

from adtr.config import PARAMS, study
from adtr.config.paths import Paths
from adtr.data.manifest import COLUMNS, write_manifest
from adtr.device import device_of, has_gpu
from adtr.errors import UserError
from adtr.workflow import TARGETS, Workflow, digest, failures


class Wildcards(dict[str, Any]):
    """As Snakemake's: a mapping whose keys are attributes, too."""

    __getattr__ = dict.__getitem__


def workflow(study: str = "smoke", settings: str = "") -> Workflow:
    return Workflow({"study": study, "set": settings})


def of(run: str) -> Wildcards:
    return Wildcards(run=run)


SMOKE = workflow()
MVTEC = SMOKE.paths.keys["smoke_mvtec"]


def test_an_unknown_word_of_the_configuration_is_refused_with_the_order_of_words() -> None:
    with pytest.raises(UserError, match=r"not studdy.*put targets before --config"):
        Workflow({"studdy": "smoke"})


def test_every_target_that_is_listed_is_one() -> None:
    rules = "".join(
        path.read_text() for path in [PARAMS.parent / "Snakefile", *(PARAMS.parent / "workflow/rules").glob("*.smk")]
    )
    assert all(f"\nrule {name}:\n" in rules for name in TARGETS if not name.startswith("table"))


def test_a_run_reads_its_category_and_the_features_of_its_parameters() -> None:
    run = of("smoke_mvtec/adtr/carpet/0")
    assert SMOKE.manifest(run) == [f"results/manifests/{MVTEC}/carpet.{suffix}" for suffix in ("csv", "json")]
    store, record = SMOKE.stores(run)
    assert store.startswith(f"results/features/{MVTEC}/efficientnet_lite0-64px-8x8-")
    assert Path(record) == Path(store).with_suffix(".json")
    assert SMOKE.train_store(run) == [store, record]
    assert SMOKE.origin(run) == []
    assert SMOKE.stores(of("smoke_mvtec/no_query/carpet/0")) == [store, record]
    assert SMOKE.stores(of("smoke_mvtec/autoencoder/carpet/0")) != [store, record]
    cifar = of("smoke_cifar10/adtr/airplane/0")
    assert [Path(store).stem for store in SMOKE.stores(cifar)[::2]] == ["train_airplane", "test"]
    assert Path(SMOKE.train_store(cifar)[0]).stem == "train_airplane"


def test_adtr_plus_starts_from_the_run_of_its_category_and_seed() -> None:
    *begun, manifest, _, store, _ = SMOKE.origin(of("smoke_mvtec/adtr_plus/carpet/0"))
    folder = "results/smoke/runs/smoke_mvtec/adtr/carpet/0"
    assert begun == [f"{folder}/run.json", f"{folder}/model.safetensors"]
    assert manifest.startswith(f"results/confetti/{MVTEC}/confetti-64px-")
    assert store.startswith(f"results/features/{MVTEC}/")
    assert Path(manifest).stem == Path(store).stem == "carpet"


@pytest.mark.parametrize("study", ["smoke", "demo", "screw", "cifar10", "paper"])
def test_every_store_of_a_study_is_traced_back_to_what_makes_it(study: str) -> None:
    flow = workflow(study)
    stores = [path for path in flow.features if path.endswith(".npy")]
    assert stores
    for path in stores:
        names = ["data", "key", "bank", "part"] if len(Path(path).parts) == 6 else ["data", "key", "part"]
        wildcards = Wildcards(zip(names, Path(path).with_suffix("").parts[2:], strict=True))
        made = flow.store(wildcards)
        assert str(made.manifest) in flow.features or "bank" not in wildcards
        dataset, experiment, part = flow.store_name(wildcards).split("/")
        again = flow.paths.bank(dataset, experiment, part) if "bank" in wildcards else None
        assert str(again[1] if again else flow.paths.store(dataset, experiment, part)) == path


def test_a_bank_is_made_of_the_data_set_that_it_lies_under() -> None:
    """Two data sets of one study may have banks of the same name."""
    flow = workflow("smoke")
    other = flow.plan.datasets["smoke_mvtec"].model_copy(update={"root": "elsewhere"})
    added = {("line", e): flow.plan.params["smoke_mvtec", e] for e in ("adtr", "adtr_plus")}
    datasets = flow.plan.datasets | {"line": other}
    flow.plan = replace(flow.plan, datasets=datasets, params=flow.plan.params | added)
    flow.paths = Paths(flow.plan)
    for dataset in ("smoke_mvtec", "line"):
        manifest, _ = flow.paths.bank(dataset, "adtr_plus", "carpet") or (Path(), Path())
        wildcards = Wildcards(data=manifest.parts[-3], bank=manifest.parts[-2], category="carpet")
        assert flow.bank_name(wildcards) == f"{dataset}/adtr_plus"


def test_a_store_of_no_experiment_is_refused() -> None:
    with pytest.raises(UserError, match="mvtec-000000: not a data set of the study smoke"):
        SMOKE.dataset(Wildcards(data="mvtec-000000"))
    with pytest.raises(UserError, match="no experiment of the study smoke has the features nope"):
        SMOKE.store(Wildcards(data=MVTEC, key="nope", part="carpet"))


ALL_TRAININGS = {f"train {name}" for name in ("adtr", "adtr_plus", "padim", "patchcore", "autoencoder")}
CHANGES = {
    "score.pooling=2": {"evaluate"},
    "train.save_minutes=1": set(),
    "train.lr=0.001": {"train adtr", "train adtr_plus", "train autoencoder"},
    "padim.channels=7": {"train padim"},
    "confetti.seed=1": {"train adtr_plus"},
    "features.grid_size=16": {"features", *ALL_TRAININGS},
}


def decided(flow: Workflow) -> dict[str, object]:
    """Digests, and paths that have one, by what they decide."""
    runs = {name: of(f"smoke_mvtec/{name.removeprefix('train ')}/carpet/0") for name in ALL_TRAININGS}
    trainings = {name: flow.train_decisive(run) for name, run in runs.items()}
    run = runs["train adtr"]
    return trainings | {"evaluate": flow.evaluate_decisive(run), "features": flow.stores(run)}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_setting_changes_what_it_decides_and_nothing_else(setting: str) -> None:
    before, after = decided(SMOKE), decided(workflow(settings=setting))
    assert {name for name in before if before[name] != after[name]} == CHANGES[setting]


def test_networks_get_a_gpu_and_baselines_none() -> None:
    runs = {e: SMOKE.gpus(of(f"smoke_mvtec/{e}/carpet/0")) for e in ("adtr", "autoencoder", "padim", "patchcore")}
    assert runs == {"adtr": 1, "autoencoder": 1, "padim": 0, "patchcore": 0}


@pytest.mark.parametrize(
    ("torch", "visible", "device", "expected"),
    [
        ("2.13.0+cu130", None, "nvidia0", True),
        ("2.13.0", "0", "nvidia11", True),
        ("2.13.0", None, "nvidiactl", False),  # a driver without a GPU
        ("2.13.0", "", "nvidia0", False),
        ("2.13.0+cpu", None, "nvidia0", False),
    ],
)
def test_a_training_takes_a_slot_of_a_gpu_where_there_is_one(
    torch: str, visible: str | None, device: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("adtr.device.version", lambda _: torch)
    (tmp_path / device).touch()
    assert has_gpu(tmp_path) == expected
    monkeypatch.setattr("adtr.workflow.has_gpu", lambda: expected)
    flow = workflow()
    assert (flow.whole_gpu, flow.quarter_gpu, flow.features_threads) == ((4, 1, 16) if expected else (0, 0, 2))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "this machine has a GPU that PyTorch"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0"}, "this job has a GPU that PyTorch"),
        ({"SLURM_JOB_ID": "7"}, ""),  # a job without a GPU on a node that has one
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ""),  # as Slurm may say it
    ],
    ids=["here", "hidden", "job", "job without", "no device files"],
)
def test_a_gpu_that_pytorch_cannot_use_is_told(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("adtr.device.version", lambda _: "2.13.0")
    monkeypatch.setattr("pathlib.Path.glob", lambda *_: iter([Path("/dev/nvidia0")]))
    if not told:
        assert device_of("auto") == "cpu"
    else:
        with pytest.raises(UserError, match=told):
            device_of("auto")


def test_every_attempt_asks_for_more_up_to_the_longest_job() -> None:
    run, flow = of("mvtec/adtr/screw/0"), workflow("paper")
    asked = [flow.train_minutes(run, attempt) for attempt in (1, 2, 1000)]
    assert asked[0] < asked[1] == 2 * asked[0]
    assert asked[2] == flow.cluster.longest
    assert flow.train_memory(run, 2) == 2 * flow.train_memory(run, 1)
    assert flow.train_memory(of("mvtec/adtr_plus/screw/0"), 1) > flow.train_memory(run, 1)
    assert flow.evaluate_memory(run, 2) == 2 * flow.evaluate_memory(run, 1)
    bank = flow.evaluate_memory(of("mvtec/spade/screw/0"), 1)  # its model is the training images
    assert bank > flow.evaluate_memory(run, 1) > flow.cluster.memory


@pytest.mark.usefixtures("elsewhere")
def test_a_data_set_that_is_neither_here_nor_indexed_is_missing(tmp_path: Path) -> None:
    flow = workflow("screw")
    assert flow.missing_data() == ["MVTec-AD: data/mvtec"]
    (tmp_path / "results/manifests" / flow.paths.keys["mvtec"]).mkdir(parents=True)
    assert flow.missing_data() == []
    assert workflow("demo").missing_data() == []  # comes with a package


@pytest.mark.usefixtures("elsewhere")
def test_a_category_that_its_folder_lacks_is_missing_before_the_first_job(tmp_path: Path) -> None:
    flow, good = workflow("distance_mvtec"), tmp_path / "data/mvtec/bottle/train/good"
    (tmp_path / "data/mvtec").mkdir(parents=True)
    none = "MVTec-AD: bottle and screw in data/mvtec, where there is no folder that holds train/good"
    assert flow.missing_data() == [none]
    good.mkdir(parents=True)
    assert flow.missing_data() == ["MVTec-AD: screw in data/mvtec, where there is bottle"]
    manifest = flow.paths.manifest("mvtec", "screw")
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    assert flow.missing_data() == []


@pytest.mark.usefixtures("elsewhere")
def test_weights_that_are_neither_here_nor_used_before_are_missing() -> None:
    flow = workflow("paper")
    file = Path(flow.sources["efficientnet_b4"].destination)
    missing = flow.missing_weights()
    assert f"Weights of efficientnet_b4: {file}" in missing
    assert len(set(missing)) == len(missing) > 1
    file.parent.mkdir(parents=True)
    file.touch()
    assert flow.missing_weights() == [line for line in missing if "efficientnet_b4" not in line]
    file.unlink()
    for dataset, experiment in flow.plan.params:
        flow.paths.store(dataset, experiment, "train").parent.mkdir(parents=True, exist_ok=True)
    assert flow.missing_weights() == []
    assert workflow("smoke").missing_weights() == []  # random weights


@pytest.mark.usefixtures("elsewhere")
def test_what_was_warned_of_as_images_were_indexed_is_shown_in_short() -> None:
    flow = workflow("smoke")
    assert flow.data_warnings() == []
    for name, names in {"smoke_mvtec/carpet": ["a"], "smoke_mvtec/screw": ["a", "b", "c", "d"]}.items():
        manifest = pd.DataFrame(columns=COLUMNS)
        manifest.attrs["warnings"] = {"odd": names}
        write_manifest(flow.paths.manifest(*name.split("/")), manifest)
    assert flow.data_warnings() == ["smoke_mvtec/carpet: odd (1): a", "smoke_mvtec/screw: odd (4): a, b, c and 1 more"]
    screw = flow.paths.manifest("smoke_mvtec", "screw")
    screw.write_text("of other images")
    (line,) = flow.data_warnings()
    assert f"{screw}: damaged" in line
    screw.with_suffix(".json").write_text("{}")
    (line,) = flow.data_warnings()
    assert f"{screw.with_suffix('.json')}: damaged" in line
    manifests = {str(flow.paths.manifest(*names)) for names in flow.plan.categories()}
    assert manifests <= set(flow.features)
    assert [Path(name).suffix for name in flow.manifest_records] == [".json"] * len(manifests)


def test_settings_are_quoted_for_the_shell() -> None:
    flow = workflow(settings="train.epochs=5 features.layers=[1,5]")
    assert flow.options == "--study smoke --set='train.epochs=5 features.layers=[1,5]'"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of parameters whose studies have names that Snakemake takes for numbers, or a shell for a command."""
    params = shutil.copytree(PARAMS, tmp_path / "params")
    for name in ("007", "2024_11", "1e3", "a b", "$(touch pwned)", "a{b}", "true", "8", "08", "features"):
        (params / f"studies/{name}.yaml").write_text((PARAMS / "studies/smoke.yaml").read_text())
    for function in (study.resolve, study.studies):
        defaults = tuple(params if value == PARAMS else value for value in function.__defaults__ or ())
        monkeypatch.setattr(function, "__defaults__", defaults)
    return params


@pytest.mark.parametrize(
    ("word", "name"),
    [("007", "007"), ("2024_11", "2024_11"), ("1e3", "1e3"), ("!!str 08", "08"), ("true", "true"), ("demo", "demo")],
)
@pytest.mark.usefixtures("named")
def test_a_study_is_found_by_a_name_that_reads_as_a_number(word: str, name: str) -> None:
    assert Workflow(parse_config([f"study={word}"])).name == name


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("8", "study=8 may be 08 or 8: type --config 'study=!!str 08'"),
        ("9", "no study '9'"),
        ("", "no study ''"),
        ("[a]", "no study"),
        ("a b", "'a b': a name is of letters, digits, _ . and -"),
        ("$(touch pwned)", "a name is of letters, digits, _ . and -"),
        ("a{b}", "a name is of letters, digits, _ . and -"),
        ("features", "results/ and reports/ hold another folder of that name: rename the file"),
    ],
)
@pytest.mark.usefixtures("named")
def test_a_study_of_an_unsafe_or_doubtful_name_is_refused_before_any_job(word: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        Workflow(parse_config([f"study={word}"]))


def test_a_category_may_hold_dots_and_blanks() -> None:
    flow = workflow()
    categories = ["-x", "v1.2", "a b 'c' %s Я"]
    other = flow.plan.datasets["smoke_mvtec"].model_copy(update={"categories": categories})
    flow.plan = replace(flow.plan, datasets=flow.plan.datasets | {"smoke_mvtec": other})
    flow.paths = Paths(flow.plan)
    for category in categories:
        store = flow.stores(of(f"smoke_mvtec/adtr/{category}/0"))[0]
        data, key, file = Path(store).parts[-3:]
        wildcards = Wildcards(data=data, key=key, part=file.removesuffix(".npy"))
        assert flow.store_name(wildcards) == f"smoke_mvtec/adtr/{category}"


def test_a_digest_is_of_values() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_the_last_message_of_each_failed_log_is_found(tmp_path: Path) -> None:
    logs = {
        "fine.log": "epoch 1/2\nepoch 2/2\n",
        "refused.log": "epoch 1/2\nadtr train: two problems:\n  first\n  second\n",
        "deep/broken.log": "Traceback (most recent call last):\n  File x\nValueError: no\n",
        "old.log": "adtr train: before\n",
    }
    for name, text in logs.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    os.utime(tmp_path / "old.log", (0, 0))
    assert failures(tmp_path, since=1) == [
        f"{tmp_path}/deep/broken.log:\n  ValueError: no",
        f"{tmp_path}/refused.log:\n  adtr train: two problems:\n  first\n  second",
    ]
