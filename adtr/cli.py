"""The command `adtr`: a subcommand for every stage, its options the stage's inputs, outputs and parameters."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adtr import __version__, slurm
from adtr.config.schema import (
    Confetti,
    Dataset,
    Features,
    Outliers,
    Params,
    Score,
    Section,
    option,
    params_model,
    read_yaml,
)
from adtr.config.study import Plan, parse_settings, resolve
from adtr.errors import UserError
from adtr.files import write_text

DEFAULTS = Path("params/default.yaml")
logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Runs one subcommand; an error that the user can mend, a file's included, is one message and exit code 1."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(
            f"unknown: {' '.join(unknown)}" if DEFAULTS.is_file() else f"run from the folder that holds {DEFAULTS}"
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if hasattr(options, "output"):
            slurm.announce(f"{options.command} {options.output}")
        options.run(options)
    except (UserError, OSError) as error:
        sys.exit(f"adtr {options.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adtr",
        description="ADTR: Anomaly Detection Transformer with Feature Reconstruction. "
        "The stages in their order: fetch or generate, index, confetti or outliers (ADTR+), features, train, evaluate, "
        "differences, tables, figures, report. "
        "Snakemake calls them for a whole study: `snakemake all_tables --config study=NAME`.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    data = (_fetch, _generate, _index, _confetti, _outliers, _features)
    for add in (*data, _train, _evaluate, _differences, _tables, _plots, _figures, _report, _plan, _prune, _cost):
        add(commands)
    return parser


def _command(commands: Any, name: str, run: Callable, help: str, example: str = "") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"Example: {example}" if example else None,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=32, width=110),
    )
    parser.set_defaults(run=run)
    return parser


def _whole(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, `least` or more."""

    def converted(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return converted


# Parameters as options


def _add_section(parser: argparse.ArgumentParser, name: str, section: type[Section], only: Iterable[str] = ()) -> None:
    """An option for every parameter of a section; left out, it has the value of params/default.yaml."""
    group = parser.add_argument_group(f"parameters of {name}")
    defaults = read_yaml(DEFAULTS).get(name, {}) if DEFAULTS.is_file() else {}
    for key, field in section.model_fields.items():
        if only and key not in only:
            continue
        default = defaults.get(key, field.default)
        shown = ",".join(map(str, default)) if isinstance(default, list) else default
        default = "(required)" if field.is_required() and key not in defaults else f"[{shown}]"
        text = f"{field.description or ''} {default}".strip()
        group.add_argument(option(section, key), dest=f"{name}.{key}", metavar="VALUE", help=text)


def _given(options: argparse.Namespace, section: str) -> dict[str, Any]:
    prefix = f"{section}."
    given = {key: value for key, value in vars(options).items() if key.startswith(prefix) and value is not None}
    return {
        key.removeprefix(prefix): value.split(",") if key == "features.layers" else value
        for key, value in given.items()
    }


def _checked(model: type[Section], values: dict[str, Any]) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_problem(model, problem) for problem in error.errors()]
        raise UserError("\n  ".join(["the options do not fit:", *problems])) from None


