"""The stages without data sets: every command by hand, recorded steps, the study `smoke`, the benchmarks."""

import csv
import json
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from visit import Stage, Visit, kill

MACHINE = """
import adtr, torch
from importlib.metadata import version
from adtr.provenance import device_name, record
from adtr.train.context import precision
device = "cuda" if torch.cuda.is_available() else "cpu"
print(record("train"))
print({name: version(name) for name in ("numpy", "pandas", "pillow", "scikit-learn", "snakemake")})
print("device:", device_name(device), "; train.precision auto:", precision("auto", device))
print("adtr:", adtr.__file__)
"""
GPU = "name,driver_version,memory.total,memory.used,compute_mode,clocks.sm,clocks.max.sm,temperature.gpu,power.draw"
DIRECT = """title: Generated screws
recipe: fast
seeds: [0]
datasets: {smoke_mvtec: [adtr]}
define: {smoke_mvtec: {categories: [screw], generated: {images: 24, size: 64}}}
set:
  features: {backbone: efficientnet_lite0}
  model: {width: 64, encoder_layers: 1, decoder_layers: 1, heads: 4, ffn_width: 64, dropout: 0.1}
"""
RUN = "smoke_mvtec/adtr/screw/0"
# tests of what is not packed: committed reports, git, packages that serve, export and look at pages
NOT_TESTED = ["tests/docs", "tests/faults", "tests/predict/test_export.py", "tests/predict/test_service.py",
              "tests/report/test_report.py"]  # fmt: skip


def direct(stage: Stage) -> None:
    """Each command of `adtr` by hand; whether a training gives the same bytes again, killed or not, recorded or not."""
    gpu_state(stage, "machine.txt")
    stage.run([stage.visit.python, "-c", MACHINE], "machine.txt", 60)
    tiny, first = stage.visit.settings.tiny, stage.visit.folder / "direct/launched"
    study = DIRECT + f"  train: {{epochs: {8 if tiny else 60}, batch_size: 16, save_minutes: {0 if tiny else 0.01}}}\n"
    (stage.visit.project / "params/studies/direct.yaml").write_text(study)
    first.mkdir(parents=True, exist_ok=True)
    data = ("generate smoke_mvtec", "index smoke_mvtec/screw", "features smoke_mvtec/adtr/screw")
    for words in ("plan", *data):
        stage.run(["adtr", *words.split(), "--study", "direct"], "direct.log", 120, first)
    names = ["launched", "launched_killed"]
    if not stage.visit.settings.cpu:  # steps are recorded on a GPU only
        names += ["launched_again", "recorded", "recorded_again", "recorded_killed"]
        names += ["deterministic", "deterministic_again", "deterministic_killed"]
    stage.together(*(lambda name=name: train(stage, first, name) for name in names))
    for name in [name for name in names if "_" not in name]:
        stage.run(_words("evaluate", name), "direct.log", 60, first.with_name(name))
        for path in (first.with_name(name) / "results/direct/runs" / RUN).glob("*.[cj]s*"):
            shutil.copyfile(path, stage.folder / f"{name}-{path.name}")
    stage.run(["adtr", "status", "--study", "direct"], "direct.log", 60, first)
    (stage.folder / "bytes.txt").write_text(compared_bytes(first.parent, names))


def gpu_state(stage: Stage, log: str) -> None:
    if not stage.visit.settings.cpu:
        stage.run(["nvidia-smi", f"--query-gpu={GPU}", "--format=csv"], log, 20)


def train(stage: Stage, first: Path, name: str) -> None:
    """Trains in a working folder of its own with the features of the `first`; a `_killed` one is resumed."""
    folder = first.with_name(name)
    if folder != first:
        (folder / "results").mkdir(parents=True, exist_ok=True)
        for shared in ("generated", "manifests", "features"):
            if not (folder / "results" / shared).exists():
                (folder / "results" / shared).symlink_to(first / "results" / shared)
    if name.endswith("killed"):
        with (stage.folder / f"{name}.log").open("a") as log:
            process, until = stage.start(_words("train", name), log, folder), time.time() + 60
            while process.poll() is None and not list(folder.glob("state/**/state.pt")) and time.time() < until:
                time.sleep(0.01)
            running = process.poll() is None
            kill(process)
        stage.note(f"{name}: {'killed after its first state' if running else 'ended before it could be killed'}")
    stage.run(_words("train", name), f"{name}.log", 90, folder)


def _words(command: str, name: str) -> list[str]:
    capture, deterministic = (str(name.startswith(word)).lower() for word in ("recorded", "deterministic"))
    settings = f"train.capture={capture} train.deterministic={deterministic}"
    return ["adtr", command, "--study", "direct", "--set", settings, RUN]


def compared_bytes(folder: Path, names: list[str]) -> str:
    """The digest of each model, and which are equal."""
    records = {name: folder / name / "results/direct/runs" / RUN / "run.json" for name in names}
    digests = {name: json.loads(path.read_text())["model"] for name, path in records.items() if path.is_file()}
    lines = [f"{name:18} {digest[:16]}" for name, digest in digests.items()]
    lines += [f"{name:18} not trained" for name in names if name not in digests]
    for a, b in combinations(digests, 2):
        if b.startswith(a) or (a, b) == ("launched", "recorded"):
            lines.append(f"{a} and {b}: {'the same bytes' if digests[a] == digests[b] else 'OTHER bytes'}")
    return "\n".join(lines) + "\n"


