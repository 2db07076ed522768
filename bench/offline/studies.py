"""The stages that train studies on real images: their files in params/studies, and how much of them time allows."""

import json
import math
import os
import shutil
import threading
from collections.abc import Sequence
from typing import Any

from items import has, packed
from stages import recording_works, snakemake
from visit import Stage, Visit

REPORTING = 120  # seconds that are reserved for evaluation and report of a study that runs out of time
TINY = {"encoder_layers": 1, "decoder_layers": 1, "width": 32, "ffn_width": 64, "heads": 4, "cnn_blocks": 1}
SCREW = ["adtr", "adtr_plus", "cnn", "no_attention", "no_query", "pixels", "last_layer", "efficientnet_lite1",
         "efficientnet_lite2", "padim", "spade", "patchcore", "kde", "autoencoder"]  # fmt: skip
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FOLDERS = {"screw": "screw_500", "screw_paper": "screw_paper", "cifar10": "cifar10_500", "elpv": "elpv_500"}
reports: dict[str, threading.Thread] = {}  # that are being written beside the next stage, by study


def screw(stage: Stage, recipe: str = "fast") -> None:
    """MVTec-AD's screw, each method and ablation that has its weights here."""
    lite = [name for name in ("lite1", "lite2") if name in packed(stage.visit)["items"] and not has(stage.visit, name)]
    experiments = [name for name in SCREW if not any(name.endswith(missing) for missing in lite)]
    if stage.visit.settings.tiny:
        experiments = ["adtr", "adtr_plus", "no_query", "padim"]
    define: dict[str, Any] = {"categories": ["screw"]}
    image = stage.visit.project / "data/mvtec/screw/train/good/000.png"
    width = int.from_bytes(image.read_bytes()[16:20], "big")
    if width != 1024:
        define["note"] = f"The images had been resized from 1024 to {width} px before."
    name = FOLDERS["screw_paper" if recipe == "paper" else "screw"]
    title = f"MVTec-AD screw, EfficientNet-Lite0, the recipe {recipe}"
    study = content(stage, title, "mvtec", experiments, 500, 300, recipe, define=define)
    study["set"]["features"]["grid_size"] = 16
    run_study(stage, name, study, 480 * stage.visit.settings.seeds)


def screw_paper(stage: Stage) -> None:
    """The same with the paper's recipe."""
    screw(stage, "paper")


