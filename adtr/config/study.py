"""A study: the levels of parameters laid over each other, checked at once; what comes out is a plan of runs.

A parameter's path is `section.name`, as `train.epochs`. Every value stands once in params/default.yaml; data sets,
recipes, experiments and studies hold only what differs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import Field, model_validator

from adtr.config import PARAMS
from adtr.config.levels import A_NAME, Errors, flatten, is_name, short, unflatten
from adtr.config.methods import Params
from adtr.config.reader import read_yaml
from adtr.config.schema import CLASSES, FOLDERS, Dataset, Name, Section, Seed, Title, categories_in, root_of
from adtr.errors import UserError

STARTS = {"adtr_plus": ["adtr"], "residual": ["adtr", "adtr_plus"]}  # methods of the runs that a method starts from
# What lies in results/ and reports/ beside the studies
TAKEN = {"generated", "manifests", "features", "confetti", "outliers", "shortcuts", "measured", "README.md"}
# Files of a training; of an evaluation, beside those; of a study, for DVC
TRAINED = ["params.yaml", "model.safetensors", "history.csv", "snapshots.safetensors", "run.json"]
EVALUATED = ["maps.npy", "scores.csv", "pixels.npz", "metrics.csv", "curve.csv", "calibration.csv", "evaluation.json"]
PLOTS = ["metrics.json", "plots/parameters.yaml", "plots/categories.csv", "plots/training.csv", "plots/roc.csv"]


class Experiment(Section):
    """A named departure from the recipe."""

    title: Title
    set: dict[str, Any] = Field(default={})


class Study(Section):
    """What is run: experiments by data set, seeds, recipe and budget."""

    title: Title
    recipe: str
    seeds: list[Seed] = Field(min_length=1)
    datasets: dict[Name, Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    define: dict[Name, dict[str, Any]] = Field(default={})  # data sets of its own, or changes to those of datasets.yaml
    set: dict[str, Any] = Field(default={})
    overrides: dict[str, dict[str, Any]] = Field(default={})

    @model_validator(mode="after")
    def _nothing_twice(self) -> "Study":
        lists: list[tuple[str, list[Any]]] = [("seeds", list(self.seeds)), *self.datasets.items()]
        for name, values in lists:
            if any(values.count(value) > 1 for value in values):
                raise ValueError(f"{name}: one of them stands twice")
        return self


class Run(NamedTuple):
    """A run by its name in a study, dataset/experiment/category/seed."""

    dataset: str
    experiment: str
    category: str
    seed: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


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

    def runs(self) -> Iterator[Run]:
        """Every run, in the order of the study."""
        for dataset, experiment in self.params:
            for category in self.datasets[dataset].categories:
                for seed in self.seeds(dataset, experiment):
                    yield Run(dataset, experiment, category, seed)

    def categories(self) -> Iterator[tuple[str, str]]:
        """Every category, as data set and name."""
        return ((name, category) for name, dataset in self.datasets.items() for category in dataset.categories)

    def epochs_before(self, dataset: str, experiment: str) -> int:
        """The epochs that were trained before an experiment's training begins: of what it starts from."""
        params = self.params[dataset, experiment]
        if not (params.trains and params.start):
            return 0
        return self.params[dataset, params.start].train.epochs + self.epochs_before(dataset, params.start)

    def seeds(self, dataset: str, experiment: str) -> list[int]:
        """The seeds of an experiment: a method without randomness has one run, whatever the seeds of the study."""
        seeds = self.study.seeds
        return list(seeds) if self.params[dataset, experiment].random else seeds[:1]

    def names(self, target: str, *kinds: str) -> list[str]:
        """The words of a target, known to the study.

        Args:
            kinds: of each word: dataset, experiment, category, seed; others are not checked.

        Raises:
            UserError: with all of them that the study does not have.
        """
        words, errors, datasets = target.split("/"), Errors(), self.datasets | self.outliers
        if len(words) != len(kinds):
            raise UserError(f"{short(target)}: a name of the form {'/'.join(kinds).upper()} is expected")
        if errors.known(words[0], datasets, "data set", f"study {self.name}"):
            known = {"experiment": self.study.datasets.get(words[0], []), "category": datasets[words[0]].categories}
            for word, kind in zip(words, kinds, strict=True):
                if kind == "seed" and not errors:
                    known[kind] = [str(seed) for seed in self.seeds(*words[:2])]
                if kind in known:
                    errors.known(word, known[kind], kind, f"study {self.name}, {words[0]}")
        errors.stop(short(target))
        return words

    def run(self, name: str) -> Run:
        """The run of a name.

        Raises:
            UserError: the study has no such run.
        """
        dataset, experiment, category, seed = self.names(name, "dataset", "experiment", "category", "seed")
        return Run(dataset, experiment, category, int(seed))

    def dump(self) -> str:
        """The resolved study as YAML; of the methods' sections, those that are used."""
        content = {
            "study": {"name": self.name} | self.study.model_dump(mode="json"),
            "datasets": {name: dataset.model_dump(mode="json") for name, dataset in self.datasets.items()},
            "titles": {experiment: self.titles[experiment] for _, experiment in self.params},
            "params": {f"{d}/{e}": params.resolved() for (d, e), params in self.params.items()},
        }
        return yaml.safe_dump(content, sort_keys=False)