def recorded(stage: Stage) -> None:
    """The tests of steps that are recorded as a CUDA graph."""
    pytest(stage, ["tests/train/test_loop.py", "-k", "recorded or leave_the_host"], "recorded.txt", 150)


def pytest(stage: Stage, words: Sequence[str], log: str, seconds: float) -> None:
    """Runs tests, and notes which failed."""
    stage.run([stage.visit.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words], log, seconds)
    if failed := re.findall(r"^(?:FAILED|ERROR) (\S+)", last_run(stage.folder / log), re.MULTILINE):
        stage.note("\n  ".join([f"{log}: failed:", *failed[:20], *(["…"] if len(failed) > 20 else [])]))


def last_run(log: Path) -> str:
    """What the last command of a log printed: a stage that runs once more writes behind what is there."""
    return log.read_text(errors="replace").rpartition("\n$ ")[2] if log.is_file() else ""


def recording_works(visit: Visit) -> bool:
    """Whether these tests all passed; none was skipped."""
    text = last_run(visit.folder / "stages/recorded/recorded.txt")
    return bool(re.search(r"^\d+ passed[ ,](?!.*skipped)", text, re.MULTILINE))


def snakemake(targets: Sequence[object], study: str, cores: int, gpus: int, folder: Path) -> list[object]:
    """The command line of a study in a working folder: at most `gpus` trainings and extractions at once on a GPU."""
    return ["snakemake", *targets, "--directory", folder, "--cores", cores, "--resources", f"gpu_slots={4 * gpus}",
            "--scheduler", "greedy", "--nolock", "--config", f"study={study}"]  # fmt: skip


def smoke(stage: Stage) -> None:
    """The study `smoke` with Snakemake: on the GPU, there with recorded steps, the CPU, beside the unit tests."""
    wide = max(2, (os.cpu_count() or 2) // 3)
    sides = {"cpu": False} if stage.visit.settings.cpu else {"gpu": True, "recorded": True, "cpu": False}
    folders = {name: stage.visit.folder / "smoke" / name for name in sides}

    def study(name: str) -> None:
        settings = ["set=train.capture=true"] if name == "recorded" else []
        words = [*snakemake(["report"], "smoke", wide, wide, folders[name]), *settings]
        stage.run(words, f"{name}.log", 240, gpu=sides[name])
        for path in (folders[name] / "results/smoke/metrics.csv", folders[name] / "reports/smoke/report.html"):
            if path.is_file():
                shutil.copyfile(path, stage.folder / f"{path.stem}-{name}{path.suffix}")
        if (folders[name] / "logs").is_dir():
            shutil.copytree(folders[name] / "logs", stage.folder / f"logs-{name}", dirs_exist_ok=True)

    def tests() -> None:
        chosen = ["-n", str(wide), "-m", "not pipeline and not slurm and not dvc"]
        chosen += [f"--ignore={path}" for path in NOT_TESTED]
        pytest(stage, chosen, "tests.txt", 300)

    stage.together(*(lambda name=name: study(name) for name in sides), tests)
    if stage.visit.settings.cpu:
        lines = ["a rehearsal on the CPU: there are no metrics of a GPU to compare with"]
    else:
        lines = [*compared_metrics(stage.folder, "gpu", "cpu"), *compared_metrics(stage.folder, "recorded", "gpu")]
    (stage.folder / "compared.txt").write_text("\n".join(lines) + "\n")


def compared_metrics(folder: Path, one: str, other: str) -> list[str]:
    """By experiment: the largest difference of any metric between two sides."""
    tables = []
    for path in (folder / f"metrics-{one}.csv", folder / f"metrics-{other}.csv"):
        if not path.is_file():
            return [f"{one} against {other}: the metrics of {path.stem[8:]} are missing"]
        with path.open() as file:
            keys = ("dataset", "experiment", "category", "seed", "metric")
            tables.append(
                {tuple(row[key] for key in keys): float(row["value"] or "nan") for row in csv.DictReader(file)}
            )
    a, b = tables
    worst: dict[tuple[str, ...], tuple[float, str]] = defaultdict(lambda: (-1.0, ""))
    for key in a.keys() & b.keys():
        text = f"{'/'.join(key[2:])}: {a[key]:.2f}, {b[key]:.2f}"
        worst[key[:2]] = max(worst[key[:2]], (abs(a[key] - b[key]), text))
    lines = [f"{one} against {other}: largest differences, {len(a.keys() & b.keys())} of {len(a)} values compared"]
    return lines + [f"  {'/'.join(key):30} {value:7.3f}  {text}" for key, (value, text) in sorted(worst.items())]


def bench(stage: Stage) -> None:
    """bench/gpu.py, with nothing else on the GPU."""
    settings = stage.visit.settings
    options = ["--device", "cpu", "--most", 2] if settings.cpu else []
    options += ["--tiny", "--minutes", 2, "--rounds", 2] if settings.tiny else ["--minutes", 5]
    words = [stage.visit.python, "bench/gpu.py", *options, "--output", stage.folder / "gpu.json"]
    stage.run(words, "gpu.txt", 420)
    gpu_state(stage, "gpu.txt")


def probe(stage: Stage) -> None:
    """probe.py: epochs in the training loop itself, what saving costs, whether bytes repeat, a profile."""
    settings = stage.visit.settings
    options = [*(["--device", "cpu"] if settings.cpu else []), *(["--tiny"] if settings.tiny else [])]
    stage.run([stage.visit.python, "bench/offline/probe.py", *options], "probe.txt", 150)
