"""The command `adtr`: a subcommand a stage; parameters come from a study and from --set, and a run has a name."""

import argparse
import atexit
import gc
import io
import logging
import math
import os
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from adtr import __version__
from adtr.config import PARAMS
from adtr.config.levels import parse_settings
from adtr.config.paths import Paths
from adtr.config.reader import read_as
from adtr.config.schema import root_of
from adtr.config.study import Run, resolve, studies
from adtr.device import device_of
from adtr.errors import UserError
from adtr.files import write_text

logger = logging.getLogger(__name__)
Options = argparse.Namespace
SOURCES = PARAMS / "sources.yaml"
RUN = "DATASET/EXPERIMENT/CATEGORY/SEED"


def main(arguments: list[str] | None = None) -> None:
    """Runs one subcommand; an error that the user can mend, a file's included, is one message and exit code 1.

    `predict` ends with exit code 3 if it skipped images.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if getattr(options, "study", "") is None:
        parser.error(f"the following arguments are required: --study, one of {', '.join(studies())}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a title in letters that the terminal does not have
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    gc.set_threshold(50_000)  # what is imported is never garbage: looking for it costs a short stage 0.1 to 0.2 s,
    atexit.register(gc.freeze)  # and 0.2 to 0.7 s more before the interpreter ends
    if "SLURM_JOB_ID" in os.environ:
        job = (os.environ.get(name, "?") for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES"))
        logger.info("Slurm job %s on %s, CUDA_VISIBLE_DEVICES=%s", *job)
    try:
        studied = [Paths(resolve(options.study, settings=parse_settings(options.set)))] if "study" in options else []
        options.call(options, *studied)
    except (UserError, OSError) as error:
        sys.exit(f"adtr {options.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        full = re.search("out of memory|allocate memory|ALLOC_FAILED", str(error))
        if not full and not isinstance(error, MemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        sys.exit(f"adtr {options.command}: not enough memory for these parameters and images: {reason}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adtr",
        description="ADTR: Anomaly Detection Transformer with Feature Reconstruction. The stages in their order: fetch "
        "or generate, index, shortcuts, confetti or outliers (ADTR+), features, train, evaluate, differences, tables, "
        "figures, report; predict scores new images. Snakemake calls them for a whole study: `snakemake all_tables "
        "--config study=NAME`.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = partial(_add, commands)

    fetch = add("fetch", _fetch, "download, check and unpack data sets and weights", "adtr fetch mvtec efficientnet_b4")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="of params/sources.yaml; none: list them")
    fetch.add_argument("--sources", type=Path, default=SOURCES, help="the file that names them [params/sources.yaml]")
    fetch.add_argument("--root", type=Path, default=Path(), help="the folder that destinations are relative to [.]")
    fetch.add_argument("--url", action="append", default=[], help="a mirror, not the official addresses; repeatable")
    fetch.add_argument("--archive", type=Path, help="a copy of the file that you have already")

    add("generate", _generate, "write the small generated images of the study smoke", target="DATASET")
    add("index", _index, "read and check a category's images and write its manifest", target="DATASET/CATEGORY")
    add("confetti", _confetti, "write noisy copies of a category's training images, the anomalies of ADTR+",
        target="DATASET/EXPERIMENT/CATEGORY")  # fmt: skip
    add("outliers", _outliers, "draw images of another data set, the anomalies of ADTR+", target="DATASET/EXPERIMENT")
    add("shortcuts", _shortcuts, "measure how far scores get that know nothing of defects, such as brightness",
        target="DATASET/CATEGORY")  # fmt: skip
    features = add("features", _features, "run the frozen backbone over the images of a part",
                   "adtr features --study screw mvtec/adtr/screw", target="DATASET/EXPERIMENT/PART")  # fmt: skip
    features.add_argument("--anomalies", action="store_true", help="of the experiment's anomalies, not the data set's")
    features.add_argument("--threads", type=_positive, default=1, help="batches in work at once, same bytes [1]")
    train = add("train", _train, "fit a method to the features of normal images",
                "adtr train --study screw mvtec/adtr/screw/0", target=RUN)  # fmt: skip
    evaluate = add("evaluate", _evaluate, "score the test images of a run and measure it", target=RUN)
    evaluate.add_argument("--threads", type=_positive, default=1, help="CPU threads [1]")
    differences = add("differences", _differences, "draw feature difference vectors of a run's test images", target=RUN)

    predict = add("predict", _predict, "score new images with a trained run: labels, anomaly maps, overlays",
                  "adtr predict results/mine/runs/line4/adtr/a/0 /data/today --output out")  # fmt: skip
    export = add("export", _export, "write a trained run as an ONNX file, once it agrees with PyTorch on real images",
                 "adtr export results/mine/runs/line4/adtr/a/0 --output adtr.onnx")  # fmt: skip
    serve = add("serve", _serve, "serve a trained run by HTTP on this machine, with a page to drop images on",
                "adtr serve results/mine/runs/line4/adtr/a/0")  # fmt: skip
    for parser_ in (predict, export, serve):
        parser_.add_argument("run", metavar="RUN", help=f"the folder of a run, or with --study {RUN}")
        parser_.add_argument("--study", dest="of_study", metavar="STUDY", help="whose run it is, in results/")
        parser_.add_argument("--weights", type=Path, help="of the backbone [the installed package, or data/weights/]")
        parser_.add_argument("--false-alarms", type=_rate, metavar="RATE", help="largest share of normal images called "
                             "anomalous [threshold.false_alarms of the run]")  # fmt: skip
        parser_.add_argument("--threshold", type=_finite, metavar="SCORE", help="call images above this score "
                             "anomalous [the calibrated threshold]")  # fmt: skip
    predict.add_argument("paths", nargs="+", metavar="PATH", help="images, folders of them, or - for names on standard "
                         "input, a line each")  # fmt: skip
    predict.add_argument("--output", type=Path, required=True, help="the folder of predictions.csv and overlays/")
    predict.add_argument("--maps", action="store_true", help="write the anomaly maps, too: maps/NAME.npy")
    predict.add_argument("--threads", type=_positive, help="images in work at once, same scores [one a core]")
    for stage in (features, train, evaluate, differences, predict, serve):
        stage.add_argument("--device", default="auto", help="cpu, cuda[:NUMBER], or auto: a GPU if there is one [auto]")
    export.add_argument("--format", choices=["onnx"], default="onnx", help="[onnx]")
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write")
    export.add_argument("--input", dest="input_", choices=["uint8", "float32"], default="uint8", help="uint8: RGB "
                        "of the right size, (N, S, S, 3); float32: normalised, (N, 3, S, S) [uint8]")  # fmt: skip
    export.add_argument("--images", nargs="+", metavar="PATH", help="images, or folders of them, to compare on [some "
                        "of the run's test images]")  # fmt: skip
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: others reach it [127.0.0.1]")
    serve.add_argument("--port", type=int, default=8000, help="0: any that is free [8000]")

    add("tables", _tables, "gather a study's metrics and write its tables", target="")
    add("plots", _plots, "write what DVC compares: metrics by name, curves of its plots", target="")
    add("figures", _figures, "draw the figures of a category, or those of a data set", target="DATASET[/CATEGORY]")
    add("report", _report, "write a study's report as HTML, Markdown and LaTeX", target="")
    plan = add("plan", _plan, "show the runs of a study", target="")
    plan.add_argument("--parameters", action="store_true", help="each parameter as well, with its meaning")
    add("status", _status, "show which runs of a study are finished, and how far the others are", target="")
    cost = add("cost", _cost, "estimate what a study takes on a cluster: runs, hours, jobs", target="")
    cost.add_argument("--here", action="store_true", help="minutes on this machine, measured in some seconds, instead")
    add("verify", _verify, "compare all files of a study, and its images, with their records", target="")
    add("prune", _prune, "remove what a study no longer names, and runs of other parameters", target="")
    return parser


def _add(
    commands: Any, name: str, call: Callable[..., None], help: str, example: str = "", target: str | None = None
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"Example: {example}" if example else None,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=32, width=110),
    )
    parser.set_defaults(call=call)
    if target is not None:
        parser.add_argument("--study", help="a file of params/studies, without its ending")
        parser.add_argument(
            "--set", default="", metavar="'SECTION.NAME=VALUE …'", help="parameters that win over all files"
        )
    if target:
        parser.add_argument("target", metavar=target, help="its name in the study")
    return parser


def _positive(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on (to 999)")
    return int(text)


def _between(low: float, high: float, what: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not low < number < high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


_finite = partial(_between, -math.inf, math.inf, "a number")
_rate = partial(_between, 0, 1, "a number between 0 and 1")


# What a command names


def _needed(options: Options, path: Path, stage: str, target: str) -> Path:
    """A file that an earlier stage makes.

    Raises:
        UserError: it is missing.
    """
    if not path.is_file():
        settings = f" --set {shlex.quote(options.set)}" if options.set else ""
        raise UserError(
            f"{path}: no such file: `adtr {stage} --study {options.study}{settings} {shlex.quote(target)}` makes it"
        )
    return path


def _manifest(options: Options, paths: Paths, dataset: str, category: str) -> Any:
    from adtr.data.manifest import read_manifest

    return read_manifest(_needed(options, paths.manifest(dataset, category), "index", f"{dataset}/{category}"))


def _stores(options: Options, paths: Paths, run: Run, most: int | None = None) -> dict[str, Path]:
    """The feature stores of a run by part; the first of them holds its training images."""
    return {
        store.stem: _needed(options, store, "features", f"{run.dataset}/{run.experiment}/{store.stem}")
        for store in paths.stores(run)[:most]
    }


# Data


def _fetch(options: Options) -> None:
    from adtr.data.fetch import fetch
    from adtr.data.sources import read_sources

    sources = read_sources(options.sources)
    unknown = [name for name in options.names if name not in sources]
    if unknown:
        raise UserError(f"no source {', '.join(unknown)} in {options.sources}; known: {', '.join(sources)}")
    if len(options.names) != 1 and (options.url or options.archive):
        raise UserError("--url and --archive go with one NAME")
    for name in options.names:
        fetch(name, sources[name], options.root, options.url, options.archive)
    if not options.names:
        for name, source in sources.items():
            print(f"{name:16} {source.destination:45} {source.urls[0]}")


def _generate(options: Options, paths: Paths) -> None:
    from adtr.data.synthetic import write_cifar10, write_cifar100, write_mvtec

    (name,) = paths.plan.names(options.target, "dataset")
    dataset = paths.datasets[name]
    made, root, categories = dataset.generated, root_of(dataset.root), dataset.categories
    if made is None:
        raise UserError(f"{name}: these images are not generated")
    if dataset.layout == "mvtec":
        write_mvtec(root, categories, made.images, made.size, made.seed)
    else:
        write = {"cifar10": write_cifar10, "cifar100": write_cifar100}[dataset.layout]
        write(root.parent, made.images, made.seed)
    write_text(paths.generated(name), f"{made} {categories}\n")


def _index(options: Options, paths: Paths) -> None:
    from adtr.data.findings import sentences
    from adtr.data.manifest import index, write_manifest

    name, category = paths.plan.names(options.target, "dataset", "category")
    manifest = index(paths.datasets[name], category)
    write_manifest(paths.manifest(name, category), manifest)
    for line in sentences(manifest.attrs["warnings"]):
        logger.warning("%s/%s: %s", name, category, line)


def _confetti(options: Options, paths: Paths) -> None:
    from adtr.data.confetti import write_bank
    from adtr.data.manifest import write_manifest

    name, experiment, category = paths.plan.names(options.target, "dataset", "experiment", "category")
    params, output = paths.plan.params[name, experiment], _bank(paths, name, experiment, category, "confetti")[0]
    manifest, root = _manifest(options, paths, name, category), root_of(paths.datasets[name].root)
    for path in (output, output.with_suffix(".json")):  # they would outlive the copies that they name
        path.unlink(missing_ok=True)
    bank = write_bank(manifest, root, params.features.image_size, params.confetti, output.parent)
    write_manifest(output, bank)


def _outliers(options: Options, paths: Paths) -> None:
    from adtr.data.manifest import draw_outliers, write_manifest

    name, experiment = paths.plan.names(options.target, "dataset", "experiment")
    outliers = paths.plan.params[name, experiment].outliers
    output = _bank(paths, name, experiment, "outliers", "outliers")[0]
    manifest = draw_outliers(paths.datasets[outliers.dataset], outliers.count, outliers.seed)
    write_manifest(output, manifest)


def _bank(paths: Paths, dataset: str, experiment: str, category: str, kind: str = "") -> tuple[Path, Path]:
    bank = paths.bank(dataset, experiment, category)
    if bank is None or kind not in ("", paths.plan.params[dataset, experiment].adtr_plus.anomalies):
        raise UserError(f"{dataset}/{experiment}: this experiment is not trained with {kind or 'anomalies'}")
    return bank


def _shortcuts(options: Options, paths: Paths) -> None:
    from adtr.data.findings import sentences
    from adtr.evaluate.shortcuts import measure, warnings, write

    name, category = paths.plan.names(options.target, "dataset", "category")
    manifest = _manifest(options, paths, name, category)
    measured = measure(manifest, root_of(paths.datasets[name].root), category)
    write(paths.shortcuts(name, category), measured)
    logger.info("%s", measured.round(3).to_string(index=False))
    for line in sentences(warnings(measured)):
        logger.warning("%s/%s: %s", name, category, line)


def _features(options: Options, paths: Paths) -> None:
    from adtr.data.sources import read_sources
    from adtr.features.extract import extract
    from adtr.features.weights import weights_file

    name, experiment, part = paths.plan.names(options.target, "dataset", "experiment", "part")
    features = paths.plan.params[name, experiment].features
    if options.anomalies:
        rows, root, store = _bank_rows(options, paths, name, experiment, part)
    else:
        store, root = paths.store(name, experiment, part), root_of(paths.datasets[name].root)
        manifest = _manifest(options, paths, name, paths.category(name, part))
        rows = manifest[manifest.part == part]
    weights = weights_file(features, read_sources(SOURCES), Path())
    extract(rows, root, features, weights, store, device_of(options.device), options.threads)


def _bank_rows(options: Options, paths: Paths, name: str, experiment: str, part: str) -> tuple[Any, Path, Path]:
    """The images that ADTR+ has for anomalies, the folder that they lie in, and their store."""
    from adtr.data.manifest import read_manifest

    manifest, store = _bank(paths, name, experiment, part)
    kind = paths.plan.params[name, experiment].adtr_plus.anomalies
    target = f"{name}/{experiment}/{part}" if kind == "confetti" else f"{name}/{experiment}"
    return read_manifest(_needed(options, manifest, kind, target)), paths.bank_root(name, experiment, manifest), store


# Runs


def _train(options: Options, paths: Paths) -> None:
    from adtr.train.context import Bank
    from adtr.train.stage import train

    run = paths.plan.run(options.target)
    params, bank, start = paths.plan.params[run[:2]], None, paths.start(run)
    if start:
        _needed(options, start / "run.json", "train", str(run._replace(experiment=params.start)))
    if params.method == "adtr_plus":
        rows, root, store = _bank_rows(options, paths, *run[:3])
        bank = Bank(rows, root, _needed(options, store, "features --anomalies", "/".join(run[:3])))
    manifest, stores = _manifest(options, paths, run.dataset, run.category), _stores(options, paths, run, most=1)
    device = device_of(options.device)
    train(manifest, stores, params, run.seed, paths.run(run), paths.state(run), device, start, bank)


def _evaluate(options: Options, paths: Paths) -> None:
    import torch

    from adtr.evaluate.stage import evaluate

    torch.set_num_threads(options.threads)
    run, trained = _trained(options, paths)
    evaluate(*trained, {"study": paths.plan.name, **run._asdict()}, device_of(options.device))


def _differences(options: Options, paths: Paths) -> None:
    import torch

    from adtr.evaluate.differences import write_differences

    torch.set_num_threads(1)
    run, trained = _trained(options, paths)
    write_differences(*trained, paths.differences(run), device_of(options.device))


def _trained(options: Options, paths: Paths) -> tuple[Run, tuple[Path, Any, dict[str, Path], Path, Any]]:
    """The run that is asked for; its folder, manifest, feature stores, the root of its images, and its parameters.

    Raises:
        UserError: a file is missing, or the run was trained with other parameters or on other images.
    """
    from adtr.evaluate.stage import check_images
    from adtr.train.outdated import trained_otherwise

    run = paths.plan.run(options.target)
    folder, root = paths.run(run), root_of(paths.datasets[run.dataset].root)
    _needed(options, folder / "run.json", "train", str(run))
    if trained_otherwise(paths, run):
        raise UserError(f"{folder}: trained with other parameters than the study's: train it again")
    manifest, stores = _manifest(options, paths, run.dataset, run.category), _stores(options, paths, run)
    params = paths.plan.params[run[:2]]
    check_images(folder, manifest, params)
    return run, (folder, manifest, stores, root, params)


def _predict(options: Options) -> None:
    from adtr.predict.stage import predict

    _, detector = _detector(options, options.device, options.threads)
    listed = sys.stdin.buffer.read() if "-" in options.paths else b""
    summary, skipped = predict(detector, options.paths, options.output, listed, options.maps)
    print(summary)
    if skipped:
        sys.exit(3)


def _detector(options: Options, device: str = "cpu", threads: int | None = None) -> tuple[Path, Any]:
    """The folder of the run that a command names, and what scores images with it."""
    from adtr.predict.detector import Detector
    from adtr.predict.stage import find_run

    run = find_run(options.run, options.of_study)
    if options.threshold is not None and options.false_alarms is not None:
        raise UserError("--threshold and --false-alarms: give one of them")
    return run, Detector.load(run, options.weights, options.false_alarms, device, threads, options.threshold)


def _export(options: Options) -> None:
    from adtr.predict.export import export, own_images, spaced
    from adtr.predict.names import images_of

    run, detector = _detector(options)
    images = spaced(images_of(options.images, b"", [])[0]) if options.images else own_images(run)
    agreement = export(detector, options.output, images, options.input_, _licences(run, detector.params))
    whose = "those of --images" if options.images else "its own, spaced by score"
    print(f"{options.output}: written; largest differences from PyTorch: {agreement} ({whose})")


def _serve(options: Options) -> None:
    try:
        from adtr.predict.service import serve
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install -c constraints.txt -e '.[serve]'") from None
    serve(*_detector(options, options.device), options.host, options.port)


def _licences(run: Path, params: Any) -> dict[str, str]:
    """Those of a run's weights and images, as far as params/ is here and says so."""
    from adtr.data.sources import read_sources
    from adtr.predict.export import origin
    from adtr.report.protocol import credits

    found = dict.fromkeys(["licence_weights", "licence_data"], "not known here")
    with suppress(UserError):
        sources = read_sources(SOURCES)
        if source := sources.get(params.features.backbone):
            found["licence_weights"] = source.licence or "not known here"
        plan, dataset = origin(run)
        found["licence_data"] = dict(zip(plan.datasets, credits(plan, sources), strict=True))[dataset]["licence"]
    return found


