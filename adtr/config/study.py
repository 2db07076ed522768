"""A study: the levels of parameters laid over each other, and checked all at once.

A parameter's path is `section.name`, as `train.epochs`. Every value stands once in params/default.yaml; data sets,
recipes, experiments and studies hold only what differs. What comes out is a plan: every run with its parameters.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from adtr.config.schema import Dataset, Features, Name, Params, Section, params_model, read_yaml
from adtr.errors import UserError

Flat = dict[str, tuple[Any, str]]  # dotted key -> (value, the file that set it)


class Experiment(Section):
    """A named departure from the recipe."""

    title: str
    set: dict[str, Any] = Field(default={})


class Study(Section):
    """What is run: experiments by data set, seeds, recipe and budget."""

    title: str
    recipe: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    datasets: dict[Name, list[str]] = Field(min_length=1)
    define: dict[Name, dict[str, Any]] = Field(
        default={}
    )  # data sets of the study's own, or changes to those of datasets.yaml
    set: dict[str, Any] = Field(default={})
    overrides: dict[str, dict[str, Any]] = Field(default={})

    @model_validator(mode="after")
    def _nothing_twice(self) -> "Study":
        lists: list[tuple[str, list[Any]]] = [("seeds", list(self.seeds)), *self.datasets.items()]
        for name, values in lists:
            if any(values.count(value) > 1 for value in values):
                raise ValueError(f"{name}: one of them stands twice")
        return self


@dataclass(frozen=True)
class Plan:
    """A study resolved: for each data set its definition, its categories and the parameters of its experiments."""

    name: str
    study: Study
    datasets: dict[str, Dataset]
    titles: dict[str, str]
    params: dict[tuple[str, str], Params]  # (data set, experiment)
    paper: dict[tuple[str, str], dict[str, Any]]  # the same as the paper has them, by dotted key: see `resolve`
    outliers: dict[str, Dataset]  # data sets that only lend anomalies

    def runs(self) -> Iterable[tuple[str, str, str, int]]:
        """(dataset, experiment, category, seed) of every run, in the order of the study."""
        for dataset, experiments in self.study.datasets.items():
            for experiment in experiments:
                for category in self.datasets[dataset].categories or []:
                    for seed in self.study.seeds:
                        yield dataset, experiment, category, seed

    def dump(self) -> str:
        """The resolved study as YAML."""
        content = {
            "study": {"name": self.name} | self.study.model_dump(mode="json"),
            "datasets": {name: dataset.model_dump(mode="json") for name, dataset in self.datasets.items()},
            "titles": {experiment: self.titles[experiment] for _, experiment in self.params},
            "params": {f"{d}/{e}": params.model_dump(mode="json") for (d, e), params in self.params.items()},
        }
        return yaml.safe_dump(content, sort_keys=False)


def flatten(tree: Mapping[str, Any], source: str, prefix: str = "") -> Flat:
    """A nested mapping as dotted keys, each with where it came from; keys may be dotted already."""
    flat: Flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, source, path + ".")
        else:
            flat[path] = (value, source)
    return flat


def unflatten(flat: Flat, errors: list[str]) -> dict[str, Any]:
    """The inverse of `flatten`, without the sources; what does not fit is left out and added to `errors`."""
    tree: dict[str, Any] = {}
    for path, (value, _) in flat.items():
        *parents, leaf = path.split(".")
        node: Any = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                errors.append(f"{flat[path][1]}: {path}: {parent} is a value, not a section")
                break
        else:
            if value == {}:  # changes nothing of what the section holds
                node.setdefault(leaf, value)
            else:
                node[leaf] = value
    return tree


class _Errors(list[str]):
    """Everything that is wrong, to be told at once."""

    def check(self, model: type[Section], tree: Any, flat: Flat | None, source: str, whole: bool = True) -> Any:
        """The section, or nothing; if levels are lacking (not `whole`), what keys mean together is not judged."""
        try:
            return model.model_validate(tree)
        except ValidationError as error:
            for problem in error.errors():
                if not whole and problem["type"] == "value_error" and isinstance(problem["input"], dict):
                    continue
                path = ".".join(str(part) for part in problem["loc"])
                parts = (_source_of(path, flat, source), path, _describe(problem, model))
                self.append(": ".join(filter(None, parts)))
        return None

    def mappings(self, path: Path) -> dict[str, dict[str, Any]]:
        """The named mappings in a YAML file."""
        content = read_yaml(path)
        wrong = {name: value for name, value in content.items() if not isinstance(value, dict)}
        self.extend(f"{path}: {name}: a mapping is expected (it is {value!r})" for name, value in wrong.items())
        return {str(name): value for name, value in content.items() if name not in wrong}

    def known(self, name: str, names: Iterable[str], what: str, source: str) -> bool:
        names = list(names)
        if name not in names:
            self.append(f"{source}: no {what} {name!r}{_suggest(name, names)}; known: {', '.join(names)}")
        return name in names

    def stop(self) -> None:
        if self:
            unique = list(dict.fromkeys(self))
            noun = "error" if len(unique) == 1 else "errors"
            raise UserError("\n  ".join([f"{len(unique)} {noun} in the parameters:", *unique]))


def _source_of(path: str, flat: Flat | None, default: str) -> str:
    """The file that set `path` or a list around it, or for a whole section the files that set anything in it."""
    if flat and path in flat:
        return flat[path][1]
    related = ((key, origin) for key, (_, origin) in (flat or {}).items())
    found = {origin for key, origin in related if f"{key}.".startswith(f"{path}.") or f"{path}.".startswith(f"{key}.")}
    return " and ".join(sorted(found)) or default


def _describe(problem: Any, model: type[Section]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        section: Any = model
        for part in problem["loc"][:-1]:
            kind = section.model_fields[part].annotation
            section = next(iter(get_args(kind)), kind)  # of `Generated | None`, Generated
        return f"unknown key{_suggest(str(problem['loc'][-1]), section.model_fields)}"
    if problem["type"] == "missing" or isinstance(problem["input"], dict):
        return message
    return f"{message} (it is {problem['input']!r})"


def _suggest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def parse_settings(text: str) -> dict[str, Any]:
    """Parameters from a command line: 'train.epochs=5 train.lr=1e-3' (spaces or commas between them)."""
    settings: dict[str, Any] = {}
    for item in filter(None, re.split(r"[\s,]+(?![^\[]*\])", text)):  # not within brackets
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"set: {item!r} is not of the form section.name=value")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"set: {item!r}: its value is not valid YAML") from None
    return settings


def resolve(name: str, folder: Path = Path("params"), settings: Mapping[str, Any] | None = None) -> Plan:
    """Reads the study `name`, lays all levels over each other and checks them.

    What the paper has are the first levels: default.yaml, the data set's `set` and the experiment's.

    Args:
        name: a file of params/studies, without its ending.
        folder: the folder params/.
        settings: dotted parameters that win over every file.

    Raises:
        UserError: with every error of every file in one message.
    """
    errors = _Errors()
    default = read_yaml(folder / "default.yaml")
    studies = sorted(path.stem for path in (folder / "studies").glob("*.yaml"))
    if not errors.known(name, studies, "study", str(folder / "studies")):
        errors.stop()
    study_file = f"{folder}/studies/{name}.yaml"
    study = errors.check(Study, read_yaml(Path(study_file)), None, study_file)
    experiments = _experiments(folder, errors)
    recipes = errors.mappings(folder / "recipes.yaml")
    if study is None:
        errors.stop()
    errors.known(study.recipe, recipes, "recipe", study_file)
    definitions = _definitions(folder, study, study_file, errors)
    datasets = _datasets(definitions, folder, study, study_file, errors)
    for experiment in study.overrides:
        errors.known(experiment, experiments, "experiment", f"{study_file}: overrides")

    model, params, paper = params_model(default), {}, {}
    for dataset, names in study.datasets.items():
        own = "set" in study.define.get(dataset, {})
        dataset_file = f"{study_file}: define" if own else f"{folder}/datasets.yaml"
        for experiment in names:
            if not errors.known(experiment, experiments, "experiment", f"{study_file}: datasets.{dataset}"):
                continue
            flat = flatten(default, f"{folder}/default.yaml")
            if dataset in datasets:
                flat |= flatten(datasets[dataset].set, f"{dataset_file}: {dataset}.set")
            changed = flatten(experiments[experiment].set, f"{folder}/experiments.yaml: {experiment}.set")
            paper[dataset, experiment] = {key: value for key, (value, _) in (flat | changed).items()}
            flat |= flatten(recipes.get(study.recipe, {}), f"{folder}/recipes.yaml: {study.recipe}")
            flat |= flatten(study.set, f"{study_file}: set")
            flat |= changed
            flat |= flatten(study.overrides.get(experiment, {}), f"{study_file}: overrides.{experiment}")
            flat |= flatten(settings or {}, "command line")
            whole = dataset in datasets and study.recipe in recipes
            resolved = errors.check(model, unflatten(flat, errors), flat, f"{folder}/default.yaml", whole)
            known = resolved is not None and errors.known(resolved.method, _methods(), "method", flat["method"][1])
            if known and whole:
                params[dataset, experiment] = resolved
    layouts = {key: value.layout for key, value in datasets.items()}
    outliers = _outliers(definitions, folder, study_file, params, layouts, errors)
    errors.stop()
    titles = {key: value.title for key, value in experiments.items()}
    return Plan(name, study, {key: datasets[key] for key in study.datasets}, titles, params, paper, outliers)


def _outliers(
    definitions: Mapping[str, dict[str, Any]],
    folder: Path,
    study_file: str,
    params: Mapping[tuple[str, str], Params],
    layouts: Mapping[str, str],
    errors: _Errors,
) -> dict[str, Dataset]:
    """Checks what ADTR+ goes on from; gives the data sets that its anomalies are drawn from."""
    found = {}
    for (dataset, experiment), used in params.items():
        if used.method != "adtr_plus":
            continue
        where, start = f"{study_file}: datasets.{dataset}: {experiment}", params.get((dataset, used.adtr_plus.start))
        if start is None:
            errors.append(f"{where}: starts from {used.adtr_plus.start}, which the study does not run there: add it")
        elif start.method != "adtr":
            errors.append(f"{where}: starts from {used.adtr_plus.start}, whose method is {start.method}, not adtr")
        elif (start.features, start.model) != (used.features, used.model):
            errors.append(f"{where}: its features or model are not those of {used.adtr_plus.start}, its start")
        name = used.outliers.dataset
        if used.adtr_plus.anomalies == "confetti":
            if layouts[dataset].startswith("cifar"):
                errors.append(f"{where}: confetti is for images in files: set adtr_plus.anomalies to outliers")
        elif errors.known(name, definitions, "data set", f"{where}: outliers"):
            found[name] = errors.check(Dataset, definitions[name], None, f"{folder}/datasets.yaml: {name}")
            if found[name] and not found[name].layout.startswith("cifar"):
                errors.append(f"{where}: outliers are drawn from a data set of CIFAR's layout, not from {name}")
    return found


def _methods() -> list[str]:
    """A method is a module of adtr/methods."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "methods").glob("[a-z]*.py"))