def studies(folder: Path = PARAMS) -> list[str]:
    """The names of the studies that there are."""
    names = (path.stem for path in (folder / "studies").glob("*.yaml"))
    return sorted(name for name in names if is_name(name) and name not in TAKEN)


def resolve(name: str, folder: Path = PARAMS, settings: Mapping[str, Any] | None = None) -> Plan:
    """Reads the study `name`, lays all levels over each other and checks them.

    What the paper has are the first levels: default.yaml, the data set's `set` and the experiment's.

    Args:
        name: a file of params/studies, without its ending.
        folder: the folder params/.
        settings: dotted parameters that win over every file.

    Raises:
        UserError: with every error of every file in one message.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: install the package from its checkout, `pip install -e .`")
    errors = Errors()
    default = read_yaml(folder / "default.yaml")
    known = studies(folder)
    if name not in known and f"{name}.yaml" in {path.name for path in (folder / "studies").glob("*.yaml")}:
        why = "results/ and reports/ hold another folder of that name" if name in TAKEN else A_NAME
        errors.append(f"{folder}/studies: {short(name)}: {why}: rename the file")
    else:
        errors.known(name, known, "study", str(folder / "studies"))
    errors.stop()
    study_file = f"{folder}/studies/{name}.yaml"
    study = errors.check(Study, read_yaml(Path(study_file)), study_file)
    of_experiments = errors.mappings(folder / "experiments.yaml").items()
    checked = {key: errors.check(Experiment, of, f"{folder}/experiments.yaml: {key}") for key, of in of_experiments}
    experiments = {key: experiment for key, experiment in checked.items() if experiment}
    recipes = errors.mappings(folder / "recipes.yaml")
    if study is None:
        errors.stop()
    errors.known(study.recipe, recipes, "recipe", study_file)
    definitions = _definitions(folder, study, study_file, errors)
    datasets = _datasets(definitions, folder, study, study_file, errors)
    for experiment in study.overrides:
        errors.known(experiment, experiments, "experiment", f"{study_file}: overrides")

    params, paper = {}, {}
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
            resolved = errors.check(Params, unflatten(flat, errors), f"{folder}/default.yaml", flat, whole)
            if resolved is not None and whole:
                params[dataset, experiment] = resolved
    outliers = _outliers(definitions, folder, study_file, params, datasets, errors)
    titles = {key: value.title for key, value in experiments.items()}
    _one_title_each({experiment: titles[experiment] for _, experiment in params}, "experiments", study_file, errors)
    _one_title_each({key: dataset.title for key, dataset in datasets.items()}, "data sets", study_file, errors)
    errors.stop()
    return Plan(name, study, {key: datasets[key] for key in study.datasets}, titles, params, paper, outliers)


def _one_title_each(titles: Mapping[str, str], what: str, source: str, errors: Errors) -> None:
    """Tables name experiments and data sets by their titles."""
    for title in dict.fromkeys(titles.values()):
        names = [name for name, other in titles.items() if other == title]
        if len(names) > 1:
            errors.append(f"{source}: {what} of one title, {title}: {', '.join(names)}: change it of all but one")


def _outliers(
    definitions: Mapping[str, dict[str, Any]],
    folder: Path,
    study_file: str,
    params: Mapping[tuple[str, str], Params],
    datasets: Mapping[str, Dataset],
    errors: Errors,
) -> dict[str, Dataset]:
    """Checks what experiments start from; gives the data sets that the anomalies of ADTR+ are drawn from."""
    found = {}
    for (dataset, experiment), used in params.items():
        if not used.start:
            continue
        where, start = f"{study_file}: datasets.{dataset}: {experiment}", params.get((dataset, used.start))
        if start is None:
            errors.append(f"{where}: starts from {used.start}, which the study does not run there: add it")
        elif start.method not in STARTS[used.method]:
            expected = " or ".join(STARTS[used.method])
            errors.append(f"{where}: starts from {used.start}, whose method is {start.method}, not {expected}")
        elif (start.features, start.model) != (used.features, used.model):
            errors.append(f"{where}: its features or model are not those of {used.start}, its start")
        elif start.threshold.calibration != used.threshold.calibration:
            errors.append(f"{where}: its threshold.calibration is not that of {used.start}, its start")
        if used.method != "adtr_plus":
            continue
        name = used.outliers.dataset
        if used.adtr_plus.anomalies == "confetti":
            if datasets[dataset].layout.startswith("cifar"):
                errors.append(f"{where}: confetti is for images in files: set adtr_plus.anomalies to outliers")
        elif name == dataset:
            errors.append(f"{where}: outliers of the data set itself: set outliers.dataset to another")
        elif errors.known(name, definitions, "data set", f"{where}: outliers"):
            found[name] = errors.check(Dataset, definitions[name], f"{folder}/datasets.yaml: {name}")
            if found[name] and not found[name].layout.startswith("cifar"):
                errors.append(f"{where}: outliers are drawn from a data set of CIFAR's layout, not from {name}")
    return found


def _definitions(folder: Path, study: Study, study_file: str, errors: Errors) -> dict[str, dict[str, Any]]:
    """Every data set by name, the study's own definitions laid over those of datasets.yaml; unchecked."""
    known = errors.mappings(folder / "datasets.yaml")
    for name in study.define:
        errors.known(name, [*study.datasets, *known], "data set", f"{study_file}: define")
    return {name: known.get(name, {}) | study.define.get(name, {}) for name in [*known, *study.define]}


