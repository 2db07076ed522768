"""The command line: help, refusals, and the stages run by hand on a small feature store."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
import yaml
from PIL import Image

from adtr import __version__
from adtr.cli import main
from adtr.config.methods import Model, Train
from adtr.config.schema import Confetti, Features, Score, Section, read_yaml
from adtr.files import sha256

ADTR = Path(sys.executable).with_name("adtr")
TRAIN = ["--manifest", "--features", "--device", "--method", "--seed", "--state", "--output"]
OPTIONS: dict[str, list[str]] = {
    "fetch": ["NAME", "--sources", "--root", "--url", "--archive"],
    "generate": ["--layout", "--root", "--categories", "--images", "--size", "--seed"],
    "index": ["--layout", "--root", "--category", "--output", "--seed", "--train-share"],
    "confetti": [
        "--manifest",
        "--root",
        "--image-size",
        "--output",
        *(option(Confetti, k) for k in Confetti.model_fields),
    ],
    "outliers": ["--layout", "--root", "--output", "--outliers.count", "--outliers.seed"],
    "features": ["--manifest", "--root", "--part", "--output", "--sources", "--threads", "--device"],
    "train": [*TRAIN, "--padim.channels", "--padim.epsilon", "--spade.neighbours", "--kde.coreset"],
    "evaluate": ["--run", "--manifest", "--features", "--root", "--label", "--threads", "--device", "--output"],
    "differences": ["--run", "--manifest", "--features", "--root", "--seed", "--count", "--device", "--output"],
    "tables": ["--study", "--set", "--layout", "--output"],
    "figures": ["--study", "--set", "--dataset", "--category", "--kind", "--results", "--output"],
    "report": ["--study", "--set", "--results", "--output"],
    "plan": ["--study", "--set"],
}
SECTIONS: dict[str, list[type[Section]]] = {"features": [Features], "train": [Model, Train], "evaluate": [Score]}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(planted.REPOSITORY)


@pytest.fixture
def case(tmp_path: Path) -> planted.Case:
    return planted.write(tmp_path / "case", *planted.features())


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What `adtr` says as it refuses; argparse exits with 2, a UserError with 1."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    if isinstance(stop.value.code, str):  # printed by the interpreter, with exit code 1
        return stop.value.code
    assert stop.value.code == 2
    return capsys.readouterr().err


def training(case: planted.Case, folder: Path, *options: str) -> list[str]:
    paths = {"manifest": case.manifest, "features": case.store, "state": folder / "state", "output": folder / "run"}
    return ["train", "--device", "cpu", *(word for k, v in paths.items() for word in (f"--{k}", str(v))), *options]


def small(**changes: Any) -> list[str]:
    params = planted.params(**changes)
    return as_options(params.model, params.train).split()


# Help


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_the_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    fields = [f"--{field.replace('_', '-')}" for section in SECTIONS.get(command, []) for field in section.model_fields]
    words = set(text.replace(",", " ").replace("[", " ").replace("]", " ").split())
    assert {*OPTIONS[command], *fields} <= words


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert [word for word in listed if word in OPTIONS] == list(OPTIONS)


def test_help_shows_the_papers_values_as_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--epochs VALUE passes over the training images [500]" in text
    assert "--lr VALUE initial learning rate of AdamW [0.0001]" in text
    assert "--heads VALUE attention heads [8]" in text


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")


# Refusals


@pytest.mark.parametrize("arguments", [[], ["trian"], ["plan", "--study", "smoke", "--nosuch", "1"]], ids=str)
def test_an_unknown_command_or_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(arguments, capsys)
    assert ([*arguments, "COMMAND"] if len(arguments) < 2 else ["--nosuch"])[0] in message


@pytest.mark.parametrize("command", [name for name in OPTIONS if name != "fetch"])
def test_a_missing_option_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal([command], capsys)
    assert "the following arguments are required: --" in message


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("epochs", "0", "greater than 0 (it is '0')"),
        ("epochs", "ten", "valid integer"),
        ("lr", "-1", "greater than 0"),
        ("lr", "nan", "finite"),
        ("lr-drop-at", "1.5", "less than or equal to 1"),
        ("dropout", "1", "less than 1"),
        ("standardize", "maybe", "valid boolean"),
        ("precision", "float8", "'auto', 'float32' or 'bfloat16'"),
        ("spade.neighbours", "few", "valid integer"),
        ("padim.epsilon", "small", "valid number"),
        ("seed", "-1", "'-1' is not a whole number from 0 on"),
        ("seed", "first", "'first' is not a whole number from 0 on"),
        ("device", "gpu", "it is cpu, cuda or auto"),
        ("device", "cpu:0", "it is cpu, cuda or auto"),
    ],
)
def test_a_wrong_value_is_told_with_its_option(
    option: str, value: str, reason: str, case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal([*training(case, tmp_path), f"--{option}", value], capsys)
    assert f"--{option}:" in message or f"argument --{option}:" in message or f"--{option} {value}:" in message
    assert reason in message
    assert "adtr train: " in message
    assert not (tmp_path / "state").exists()


def test_all_wrong_values_are_told_at_once(
    case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(training(case, tmp_path, "--epochs", "0", "--heads", "none", "--padim.channels", "x"), capsys)
    assert message.splitlines()[0] == "adtr train: the options do not fit:"
    assert sorted(line.split(":")[0] for line in message.splitlines()[1:]) == [
        "  --epochs",
        "  --heads",
        "  --padim.channels",
    ]


def test_values_that_do_not_fit_together_are_told(
    case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(training(case, tmp_path, "--width", "32", "--heads", "3"), capsys)
    assert message == "adtr train: the options do not fit:\n  width 32 is not a multiple of heads 3"


@pytest.mark.parametrize(
    ("layers", "reason"),
    [("1,9", "less than or equal to 5 (it is '9')"), ("2,1", "must ascend"), ("", "valid integer"), ("a", "valid int")],
)
def test_wrong_layers_are_told_with_their_option(
    layers: str, reason: str, case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--manifest", str(case.manifest), "--root", "x", "--part", "planted"]
    output = ["--output", str(tmp_path / "planted.npy")]
    message = refusal(["features", *common, *output, f"--layers={layers}"], capsys)
    assert "--layers: " in message
    assert reason in message


def test_a_store_must_carry_its_parts_name(
    case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["features", "--manifest", str(case.manifest), "--root", "x", "--part", "planted", "--output"]
    assert "carries its part's name, planted.npy" in refusal([*command, str(tmp_path / "f.npy")], capsys)


EVALUATE = ["evaluate", "--run", "r", "--manifest", "m", "--features", "f", "--root", "x", "--output", "o"]
CONFETTI = ["confetti", "--manifest", "m", "--root", "x", "--image-size", "32", "--output", "o"]
OUTLIERS = ["outliers", "--layout", "cifar100", "--root", "nowhere", "--output", "o"]
GENERATE = ["generate", "--root", "g", "--images", "3", "--layout"]
FIGURES = ["figures", "--study", "smoke", "--category", "screw", "--output", "o"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "nope", "mvtec"], "adtr fetch: no source nope in params/sources.yaml; known: mvtec, cifar10,"),
        (["fetch", "mvtec", "cifar10", "--url", "http://x"], "--url and --archive go with one NAME"),
        (["fetch", "--sources", "nope.yaml"], "nope.yaml: no such file"),
        ([*GENERATE, "imagenet"], "argument --layout: invalid choice: 'imagenet'"),
        ([*GENERATE, "mvtec", "--images", "0"], "argument --images: '0' is not a whole number from 1 on"),
        ([*GENERATE, "mvtec", "--size", "-64"], "argument --size: '-64' is not a whole number from 1 on"),
        (["index", "--category", "c", "--output", "o", "--root", "r", "--layout", "voc"], "--layout: Input should be"),
        (["index", "--category", "c", "--output", "o", "--root", "r"], "--layout: Field required"),
        ([*CONFETTI, "--image-size", "0"], "argument --image-size: '0' is not a whole number from 1 on"),
        ([*CONFETTI, "--confetti.sigma", "0"], "--confetti.sigma: Input should be greater than 0 (it is '0')"),
        (
            [*CONFETTI, "--confetti.smallest", "55"],
            "adtr confetti: the options do not fit:\n  smallest 55 is more than",
        ),
        ([*OUTLIERS, "--outliers.count", "0"], "--outliers.count: Input should be greater than 0 (it is '0')"),
        (OUTLIERS, "adtr outliers: nowhere/meta: no such file: `adtr fetch` gets CIFAR's"),
        (
            [*OUTLIERS, "--layout", "elpv"],
            "adtr outliers: the data set: outliers come from cifar10 or cifar100, not elpv",
        ),
        ([*EVALUATE, "--threads", "0"], "argument --threads: '0' is not a whole number from 1 on"),
        ([*EVALUATE, "--label", "seed"], "argument --label: 'seed' is not of the form KEY=VALUE"),
        (EVALUATE, "adtr evaluate: r/params.yaml: no such file"),
        (["tables", "--study", "nope", "--output", "o"], "params/studies: no study 'nope'; known: "),
        (["plan", "--study", "smoke", "--set", "train.epochs"], "'train.epochs' is not of the form section.name=value"),
        (["plan", "--study", "smoke", "--set", "train.epoch=3"], "unknown key, did you mean 'epochs'?"),
        ([*FIGURES, "--dataset", "mvtec"], "--dataset mvtec: the study smoke has smoke_mvtec, smoke_cifar10"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_stage_refuses_in_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(arguments, capsys)


def test_a_method_that_is_not_there_is_named(
    case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(training(case, tmp_path, "--method", "guess"), capsys)
    assert message == "adtr train: method: there is no guess.py in adtr/methods"


@pytest.mark.parametrize("option", ["--manifest", "--features"])
def test_a_file_that_is_not_there_is_named(
    option: str, case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal([*training(case, tmp_path), option, str(tmp_path / "absent/planted.npy")], capsys)
    assert message.startswith("adtr train: ")
    assert "absent/planted.npy" in message


def test_a_part_without_images_is_refused(
    case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "screws.npy"
    common = ["--manifest", str(case.manifest), "--root", "x", "--output", str(store)]
    message = refusal(["features", *common, "--part", "screws"], capsys)
    assert message == f"adtr features: --part screws: {case.manifest} has planted"
    assert not store.exists()


def test_outside_the_repository_the_message_says_so(
    case: planted.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(training(case, tmp_path), capsys)
    assert message == "adtr train: params/default.yaml: no such file (run from the root of the repository)"


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["fetch", "nope"], 1, "nope"),
        (["generate", "--layout", "mvtec", "--root", "x", "--images", "0"], 2, "--images"),
        (
            ["index", "--category", "c", "--output", "o", "--root", "r", "--layout", "elpv", "--train-share=2"],
            1,
            "--train",
        ),
    ],
    ids=["UserError", "argparse", "parameter"],
)
def test_the_installed_command_refuses_without_a_traceback(arguments: list[str], code: int, named: str) -> None:
    done = subprocess.run([ADTR, *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout == ""
    assert named in done.stderr
    assert "Traceback" not in done.stderr


# Stages by hand


def test_fetch_without_a_name_lists_the_sources(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fetch"])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(read_yaml(Path("params/sources.yaml")))


def test_plan_shows_the_parameters_and_counts_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "--study", "smoke", "--set", "train.epochs=7"])
    text = capsys.readouterr().out
    shown = yaml.safe_load(text)
    assert shown["params"]["smoke_mvtec/adtr"]["train"]["epochs"] == 7
    assert text.endswith("# 60 runs\n")  # 11 and 4 experiments, 2 categories, 2 seeds


def test_confetti_by_hand_writes_the_copies_beside_their_manifest(mvtec_root: Path, tmp_path: Path) -> None:
    manifest, output = tmp_path / "manifest.csv", tmp_path / "bank/screw.csv"
    main(["index", "--layout", "mvtec", "--root", str(mvtec_root), "--category", "screw", "--output", str(manifest)])
    command = ["confetti", "--manifest", str(manifest), "--root", str(mvtec_root), "--image-size", "32"]
    main([*command, "--confetti.variants", "2", "--output", str(output)])
    bank = pd.read_csv(output)
    assert bank.columns.tolist() == [*pd.read_csv(manifest).columns, "source"]
    files = {str(path.relative_to(output.parent)) for path in output.parent.rglob("*.png")}
    assert files == {*bank.image, *bank["mask"]}
    assert len(bank) == 2 * 6
    assert Image.open(output.parent / bank.image[0]).size == (32, 32)


def test_a_bank_that_failed_leaves_no_manifest_of_an_earlier_one(
    mvtec_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, output = tmp_path / "manifest.csv", tmp_path / "bank/screw.csv"
    main(["index", "--layout", "mvtec", "--root", str(mvtec_root), "--category", "screw", "--output", str(manifest)])
    command = ["confetti", "--manifest", str(manifest), "--root", str(mvtec_root), "--image-size", "32"]
    main([*command, "--confetti.variants", "1", "--output", str(output)])
    rows = pd.read_csv(manifest, keep_default_na=False)
    rows.assign(sha256=rows.sha256[::-1].to_numpy()).to_csv(manifest, index=False)
    assert "changed since it was indexed" in refusal([*command, "--output", str(output)], capsys)
    assert not output.exists()


def test_outliers_by_hand_are_drawn_from_generated_images(tmp_path: Path) -> None:
    root, output = tmp_path / "cifar-100-python", tmp_path / "outliers.csv"
    main(["generate", "--layout", "cifar100", "--root", str(root), "--images", "1"])
    main(["outliers", "--layout", "cifar100", "--root", str(root), "--output", str(output), "--outliers.count", "30"])
    drawn = pd.read_csv(output)
    assert len(set(drawn.image)) == len(set(drawn.defect)) == 30
    assert set(drawn.part) == {"outliers"}


def test_train_takes_what_is_not_given_from_the_default_parameters(case: planted.Case, tmp_path: Path) -> None:
    main(training(case, tmp_path, "--epochs", "1", "--encoder-layers", "1", "--seed", "4"))
    asked = yaml.safe_load((tmp_path / "run/params.yaml").read_text())
    default = read_yaml(Path("params/default.yaml"))
    assert asked["seed"] == 4
    assert asked["model"] == default["model"] | {"encoder_layers": 1}
    assert asked["train"] == default["train"] | {"epochs": 1}


@pytest.mark.parametrize("method", ["adtr", "padim"])
def test_train_and_evaluate_by_hand_find_the_planted_anomalies(method: str, case: planted.Case, tmp_path: Path) -> None:
    manifest = pd.read_csv(case.manifest, keep_default_na=False, dtype={"sha256": str})
    for name, token in zip(manifest["mask"].tail(8), planted.ANOMALIES, strict=True):
        if token is not None:
            mask = np.zeros(planted.SIDE**2, np.uint8)
            mask[token] = 255
            grid = Image.fromarray(mask.reshape(planted.SIDE, planted.SIDE))
            grid.resize((32, 32), Image.Resampling.NEAREST).save(tmp_path / name)
            manifest.loc[manifest["mask"] == name, "mask_sha256"] = sha256(tmp_path / name)
    manifest.to_csv(case.manifest, index=False)
    main(training(case, tmp_path, "--method", method, *small(), "--snapshots", "4"))
    for attempt in ("first", "second"):
        inputs = ["--run", str(tmp_path / "run"), "--manifest", str(case.manifest), "--features", str(case.store)]
        folders = ["--root", str(tmp_path), "--output", str(tmp_path / attempt), "--device", "cpu"]
        labels = ["--label", "dataset=planted", f"experiment={method}", "--image-score", "mean"]
        main(["evaluate", *inputs, *folders, *labels])
    files = [{path.name: path.read_bytes() for path in (tmp_path / a).iterdir()} for a in ("first", "second")]
    assert files[0] == files[1]
    assert set(files[0]) == {"maps.npy", "scores.csv", "metrics.csv", "curve.csv", "evaluation.json"}
    maps = np.load(tmp_path / "first/maps.npy")
    assert (maps.shape, maps.dtype) == ((8, 4, 4), np.float32)
    scores = pd.read_csv(tmp_path / "first/scores.csv")
    assert scores.image.tolist() == manifest.image.tolist()[-8:]
    assert scores.pred_score.tolist() == scores.score_mean.tolist()
    metrics = pd.read_csv(tmp_path / "first/metrics.csv")
    assert metrics.columns.tolist() == ["dataset", "experiment", "metric", "value", "note", "provenance"]
    assert set(metrics.dataset) == {"planted"}
    values = metrics.set_index("metric").value
    curve = pd.read_csv(tmp_path / "first/curve.csv")
    if method == "adtr":
        assert curve.pivot(index="epoch", columns="metric", values="value").loc[40].to_dict() == values.to_dict()
        assert sorted(set(curve.epoch)) == [10, 20, 30, 40]
    else:
        assert curve.empty
    assert values["image_auroc_max"] == 100
    assert values["pixel_auroc"] > 90
    assert metrics.provenance[0].startswith(f"{tmp_path / 'run'}@")


OTHER_FEATURES = planted.FEATURES | {"layers": [2]}


@pytest.mark.parametrize(("key", "value"), [("weights", "others"), ("code", "edited"), ("features", OTHER_FEATURES)])
def test_a_run_is_not_evaluated_on_features_made_otherwise(
    key: str, value: object, case: planted.Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(training(case, tmp_path, "--method", "padim", *small()))
    description = case.store.with_suffix(".json")
    description.write_text(json.dumps(json.loads(description.read_text()) | {key: value}))
    inputs = ["--run", str(tmp_path / "run"), "--manifest", str(case.manifest), "--features", str(case.store)]
    message = refusal(["evaluate", *inputs, "--root", str(tmp_path), "--output", str(tmp_path / "out")], capsys)
    assert f"its {key} differ from those that {tmp_path / 'run'} was trained on" in message
    assert not (tmp_path / "out").exists()


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_ends_a_training_at_once_and_it_can_be_resumed(
    case: planted.Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = training(case, tmp_path, *small(train={"epochs": 100}))
    # a shell's background jobs, and so what they start, ignore SIGINT: a terminal's do not
    process = subprocess.Popen([ADTR, *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=_interruptible)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("epoch 3/100"):
            break
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert "Traceback" not in rest
    assert not (tmp_path / "run").exists()
    caplog.set_level("INFO")
    main(arguments)
    assert caplog.messages[0].startswith("resumes after epoch ")
    assert len(pd.read_csv(tmp_path / "run/history.csv")) == 100