# Studies


def _tables(_: Options, paths: Paths) -> None:
    from adtr.tables.stage import write

    write(paths, PARAMS)


def _plots(_: Options, paths: Paths) -> None:
    from adtr.tables.plots import write_plots

    write_plots(paths)


def _figures(options: Options, paths: Paths) -> None:
    from adtr.figures.stage import draw_category, draw_dataset

    if "/" in options.target:
        dataset, category = paths.plan.names(options.target, "dataset", "category")
        draw_category(paths, dataset, category)
    else:
        (dataset,) = paths.plan.names(options.target, "dataset")
        draw_dataset(paths, dataset, PARAMS)


def _report(_: Options, paths: Paths) -> None:
    from adtr.report.stage import write

    write(paths, PARAMS)


def _plan(options: Options, paths: Paths) -> None:
    from adtr.config.describe import parameter_table, run_table

    print(run_table(paths.plan))
    if options.parameters:
        print("\n" + parameter_table(paths.plan))


def _status(_: Options, paths: Paths) -> None:
    from adtr.train.status import status_table

    print(status_table(paths))


def _cost(options: Options, paths: Paths) -> None:
    from adtr.cost import Cluster, assumptions, expected
    from adtr.tables.specs import read_specs

    plan, speeds = paths.plan, read_as(PARAMS / "cluster.yaml", Cluster)
    if options.here:
        from adtr.speed import minutes_here

        minutes, cores = minutes_here(plan, speeds)
        time = f"{max(1, round(minutes))} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
        print(f"{plan.name}: about {time} on this machine, if its {cores} cores are idle")
    else:
        print(expected(plan, speeds, read_specs(PARAMS)))
    if assumed := assumptions(plan):
        print(assumed)


def _verify(_: Options, paths: Paths) -> None:
    from adtr.verify import verify

    made, problems = verify(paths)
    if problems:
        raise UserError("\n  ".join([f"{len(problems)} of {made} checks failed:", *problems]))
    print(f"{paths.plan.name}: {made} checks, every file is the one that its stage wrote")


def _prune(_: Options, paths: Paths) -> None:
    from adtr.prune import prune

    for removed in prune(paths):
        print(f"removed {removed}")
