"""The command line: help, refusals, and the stages typed by hand, from generated images to metrics."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from vouched import vouch
from workshop import usual_signals

from adtr import __version__
from adtr.cli import main
from adtr.config import PARAMS
from adtr.config.paths import Paths
from adtr.config.reader import read_yaml
from adtr.config.study import Plan, Run, studies
from adtr.data import findings
from adtr.data.manifest import write_manifest
from adtr.records import Record
from adtr.train.lock import locked

pytestmark = pytest.mark.usefixtures("elsewhere")

ADTR = Path(sys.executable).with_name("adtr")
NO_STUDY = ["fetch"]
OF_A_STUDY = ["tables", "plots", "report", "plan", "status", "cost", "verify", "prune"]
OF_A_TARGET = ["generate", "index", "shortcuts", "confetti", "outliers", "features", "train", "evaluate", "differences"]
OF_A_TARGET += ["figures"]
STUDY = ["--study", "smoke"]
RUN, PLUS = (Run("smoke_mvtec", experiment, "carpet", 0) for experiment in ("adtr", "adtr_plus"))


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What `adtr` says as it refuses; argparse exits with 2, a UserError with 1."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    if isinstance(stop.value.code, str):  # printed by the interpreter, with exit code 1
        return stop.value.code
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the images of one category were generated, indexed and run through the backbone."""
    folder = tmp_path_factory.mktemp("by hand")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["generate", *STUDY, "smoke_mvtec"])
        main(["index", *STUDY, "smoke_mvtec/carpet"])
        main(["features", *STUDY, "smoke_mvtec/adtr/carpet"])
    return folder


@pytest.fixture
def prepared(data: Path, tmp_path: Path) -> Path:
    """A folder of its own for a test that shares the data."""
    (tmp_path / "results").mkdir()
    for name in ("generated", "manifests", "features"):
        (tmp_path / "results" / name).symlink_to(data / "results" / name)
    return tmp_path


# Errors


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 604. TiB"), RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")]
)
def test_too_little_memory_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: object) -> None:
        raise error

    monkeypatch.setattr("adtr.cli._plan", call)
    with pytest.raises(SystemExit, match=r"adtr plan: not enough memory for these parameters and images: .*llocate"):
        main(["plan", *STUDY])


def test_an_error_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("adtr.cli._plan", call)
    with pytest.raises(RuntimeError):
        main(["plan", *STUDY])


# Help


@pytest.mark.parametrize("command", [*NO_STUDY, *OF_A_TARGET, *OF_A_STUDY])
def test_help_says_what_a_stage_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert ("--study" in text) == (command not in NO_STUDY)
    assert ("DATASET" in text) == (command in OF_A_TARGET)