def _experiments(folder: Path, errors: _Errors) -> dict[str, Experiment]:
    file = folder / "experiments.yaml"
    checked = {
        name: errors.check(Experiment, value, None, f"{file}: {name}") for name, value in errors.mappings(file).items()
    }
    return {name: value for name, value in checked.items() if value is not None}


def _definitions(folder: Path, study: Study, study_file: str, errors: _Errors) -> dict[str, dict[str, Any]]:
    """Every data set by name, the study's own definitions laid over those of datasets.yaml; unchecked."""
    known = errors.mappings(folder / "datasets.yaml")
    for name in study.define:
        errors.known(name, [*study.datasets, *known], "data set", f"{study_file}: define")
    return {name: known.get(name, {}) | study.define.get(name, {}) for name in [*known, *study.define]}


def _datasets(
    definitions: Mapping[str, dict[str, Any]], folder: Path, study: Study, study_file: str, errors: _Errors
) -> dict[str, Dataset]:
    """The data sets that the study names."""
    file, datasets = folder / "datasets.yaml", {}
    for name in study.datasets:
        if not errors.known(name, definitions, "data set", f"{study_file}: datasets"):
            continue
        dataset = errors.check(
            Dataset, definitions[name], None, f"{study_file if name in study.define else file}: {name}"
        )
        if dataset is not None:
            datasets[name] = _with_categories(dataset, name, errors)
    standing = [dataset.benchmark for dataset in datasets.values() if dataset.benchmark]
    for twice in sorted({name for name in standing if standing.count(name) > 1}):
        errors.append(f"{study_file}: datasets: two of them have the benchmark {twice}: a table can show one")
    return datasets