def cifar10(stage: Stage) -> None:
    """As many classes as time allows, two at least; with the paper's number of epochs if two classes fit."""
    settings, (gpus, each) = stage.visit.settings, at_once(stage.visit, 64)
    remaining = stage.visit.left() - REPORTING - 60
    for epochs, plus in ((500, 300), (250, 150), (100, 60), (50, 30), (20, 12)):
        one = (
            settings.seeds * each * (epochs * math.ceil(5000 / 128) + plus * math.ceil(10000 / 128))
        )  # seconds of a class
        if 2 * one < remaining or settings.tiny:
            break
    count = 1 if settings.tiny else min(10, max(2, int(remaining / one)))
    stage.note(
        f"{epochs} epochs (the paper: 500), ADTR+ {plus}: about {one:.0f} s a class at {1000 * each:.2f} ms a step, "
        f"{remaining:.0f} s left: {count} classes"
    )
    done = 0
    while done < count:  # some classes at a time, so that the last ones are cut off
        done = min(count, done + max(2, gpus // 2))
        define, title = {"categories": CLASSES[:done]}, "CIFAR-10 at 32 px, EfficientNet-Lite0"
        study = content(stage, title, "cifar10", ["adtr", "adtr_plus", "padim"], epochs, plus, define=define)
        if not run_study(stage, FOLDERS["cifar10"], study, 1500, 64, more=done < count):
            break


def elpv(stage: Stage) -> None:
    """Solar cells, three seeds."""
    experiments = ["adtr", "cnn", "padim", "patchcore"]
    study = content(stage, "Solar cells, EfficientNet-Lite0", "elpv", experiments, 500, 0, seeds=3)
    run_study(stage, FOLDERS["elpv"], study, 600, 64)


def content(
    stage: Stage,
    title: str,
    dataset: str,
    experiments: list[str],
    epochs: int,
    plus: int,
    recipe: str = "fast",
    seeds: int = 0,
    define: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What stands in the file of a study; `plus` are the epochs of ADTR+, `seeds` 0 those of the visit."""
    settings = stage.visit.settings
    epochs, plus = (1, 1) if settings.tiny else (epochs, plus)
    train = {"epochs": epochs, "lr_drop_at": 0.8, "save_minutes": 1, "snapshots": min(5, epochs)}
    if recipe == "fast":  # whose small batches are for a CPU
        train |= {"batch_size": 128 if dataset == "cifar10" else 16, "lr": 0.0005, "grad_clip": 0.0}
    parameters: dict[str, Any] = {
        "features": {"backbone": "efficientnet_lite0"},
        "train": train | {"capture": recording_works(stage.visit)},
    }
    if settings.tiny:
        parameters |= {"model": TINY, "confetti": {"variants": 1}}
    return {
        "title": f"{title}, {epochs} epochs" + (f" (ADTR+ {plus} more)" if "adtr_plus" in experiments else ""),
        "recipe": recipe,
        "seeds": list(range(seeds or settings.seeds)),
        "datasets": {dataset: experiments},
        "define": {dataset: define} if define else {},
        "set": parameters,
        "overrides": {"adtr_plus": {"train": {"epochs": plus}}} if "adtr_plus" in experiments else {},
    }


def measured(visit: Visit, tokens: int) -> list[tuple[float, int]]:
    """Milliseconds of a step of all, and how many trainings ran at once."""
    path = visit.folder / "stages/bench/gpu.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    return [
        (row["value"], int(row["side"].split()[0]))
        for row in rows
        if row["what"] == "step of all" and row["of"].startswith(f"{tokens} tokens")
    ]


def at_once(visit: Visit, tokens: int) -> tuple[int, float]:
    """How many trainings at once took the least time for a step of all, from 3 to 8; and that time, in seconds."""
    milliseconds, count = min(measured(visit, tokens), default=(6.0, 5))
    return min(8, max(3, count)), milliseconds / 1000


def run_study(
    stage: Stage, name: str, study: dict[str, Any], seconds: float, tokens: int = 256, more: bool = False
) -> bool:
    """Trains and evaluates a study, then reports it beside the next stage; what is finished, if time ran out.

    Args:
        tokens: of an image, for how many trainings run at once.
        more: another part of the study follows, and the report with it.

    Returns:
        Whether all of it was trained.
    """
    if name in reports:
        reports.pop(name).join()
    visit, file = stage.visit, stage.visit.project / f"params/studies/{name}.yaml"
    file.write_text(json.dumps(study, indent=1))  # JSON is YAML
    cores, (gpus, _) = max(2, (os.cpu_count() or 2) - 2), at_once(visit, tokens)
    visit.mark(stage.name, study=name, at_once=gpus)

    def run(targets: Sequence[object], seconds: float, reserve: float = 0) -> int:
        return stage.run(snakemake(targets, name, cores, gpus, visit.project), f"{name}.log", seconds, reserve=reserve)

    code = run(["all_runs"], seconds, REPORTING)
    trained = visit.project.glob(f"results/{name}/runs/*/*/*/*/run.json")
    evaluations = [path.with_name("evaluation.json").relative_to(visit.project) for path in trained]
    if code and evaluations:  # trainings go first, so some runs are trained and not evaluated
        run(evaluations, REPORTING / 2)
    if code and stage.run([visit.python, "bench/offline/finished.py", name], f"{name}.log", 30):
        return False
    shutil.copyfile(file, stage.folder / file.name)
    if more and not code:
        return True

    reports[name] = threading.Thread(target=run, args=(["report"], 240))
    reports[name].start()
    if visit.left() < 3 * REPORTING or code:
        reports[name].join()
    return not code