@pytest.mark.parametrize(
    ("option", "words"), [("--help", {*NO_STUDY, *OF_A_TARGET, *OF_A_STUDY}), ("--version", {__version__})]
)
def test_help_lists_the_commands_and_the_version_is_the_packages(
    option: str, words: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([option])
    assert stop.value.code == 0
    assert words <= set(capsys.readouterr().out.split())


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["trian"], "invalid choice: 'trian'"),
        (["plan", *STUDY, "--nosuch", "1"], "unrecognized arguments: --nosuch"),
        *[([command], f"required: --study, one of {', '.join(studies())}") for command in OF_A_STUDY],
        *[([command, *STUDY], "the following arguments are required: DATASET") for command in OF_A_TARGET],
        (["fetch", "nope", "mvtec"], "adtr fetch: no source nope in "),
        (["fetch", "mvtec", "cifar10", "--url", "http://x"], "--url and --archive go with one NAME"),
        (["fetch", "--sources", "nope.yaml"], "nope.yaml: no such file"),
        (["tables", "--study", "smok"], "no study 'smok', did you mean 'smoke'?"),
        (["plan", *STUDY, "--set", "train.epochs"], "'train.epochs' is not of the form section.name=value"),
        (["plan", *STUDY, "--set", "train.epoch=3"], "unknown key, did you mean 'epochs'?"),
        (["generate", *STUDY, "smoke_mvtek"], "no data set 'smoke_mvtek', did you mean 'smoke_mvtec'?"),
        (["generate", "--study", "demo", "elpv"], "elpv: these images are not generated"),
        (["index", *STUDY, "smoke_mvtec"], "'smoke_mvtec': a name of the form DATASET/CATEGORY is expected"),
        (["index", *STUDY, "smoke_mvtec/screv"], "no category 'screv', did you mean 'screw'?"),
        (["index", *STUDY, "smoke_mvtec/screw"], "results/generated/smoke_mvtec: no such folder"),
        (["confetti", *STUDY, "smoke_mvtec/adtr/screw"], "smoke_mvtec/adtr: this experiment is not trained with"),
        (["features", *STUDY, "smoke_mvtec/adtr/screw"], "`adtr index --study smoke smoke_mvtec/screw` makes it"),
        (["features", *STUDY, "smoke_mvtec/adtr/screw", "--threads", "0"], "'0' is not a whole number from 1 on"),
        (["train", *STUDY, "smoke_mvtec/adtr/screw"], "of the form DATASET/EXPERIMENT/CATEGORY/SEED is expected"),
        (["train", *STUDY, "smoke_mvtec/adtr/screw/7"], "no seed '7'; known: 0"),
        (["train", *STUDY, str(RUN)], "`adtr index --study smoke smoke_mvtec/carpet` makes it"),
        (["train", *STUDY, str(PLUS)], f"`adtr train --study smoke {PLUS._replace(experiment='adtr')}` makes it"),
        (["evaluate", *STUDY, str(RUN)], f"`adtr train --study smoke {RUN}` makes it"),
        (["figures", *STUDY, "mvtec"], "no data set 'mvtec'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_stage_refuses_in_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(arguments, capsys)


ODD = ["a//b", "/", "..", "x" * 5000, "\udcff", "smoke_mvtec/adtr/carpet/٣", "$(touch pwned)", "-", "\n", ""]


@pytest.mark.parametrize("target", ODD, ids=map(ascii, ODD))
def test_an_odd_target_is_refused_in_a_short_message(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(["train", *STUDY, "--", target], capsys)
    assert message.startswith("adtr train: ")
    assert len(message) < 500


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--set", "outliers.dataset=中"], 1)])
def test_letters_that_a_terminal_lacks_stop_no_plan(words: list[str], code: int, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([ADTR, "plan", *STUDY, *words], cwd=tmp_path, capture_output=True, env=environment)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["outliers", "smoke_mvtec/adtr_plus"], "outliers"),
        (["confetti", "smoke_cifar10/adtr_plus/airplane"], "confetti"),
        (["confetti", "smoke_mvtec/adtr/carpet"], "confetti"),
    ],
)
def test_anomalies_of_another_kind_than_the_experiments_are_refused(
    words: list[str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, target = words
    experiment = "/".join(target.split("/")[:2])
    told = f"adtr {stage}: {experiment}: this experiment is not trained with {kind}"
    assert refusal([stage, *STUDY, target], capsys) == told


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "cuda:", "cuda:-1"])
def test_an_unknown_device_is_refused(device: str, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(["train", *STUDY, str(RUN), "--device", device], capsys)
    assert message == f"adtr train: device {device}: it is cpu, cuda, cuda:NUMBER or auto"
    assert not (prepared / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["fetch", "nope"], 1), (["train", "--study"], 2)], ids=["UserError", "argparse"]
)
def test_the_installed_command_refuses_without_a_traceback(arguments: list[str], code: int) -> None:
    done = subprocess.run([ADTR, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


# Stages by hand


def test_fetch_without_a_name_lists_the_sources(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fetch"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(read_yaml(PARAMS / "sources.yaml"))


def test_plan_shows_runs_first_and_parameters_on_request(capsys: pytest.CaptureFixture[str], smoke: Plan) -> None:
    words = ["plan", *STUDY, "--set", "train.lr=1e-3"]
    main(words)
    text = capsys.readouterr().out
    assert f"{len(list(smoke.runs()))} runs" in text
    assert "train.lr" not in text
    main([*words, "--parameters"])
    text = capsys.readouterr().out
    assert any(line.split()[:2] == ["train.lr", "0.001"] for line in text.splitlines())
    assert "initial learning rate of AdamW" in text


def test_confetti_is_written_beside_its_manifest(prepared: Path, smoke: Plan) -> None:
    target = "smoke_mvtec/adtr_plus/carpet"
    main(["confetti", *STUDY, target])
    main(["features", *STUDY, target, "--anomalies"])
    manifest, store = Paths(smoke).bank(*target.split("/")) or (Path(), Path())
    bank = pd.read_csv(manifest)
    files = {str(path.relative_to(manifest.parent)) for path in manifest.parent.rglob("*.png")}
    assert files == {*bank.image, *bank["mask"]}
    assert len(bank) == 2 * 12  # variants, training images
    assert Image.open(manifest.parent / bank.image[0]).size == (64, 64)
    assert len(np.load(store)) == len(bank)
    assert prepared in store.absolute().parents


def test_a_bank_that_failed_leaves_no_manifest_of_an_earlier_one(
    prepared: Path, smoke: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    target, paths = "smoke_mvtec/adtr_plus/carpet", Paths(smoke)
    main(["confetti", *STUDY, target])
    (bank, _), manifest = paths.bank(*target.split("/")) or (Path(), Path()), paths.manifest("smoke_mvtec", "carpet")
    rows = pd.read_csv(manifest, keep_default_na=False)
    (prepared / "results/manifests").unlink()
    manifest.parent.mkdir(parents=True)
    write_manifest(manifest, rows.assign(sha256=rows.sha256[::-1].to_numpy()))
    assert "changed since it was indexed" in refusal(["confetti", *STUDY, target], capsys)
    assert not bank.exists()


def test_what_is_warned_of_is_shown_and_recorded(
    prepared: Path, data: Path, smoke: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("generated", "manifests"):
        (prepared / "results" / name).unlink()
    shutil.copytree(data / "results/generated", prepared / "results/generated")
    images = prepared / "results/generated/smoke_mvtec/carpet"
    shutil.copy(images / "test/good/000.png", images / "train/good/900.png")
    main(["index", *STUDY, "smoke_mvtec/carpet"])
    assert caplog.messages == [f"smoke_mvtec/carpet: {findings.LEAKED} (1): carpet/test/good/000.png"]
    record = Record(Paths(smoke).manifest("smoke_mvtec", "carpet").with_suffix(".json"))
    assert record.values["warnings"] == {findings.LEAKED: ["carpet/test/good/000.png"]}


def test_outliers_are_drawn_from_generated_images(smoke: Plan) -> None:
    main(["generate", *STUDY, "smoke_cifar100"])
    main(["outliers", *STUDY, "smoke_cifar10/adtr_plus"])
    manifest, _ = Paths(smoke).bank("smoke_cifar10", "adtr_plus", "airplane") or (Path(), Path())
    drawn = pd.read_csv(manifest)
    assert len(set(drawn.image)) == len(set(drawn.defect)) == 24
    assert set(drawn.part) == {"outliers"}


@pytest.mark.parametrize("experiment", ["adtr", "padim"])
def test_train_and_evaluate_give_the_same_bytes_twice(experiment: str, prepared: Path) -> None:
    run = RUN._replace(experiment=experiment)
    folder, files = prepared / "results/smoke/runs" / str(run), []
    main(["train", *STUDY, str(run)])
    for _ in range(2):
        main(["evaluate", *STUDY, str(run)])
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]
    asked = yaml.safe_load((folder / "params.yaml").read_text())
    assert asked["seed"] == 0
    assert asked["train"]["epochs"] == 4 if experiment == "adtr" else "train" not in asked
    maps, scores = np.load(folder / "maps.npy"), pd.read_csv(folder / "scores.csv")
    assert (maps.shape, maps.dtype) == ((len(scores), 8, 8), np.float32)
    metrics = pd.read_csv(folder / "metrics.csv")
    labels = ["study", "dataset", "experiment", "category", "seed"]
    assert metrics.columns.tolist() == [*labels, "metric", "value", "note", "provenance"]
    assert metrics[labels].drop_duplicates().to_numpy().tolist() == [["smoke", *run]]
    assert metrics.provenance[0].startswith(f"results/smoke/runs/{run}@")
    curve = pd.read_csv(folder / "curve.csv")
    if experiment == "adtr":
        last = curve.pivot(index="epoch", columns="metric", values="value").loc[4].to_dict()
        assert last == metrics.set_index("metric").value[list(last)].to_dict()
        assert sorted(set(curve.epoch)) == [2, 4]
    else:
        assert curve.empty


def test_status_counts_the_runs_and_shows_trainings_at_work(
    prepared: Path, smoke: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", *STUDY, "smoke_mvtec/padim/carpet/0"])
    main(["train", *STUDY, str(RUN)])
    (prepared / "results/smoke/runs" / str(RUN) / "run.json").unlink()
    capsys.readouterr()
    others = len(list(smoke.runs())) - 2
    with locked(Paths(smoke).state(RUN)):
        main(["status", *STUDY])
    table, counts = capsys.readouterr().out.strip().split("\n\n")
    assert f"at work  {RUN}  4/4" in table
    assert counts == f"0 evaluated, 1 trained, 1 at work, 0 interrupted, {others} not begun"
    main(["status", *STUDY])
    table, counts = capsys.readouterr().out.strip().split("\n\n")
    assert f"interrupted  {RUN}  4/4" in table
    assert counts == f"0 evaluated, 1 trained, 0 at work, 1 interrupted, {others} not begun"


def test_a_run_of_other_parameters_is_not_evaluated(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RUN._replace(experiment="padim")
    main(["train", *STUDY, str(run), "--set", "padim.channels=7"])
    assert "trained with other parameters than the study's" in refusal(["evaluate", *STUDY, str(run)], capsys)
    assert not (prepared / "results/smoke/runs" / str(run) / "scores.csv").exists()
    main(["evaluate", *STUDY, str(run), "--set", "padim.channels=7"])


@pytest.mark.parametrize("key", ["weights", "code"])
def test_a_run_is_not_evaluated_on_features_made_otherwise(
    key: str, prepared: Path, smoke: Plan, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RUN._replace(experiment="padim")
    main(["train", *STUDY, str(run)])
    (prepared / "results/features").unlink()
    (store,) = Paths(smoke).stores(run)
    store.parent.mkdir(parents=True)
    store.symlink_to(data / store)
    vouch(store.with_suffix(".json"), Record((data / store).with_suffix(".json")).values | {key: "others"})
    message = refusal(["evaluate", *STUDY, str(run)], capsys)
    assert f"its {key} differ from those that results/smoke/runs/{run} was trained on" in message


def test_an_interrupted_training_ends_at_once_and_resumes(prepared: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["train", *STUDY, str(RUN), "--set", "train.epochs=60"]
    # a shell's background jobs, and so what they start, ignore SIGINT: a terminal's do not
    process = subprocess.Popen([ADTR, *arguments], stderr=subprocess.PIPE, text=True, preexec_fn=usual_signals)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("epoch 3/60"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert not (prepared / "results/smoke").exists()
    caplog.set_level("INFO")
    main(arguments)
    assert any(message.startswith("resumes after epoch ") for message in caplog.messages)
    assert len(pd.read_csv(prepared / "results/smoke/runs" / str(RUN) / "history.csv")) == 60