def _datasets(
    definitions: Mapping[str, dict[str, Any]], folder: Path, study: Study, study_file: str, errors: Errors
) -> dict[str, Dataset]:
    """The data sets that the study names."""
    datasets = {}
    for name in study.datasets:
        if not errors.known(name, definitions, "data set", f"{study_file}: datasets"):
            continue
        source = study_file if name in study.define else f"{folder}/datasets.yaml"
        dataset = errors.check(Dataset, definitions[name], f"{source}: {name}")
        if dataset is not None:
            for category in dataset.categories:
                if dataset.layout in CLASSES:
                    errors.known(category, CLASSES[dataset.layout], "category", f"{source}: {name}")
            datasets[name] = _with_categories(dataset, name, errors)
    standing = [dataset.benchmark for dataset in datasets.values() if dataset.benchmark]
    for twice in sorted({name for name in standing if standing.count(name) > 1}):
        errors.append(f"{study_file}: datasets: two of them have the benchmark {twice}: a table can show one")
    return datasets


def _with_categories(dataset: Dataset, name: str, errors: Errors) -> Dataset:
    """Without a list of categories, every folder of the root that holds what FOLDERS says is one."""
    if dataset.categories:
        return dataset
    try:
        found = categories_in(root_of(dataset.root, dataset.title), dataset.layout)
    except (UserError, OSError) as error:
        errors.append(f"data set {name}: {error}")
        return dataset
    if not found:
        wanted = FOLDERS[dataset.layout]
        errors.append(f"data set {name}: no folder in {dataset.root} holds {wanted}: set its root or layout")
    names = dataset.model_dump() | {"categories": found}
    return errors.check(Dataset, names, f"data set {name}: the folders of {dataset.root}") or dataset