def _problem(model: Any, error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # of a whole section: it names the options
        return message
    *sections, name = (part for part in error["loc"] if isinstance(part, str))
    given = "" if error["type"] == "missing" else f" (it is {error['input']!r})"
    section = model.model_fields[sections[-1]].annotation if sections else model
    return f"{option(section, name)}: {message}{given}"


def _sections() -> dict[str, type[Section]]:
    """The sections of parameters that a method may get: the trained networks' and each baseline's own."""
    fields = params_model(read_yaml(DEFAULTS)).model_fields if DEFAULTS.is_file() else {}
    others = ("method", "features", "score", "confetti", "outliers")
    return {key: field.annotation for key, field in fields.items() if key not in others}  # type: ignore[misc]


def _params(method: str, values: dict[str, dict[str, Any]]) -> Params:
    """Parameters of which some are given and the others are those of params/default.yaml."""
    default = read_yaml(DEFAULTS)
    merged = {
        key: default[key] | values.get(key, {}) if isinstance(default[key], dict) else default[key] for key in default
    }
    return _checked(params_model(default), merged | {"method": method})


def _stores(paths: list[Path]) -> dict[str, Path]:
    """The part of a feature store is the name of its file."""
    return {path.stem: path for path in paths}


def _progress(unit: str, total: int) -> Callable[[Iterable], Iterable]:
    from tqdm import tqdm

    return partial(tqdm, total=total, unit=unit, disable=None)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return _device("cuda")
        if slurm.given_gpu():
            logger.warning("this job was given a GPU that PyTorch %s cannot use: it runs on the CPU", torch.__version__)
        return "cpu"
    if name != "cpu" and name.partition(":")[0] != "cuda":
        raise UserError(f"--device {name}: it is cpu, cuda or auto")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {name}: PyTorch sees no GPU here")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32 on a GPU, too
    return name


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one [auto]")


# Stages


def _fetch(commands: Any) -> None:
    parser = _command(
        commands,
        "fetch",
        _run_fetch,
        "download, check and unpack data sets and weights",
        "adtr fetch mvtec efficientnet_b4",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of params/sources.yaml; none: list them")
    parser.add_argument("--sources", type=Path, default=Path("params/sources.yaml"), help="the file that names them")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder that destinations are relative to [.]")
    parser.add_argument("--url", action="append", help="a mirror, in place of the official address; may be repeated")
    parser.add_argument("--archive", type=Path, help="a copy of the file that you have already")


def _run_fetch(options: argparse.Namespace) -> None:
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


def _generate(commands: Any) -> None:
    parser = _command(commands, "generate", _run_generate, "write the small generated images of the study smoke")
    parser.add_argument("--layout", choices=["mvtec", "cifar10", "cifar100"], required=True, help="of which data set")
    parser.add_argument("--root", type=Path, required=True, help="the folder to write")
    parser.add_argument("--categories", nargs="+", default=[], help="MVTec's layout: the categories")
    parser.add_argument("--images", type=_whole(1), required=True, help="training images of a category")
    parser.add_argument("--size", type=_whole(1), default=64, help="side of an image, px (MVTec's layout) [64]")
    parser.add_argument("--seed", type=_whole(0), default=0, help="[0]")


def _run_generate(options: argparse.Namespace) -> None:
    from adtr.data.synthetic import write_cifar10, write_cifar100, write_mvtec

    if options.layout == "mvtec":
        write_mvtec(options.root, options.categories, options.images, options.size, options.seed)
    else:
        write = {"cifar10": write_cifar10, "cifar100": write_cifar100}[options.layout]
        write(options.root.parent, options.images, options.seed)


def _index(commands: Any) -> None:
    parser = _command(
        commands,
        "index",
        _run_index,
        "read and check a category's images and write its manifest",
        "adtr index --layout mvtec --root data/mvtec --category screw --output screw.csv",
    )
    parser.add_argument("--category", required=True)
    parser.add_argument("--output", type=Path, required=True, help="the manifest, CSV")
    _add_section(parser, "dataset", Dataset, only=("layout", "root", "seed", "train_share"))


def _run_index(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from adtr.data.manifest import index

    given = {"title": "the data set", "categories": [options.category]} | _given(options, "dataset")
    manifest = index(_checked(Dataset, given), options.category, partial(tqdm, unit="image", disable=None))
    write_text(options.output, manifest.to_csv(index=False))


def _confetti(commands: Any) -> None:
    parser = _command(
        commands,
        "confetti",
        _run_confetti,
        "write noisy copies of a category's training images, the anomalies of ADTR+",
        "adtr confetti --manifest screw.csv --root data/mvtec --image-size 256 --output bank/screw.csv",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--root", required=True, help="the data set's folder")
    parser.add_argument("--image-size", type=_whole(1), required=True, help="side of the copies, px")
    parser.add_argument("--output", type=Path, required=True, help="the copies' manifest, CSV; they lie beside it")
    _add_section(parser, "confetti", Confetti)


def _run_confetti(options: argparse.Namespace) -> None:
    from adtr.data.confetti import write_bank
    from adtr.data.manifest import read_manifest, root_of

    params = _checked(Confetti, read_yaml(DEFAULTS)["confetti"] | _given(options, "confetti"))
    manifest, root = read_manifest(options.manifest), root_of(options.root)
    options.output.unlink(missing_ok=True)  # it would outlive the copies that it names
    progress = _progress("image", int((manifest.split == "train").sum()))
    bank = write_bank(manifest, root, options.image_size, params, options.output.parent, progress)
    write_text(options.output, bank.to_csv(index=False))


def _outliers(commands: Any) -> None:
    parser = _command(
        commands,
        "outliers",
        _run_outliers,
        "draw training images of another data set, the anomalies of ADTR+",
        "adtr outliers --layout cifar100 --root data/cifar-100-python --output outliers.csv",
    )
    parser.add_argument("--output", type=Path, required=True, help="their manifest, CSV")
    _add_section(parser, "dataset", Dataset, only=("layout", "root"))
    _add_section(parser, "outliers", Outliers, only=("count", "seed"))


def _run_outliers(options: argparse.Namespace) -> None:
    from adtr.data.manifest import draw_outliers

    params = _checked(Outliers, read_yaml(DEFAULTS)["outliers"] | _given(options, "outliers"))
    given = {"title": "the data set", "categories": []} | _given(options, "dataset")
    manifest = draw_outliers(_checked(Dataset, given), params.count, params.seed)
    write_text(options.output, manifest.to_csv(index=False))


def _features(commands: Any) -> None:
    parser = _command(
        commands,
        "features",
        _run_features,
        "run the frozen backbone over the images of a part",
        "adtr features --manifest screw.csv --root data/mvtec --part screw --output screw.npy",
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--root", required=True, help="the data set's folder")
    parser.add_argument("--part", required=True, help="which images of the manifest: its column part")
    parser.add_argument("--output", type=Path, required=True, help="the store, PART.npy; a .json is written beside it")
    parser.add_argument("--sources", type=Path, default=Path("params/sources.yaml"), help="where weights come from")
    parser.add_argument(
        "--threads", type=_whole(1), default=1, help="batches in work at once; does not change the bytes [1]"
    )
    _add_device(parser)
    _add_section(parser, "features", Features)


def _run_features(options: argparse.Namespace) -> None:
    from adtr.data.manifest import read_manifest, root_of
    from adtr.data.sources import read_sources
    from adtr.features.extract import batch_size, extract
    from adtr.features.weights import weights_file

    if options.output.name != f"{options.part}.npy":
        raise UserError(f"--output {options.output}: a store carries its part's name, {options.part}.npy")
    features = _checked(Features, read_yaml(DEFAULTS)["features"] | _given(options, "features"))
    manifest = read_manifest(options.manifest)
    rows = manifest[manifest.part == options.part]
    if rows.empty:
        raise UserError(f"--part {options.part}: {options.manifest} has {', '.join(manifest.part.unique())}")
    root = root_of(options.root)
    weights = weights_file(features, read_sources(options.sources), Path())
    device = _device(options.device)
    progress = _progress("batch", -(-len(rows) // batch_size(features.image_size, device)))
    extract(rows, root, features, weights, options.output, device, options.threads, progress)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--features", type=Path, nargs="+", required=True, help="the stores of its parts")
    _add_device(parser)


def _train(commands: Any) -> None:
    parser = _command(
        commands,
        "train",
        _run_train,
        "fit a method to the features of normal images",
        "adtr train --manifest screw.csv --features screw.npy --epochs 20 --state state/screw --output run",
    )
    _add_inputs(parser)
    parser.add_argument("--method", default="adtr", help="a module of adtr/methods [adtr]")
    parser.add_argument("--seed", type=_whole(0), default=0, help="[0]")
    parser.add_argument("--state", type=Path, required=True, help="folder that a killed training resumes from")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--start", type=Path, help="adtr_plus: folder of the finished run of adtr that it goes on from")
    parser.add_argument("--bank", type=Path, help="adtr_plus: manifest of its anomalies, masks beside it")
    parser.add_argument("--bank-features", type=Path, help="adtr_plus: their store")
    for name, section in _sections().items():
        _add_section(parser, name, section)


def _run_train(options: argparse.Namespace) -> None:
    from adtr.data.manifest import read_manifest
    from adtr.train.stage import Bank, train

    if bool(options.bank) != bool(options.bank_features):
        raise UserError("--bank and --bank-features go together")
    stores, bank = _stores(options.features), None
    params = _params(options.method, {name: _given(options, name) for name in _sections()})
    if options.bank:
        bank = Bank(read_manifest(options.bank), options.bank.parent, options.bank_features)
    manifest, device = read_manifest(options.manifest), _device(options.device)
    train(manifest, stores, params, options.seed, options.output, options.state, device, options.start, bank)


def _evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        _run_evaluate,
        "score the test images of a run and measure it",
        "adtr evaluate --run run --manifest screw.csv --features screw.npy --root data/mvtec --output run",
    )
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="folder of the run")
    _add_inputs(parser)
    parser.add_argument("--root", required=True, help="the data set's folder, for its masks")
    parser.add_argument(
        "--label", type=_key_value, nargs="+", default=[], metavar="KEY=VALUE", help="columns put before the metrics"
    )
    parser.add_argument("--threads", type=_whole(1), default=1, help="CPU threads [1]")
    parser.add_argument("--output", type=Path, required=True, help="folder for scores.csv, maps.npy, metrics.csv")
    _add_section(parser, "score", Score)


def _differences(commands: Any) -> None:
    parser = _command(
        commands,
        "differences",
        _run_differences,
        "draw feature difference vectors of a run's test images, normal and anomalous 1:1",
        "adtr differences --run run --manifest screw.csv --features screw.npy --root data/mvtec --output drawn.npz",
    )
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="folder of the run")
    _add_inputs(parser)
    parser.add_argument("--root", required=True, help="the data set's folder, for its masks")
    parser.add_argument("--seed", type=_whole(0), default=0, help="of the draw [0]")
    parser.add_argument("--count", type=_whole(2), default=600, help="vectors, fewer where there are not so many [600]")
    parser.add_argument("--output", type=Path, required=True, help="the vectors, .npz")


def _run_differences(options: argparse.Namespace) -> None:
    import torch

    from adtr.data.manifest import read_manifest, root_of
    from adtr.evaluate.differences import write_differences

    torch.set_num_threads(1)
    params, manifest = _params_of_run(options.folder), read_manifest(options.manifest)
    device, root = _device(options.device), root_of(options.root)
    stores, count, seed = _stores(options.features), options.count, options.seed
    write_differences(options.folder, manifest, stores, root, params, count, seed, options.output, device)


def _params_of_run(folder: Path, **given: dict[str, Any]) -> Params:
    """What a run was trained with; `given` are other sections."""
    asked = read_yaml(folder / "params.yaml")
    sections = {key: value for key, value in asked.items() if isinstance(value, dict)}
    return _params(asked["method"], sections | given)


def _key_value(text: str) -> tuple[str, str]:
    """'key=value' in two."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, value


def _run_evaluate(options: argparse.Namespace) -> None:
    import torch

    from adtr.data.manifest import read_manifest, root_of
    from adtr.evaluate.stage import evaluate

    torch.set_num_threads(options.threads)
    params = _params_of_run(options.folder, score=_given(options, "score"))
    manifest, stores = read_manifest(options.manifest), _stores(options.features)
    root, device = root_of(options.root), _device(options.device)
    evaluate(options.folder, manifest, stores, root, params, options.label, options.output, device)


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", required=True, help="a file of params/studies")
    parser.add_argument(
        "--set", default="", metavar="'SECTION.NAME=VALUE …'", help="parameters that win over all files"
    )


def _plan_of(options: argparse.Namespace) -> Plan:
    return resolve(options.study, settings=parse_settings(options.set))


def _tables(commands: Any) -> None:
    parser = _command(commands, "tables", _run_tables, "gather a study's metrics and write its tables")
    _add_study(parser)
    parser.add_argument(
        "--layout", type=Path, default=Path("params/tables.yaml"), help="the shape of the paper's tables"
    )
    parser.add_argument("--output", type=Path, required=True, help="the study's folder of results")


def _run_tables(options: argparse.Namespace) -> None:
    from adtr.tables.stage import write
    from adtr.tables.summary import collect, networks

    plan, specs, claims = _plan_of(options), read_yaml(options.layout), read_yaml(DEFAULTS.parent / "paper/claims.yaml")
    metrics, sizes = collect(plan, options.output), networks(plan, options.output)
    write_text(options.output / "metrics.csv", metrics.to_csv(index=False))
    write_text(options.output / "study.yaml", plan.dump())
    write(plan, metrics, sizes, specs, claims, options.output / "tables")


def _plots(commands: Any) -> None:
    parser = _command(commands, "plots", _run_plots, "write what DVC compares: metrics by name, curves of its plots")
    _add_study(parser)
    parser.add_argument("--output", type=Path, required=True, help="the study's folder of results")


def _run_plots(options: argparse.Namespace) -> None:
    from adtr.tables.plots import write_plots

    write_plots(_plan_of(options), options.output)


def _prune(commands: Any) -> None:
    parser = _command(
        commands, "prune", _run_prune, "remove what a study no longer names, and runs of other parameters"
    )
    _add_study(parser)


def _run_prune(options: argparse.Namespace) -> None:
    from adtr.prune import prune

    for removed in prune(_plan_of(options), Path()):
        print(f"removed {removed}")


def _figures(commands: Any) -> None:
    parser = _command(
        commands,
        "figures",
        _run_figures,
        "draw all figures of a category, or one of a data set",
        "adtr figures --study smoke --dataset smoke_mvtec --category screw --output figures",
    )
    _add_study(parser)
    parser.add_argument("--dataset", required=True)
    drawn = parser.add_mutually_exclusive_group(required=True)
    drawn.add_argument("--category", help="of which all figures are drawn")
    drawn.add_argument("--kind", choices=["bars", "tsne"], help="the figure of the whole data set")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all results [results]")
    parser.add_argument("--output", type=Path, required=True, help="folder of the figures")


def _run_figures(options: argparse.Namespace) -> None:
    from adtr.figures.drawing import draw_category, draw_dataset

    plan = _plan_of(options)
    if options.dataset not in plan.datasets:
        raise UserError(f"--dataset {options.dataset}: the study {plan.name} has {', '.join(plan.datasets)}")
    if options.category:
        draw_category(plan, options.dataset, options.category, options.results, options.output)
    else:
        draw_dataset(plan, options.dataset, options.kind, options.results, options.output, DEFAULTS.parent)


def _report(commands: Any) -> None:
    parser = _command(commands, "report", _run_report, "write a study's report as HTML, Markdown, LaTeX")
    _add_study(parser)
    parser.add_argument("--results", type=Path, required=True, help="the study's folder of results")
    parser.add_argument("--output", type=Path, required=True, help="folder of the report")


def _run_report(options: argparse.Namespace) -> None:
    from adtr.report import write

    write(_plan_of(options), options.results, read_yaml(Path("params/tables.yaml")), options.output)


def _plan(commands: Any) -> None:
    parser = _command(commands, "plan", _run_plan, "show a study's resolved parameters and count its runs")
    _add_study(parser)


def _run_plan(options: argparse.Namespace) -> None:
    plan = _plan_of(options)
    print(plan.dump() + f"# {len(list(plan.runs()))} runs")


def _cost(commands: Any) -> None:
    parser = _command(
        commands,
        "cost",
        _run_cost,
        "tell what a study should take on a cluster: runs, GPU hours, jobs",
        "adtr cost --study paper",
    )
    _add_study(parser)
    parser.add_argument(
        "--profile", type=Path, default=Path("profiles/slurm"), help="where batches are set [profiles/slurm]"
    )


def _run_cost(options: argparse.Namespace) -> None:
    from adtr.cost import expected, read_cluster

    batches = read_yaml(options.profile / "config.yaml").get("group-components", {})
    cluster, specs = read_cluster(Path("params/cluster.yaml")), read_yaml(Path("params/tables.yaml"))
    print(expected(_plan_of(options), cluster, specs, batches))
