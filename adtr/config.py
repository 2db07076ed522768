"""Parameters: read from params/, laid over each other, checked all at once.

A parameter's path is `section.name`, as `train.epochs`. Every value stands once in params/default.yaml; recipes, data
sets, experiments and studies hold only what differs. What a stage gets is a frozen section, or its command-line form.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from adtr.errors import UserError


def _no_flag(value: Any) -> Any:
    """Python takes true for 1; a parameter file should not."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


Flat = dict[str, tuple[Any, str]]  # dotted key -> (value, the file that set it)

Positive = Annotated[int, BeforeValidator(_no_flag), Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # safe as a folder's name

BACKBONES = Literal[
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "resnet34",
]  # fmt: skip


class Section(BaseModel):
    """A group of parameters that cannot be changed once read, and admits no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Features(Section):
    """What the frozen backbone sees and gives."""

    backbone: BACKBONES = Field(description="frozen backbone")
    weights: Literal["imagenet", "random"] = Field(description="its weights; random is for tests and speed")
    layers: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        min_length=1, description="which of the layers 1-5 are concatenated"
    )
    image_size: Positive = Field(description="side of the input, px")
    grid_size: Positive = Field(description="side of the feature grid, tokens")

    @field_validator("layers")
    @classmethod
    def _ascending(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if list(layers) != sorted(set(layers)):
            raise ValueError("layers must ascend, each once")
        return layers

    @model_validator(mode="after")
    def _fits(self) -> "Features":
        if self.image_size % self.grid_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of grid_size {self.grid_size}")
        if self.image_size < 32:
            raise ValueError(f"image_size {self.image_size} is less than 32, the stride of layer 5")
        return self


class Model(Section):
    """The transformer of ADTR."""

    width: Positive = Field(description="channels inside the transformer, D")
    encoder_layers: Positive = Field(description="encoder layers")
    decoder_layers: Positive = Field(description="decoder layers")
    heads: Positive = Field(description="attention heads")
    ffn_width: Positive = Field(description="hidden width of the feed forward network")
    dropout: float = Field(ge=0, lt=1, description="dropout probability")
    standardize: bool = Field(description="standardise each channel on the training set")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Model":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Train(Section):
    """How it is trained."""

    epochs: Positive = Field(description="passes over the training images")
    batch_size: Positive = Field(description="images a step")
    lr: float = Field(gt=0, description="initial learning rate of AdamW")
    lr_drop_at: Share = Field(description="share of the epochs after which lr drops")
    lr_drop_factor: Share = Field(description="factor by which it drops")
    weight_decay: float = Field(ge=0, description="weight decay of AdamW")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    grad_clip: float = Field(ge=0, description="largest L2 norm of the gradient, 0 for none")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="of the matrix products; auto is bfloat16 where the device multiplies it natively"
    )
    save_every: Positive = Field(description="epochs between two saved states")
    threads: Positive = Field(description="CPU threads of the training")


class Score(Section):
    """How differences become scores and metrics."""

    pooling: Positive = Field(description="side of the average pooling, tokens")
    image_score: Literal["max", "mean"] = Field(description="what of the pooled map is the image's score")
    aupro_limit: Share = Field(description="largest false positive rate of AUPRO")


class Params(Section):
    """All parameters of an experiment on a data set; a baseline's section comes from params/default.yaml."""

    method: Name
    features: Features
    model: Model
    train: Train
    score: Score

    @model_validator(mode="after")
    def _pooling_fits(self) -> "Params":
        if self.score.pooling > self.features.grid_size:
            raise ValueError(f"pooling {self.score.pooling} is more than grid_size {self.features.grid_size}")
        return self

    def method_sections(self) -> list[str]:
        """The sections that the method's `fit` gets: its own, or those of the trained networks."""
        return [self.method] if self.method in type(self).model_fields else ["model", "train"]


class Generated(Section):
    """Images that are made here, for tests."""

    images: Positive
    size: Positive
    seed: int = 0


class Dataset(Section):
    """Where a data set lies, how it is laid out, and what of it is used."""

    title: str
    layout: Literal["mvtec", "cifar10", "cifar100", "elpv"] = Field(description="mvtec, cifar10, cifar100 or elpv")
    root: str = Field(min_length=1, description="the folder, or package:NAME/FOLDER of an installed package")
    note: str = ""  # what a reader of its numbers must know
    categories: list[Name] | None = None  # none: every folder of `root` that holds train/good
    benchmark: Literal["mvtec", "cifar10"] | None = None
    generated: Generated | None = None
    seed: int = Field(default=0, ge=0, description="of CIFAR-10's sampled anomalies")
    train_share: Share = Field(default=0.75, description="of ELPV's normal images")
    set: dict[str, Any] = {}

    @model_validator(mode="after")
    def _categories_known(self) -> "Dataset":
        if self.categories is None and self.layout != "mvtec":
            raise ValueError("categories may be left out in MVTec's layout only")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError("a category stands twice")
        if "mean" in (self.categories or []):
            raise ValueError("no category may be called mean: tables have a column of that name")
        if self.generated and self.layout not in ("mvtec", "cifar10"):
            raise ValueError(f"images are generated in the layouts mvtec and cifar10, not {self.layout}")
        return self


class Experiment(Section):
    """A named departure from the recipe."""

    title: str
    set: dict[str, Any] = {}


class Study(Section):
    """What is run: experiments by data set, seeds, recipe and budget."""

    title: str
    recipe: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    datasets: dict[Name, list[str]] = Field(min_length=1)
    define: dict[Name, dict[str, Any]] = {}  # data sets of the study's own, or changes to those of datasets.yaml
    set: dict[str, Any] = {}
    overrides: dict[str, dict[str, Any]] = {}

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
            "params": {f"{d}/{e}": params.model_dump(mode="json") for (d, e), params in self.params.items()},
        }
        return yaml.safe_dump(content, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice: PyYAML would keep the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, is not YAML or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (run from the root of the repository)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a mapping is expected")
    return content


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


def unflatten(flat: Flat) -> dict[str, Any]:
    """The inverse of `flatten`, without the sources."""
    tree: dict[str, Any] = {}
    for path, (value, _) in flat.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{flat[path][1]}: {path}: {parent} is a value, not a section")
        if value == {}:  # changes nothing of what the section holds
            node.setdefault(leaf, value)
        else:
            node[leaf] = value
    return tree


def params_model(default: Mapping[str, Any]) -> type[Params]:
    """`Params` with a section for every baseline that params/default.yaml describes.

    Types are those of its values; what is a positive number there must be one everywhere.
    """
    baselines = {name: value for name, value in default.items() if name not in Params.model_fields}
    sections = {}
    for name, values in baselines.items():
        fields = {key: (_kind(value), ...) for key, value in values.items()} if isinstance(values, dict) else {}
        sections[name] = (create_model(name, __base__=Section, **fields), ...)  # type: ignore[call-overload]
    return create_model("Params", __base__=Params, **sections)  # type: ignore[call-overload]


def _kind(value: Any) -> Any:
    positive = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return Annotated[type(value), Field(gt=0)] if positive else type(value)


class _Errors(list[str]):
    """Everything that is wrong, to be told at once."""

    def check(self, model: type[Section], tree: Any, flat: Flat | None, source: str) -> Any:
        try:
            return model.model_validate(tree)
        except ValidationError as error:
            for problem in error.errors():
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
    datasets = _datasets(folder, study, study_file, errors)
    for experiment in study.overrides:
        errors.known(experiment, experiments, "experiment", f"{study_file}: overrides")

    model, params = params_model(default), {}
    for dataset, names in study.datasets.items():
        own = "set" in study.define.get(dataset, {})
        dataset_file = f"{study_file}: define" if own else f"{folder}/datasets.yaml"
        for experiment in names:
            if not errors.known(experiment, experiments, "experiment", f"{study_file}: datasets.{dataset}"):
                continue
            if dataset not in datasets or study.recipe not in recipes:
                continue
            flat = flatten(default, f"{folder}/default.yaml")
            flat |= flatten(datasets[dataset].set, f"{dataset_file}: {dataset}.set")
            flat |= flatten(recipes[study.recipe], f"{folder}/recipes.yaml: {study.recipe}")
            flat |= flatten(study.set, f"{study_file}: set")
            flat |= flatten(experiments[experiment].set, f"{folder}/experiments.yaml: {experiment}.set")
            flat |= flatten(study.overrides.get(experiment, {}), f"{study_file}: overrides.{experiment}")
            flat |= flatten(settings or {}, "command line")
            resolved = errors.check(model, unflatten(flat), flat, f"{folder}/default.yaml")
            if resolved is not None and errors.known(resolved.method, _methods(), "method", flat["method"][1]):
                params[dataset, experiment] = resolved
    errors.stop()
    titles = {key: value.title for key, value in experiments.items()}
    return Plan(name, study, {key: datasets[key] for key in study.datasets}, titles, params)


def _methods() -> list[str]:
    """A method is a module of adtr/methods."""
    return sorted(path.stem for path in (Path(__file__).parent / "methods").glob("[a-z]*.py"))


def _experiments(folder: Path, errors: _Errors) -> dict[str, Experiment]:
    file = folder / "experiments.yaml"
    checked = {
        name: errors.check(Experiment, value, None, f"{file}: {name}") for name, value in errors.mappings(file).items()
    }
    return {name: value for name, value in checked.items() if value is not None}


def _datasets(folder: Path, study: Study, study_file: str, errors: _Errors) -> dict[str, Dataset]:
    """The data sets that the study names, with its own definitions laid over those of datasets.yaml."""
    file = folder / "datasets.yaml"
    known = errors.mappings(file)
    for name in study.define:
        errors.known(name, study.datasets, "data set", f"{study_file}: define")
    datasets = {}
    for name in study.datasets:
        if not errors.known(name, [*known, *study.define], "data set", f"{study_file}: datasets"):
            continue
        definition = known.get(name, {}) | study.define.get(name, {})
        dataset = errors.check(Dataset, definition, None, f"{study_file if name in study.define else file}: {name}")
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


def data_key(name: str, dataset: Dataset) -> str:
    """A data set's name with a digest of all that its manifests depend on, so that two definitions never mix."""
    decisive = dataset.model_dump(mode="json", include={"layout", "root", "generated", "seed", "train_share"})
    return f"{name}-{hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:6]}"


def option(section: type[BaseModel], key: str) -> str:
    """The command-line option of a parameter; a baseline's carries its section's name, as two may share a word."""
    return named_option(section.__name__, key)


def named_option(section: str, key: str) -> str:
    """As `option`, by the section's name; Features, Model, Train, Score and Dataset share no word."""
    shared = section.lower() in ("features", "model", "train", "score", "dataset", "generated")
    return f"--{'' if shared else section + '.'}{key.replace('_', '-')}"


def as_options(*sections: BaseModel) -> str:
    """Parameters in the form in which a stage's command takes them: '--epochs 500 --lr 0.0001'."""
    options = []
    for section in sections:
        for key, value in section.model_dump(mode="json").items():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()
            options.append(f"{option(type(section), key)} {text}")
    return " ".join(options)