def _with_categories(dataset: Dataset, name: str, errors: _Errors) -> Dataset:
    """Without a list of categories, every folder of the root that holds train/good is one."""
    if dataset.categories is not None:
        return dataset
    found = sorted(path.parent.parent.name for path in Path(dataset.root).glob("*/train/good"))
    if not found:
        errors.append(f"data set {name}: no folder in {dataset.root} holds train/good: set its root")
    names = dataset.model_dump() | {"categories": found}
    return errors.check(Dataset, names, None, f"data set {name}: the folders of {dataset.root}") or dataset


def feature_key(features: Features) -> str:
    """A readable name for a set of feature parameters, unique by the digest at its end."""
    content = json.dumps(features.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{features.backbone}-{features.image_size}px-{features.grid_size}x{features.grid_size}-{digest}"


def bank_key(params: Params) -> str:
    """A name for the anomalies that ADTR+ is trained with, unique by the digest at its end."""
    decisive: list[Any] = [params.confetti.model_dump(mode="json"), params.features.image_size]
    name = f"confetti-{params.features.image_size}px"
    if params.adtr_plus.anomalies == "outliers":
        decisive, name = [params.outliers.model_dump(mode="json")], f"outliers-{params.outliers.count}"
    return f"{name}-{hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]}"


def run_folder(results: Path, dataset: str, experiment: str, category: str, seed: int | str) -> Path:
    """Where a run lies below the results of its study."""
    return results / "runs" / dataset / experiment / category / str(seed)


EVALUATED = ["maps.npy", "scores.csv", "metrics.csv", "curve.csv", "evaluation.json"]  # beside what a training leaves


def differences_file(results: Path, dataset: str, experiment: str, category: str, seed: int | str) -> Path:
    """Where the feature differences of a run lie below the results of its study."""
    return results / "differences" / dataset / experiment / category / f"{seed}.npz"


def data_key(name: str, dataset: Dataset) -> str:
    """A data set's name with a digest of all that its manifests depend on, so that two definitions never mix."""
    decisive = dataset.model_dump(mode="json", include={"layout", "root", "generated", "seed", "train_share"})
    return f"{name}-{hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:6]}"
