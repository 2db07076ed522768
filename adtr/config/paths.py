"""Where files lie: of data sets, runs, tables and reports; shared by the stages and by the workflow.

Paths are relative to the folder in which `adtr` or Snakemake runs: data/ is read, results/, reports/ and state/ are
written.
"""

from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from adtr.config.methods import Params
from adtr.config.schema import Dataset, Features, root_of
from adtr.config.study import Plan, Run
from adtr.files import digest

RESULTS = Path("results")
FIRST_CLASS = {"cifar10": "airplane", "cifar100": "apple"}  # by layout; its manifest stands for all of them


def parts_of(layout: str, category: str) -> list[str]:
    """The parts that a category's manifest draws from. CIFAR-10's test images are shared by all its categories."""
    return [f"train_{category}", "test"] if layout in FIRST_CLASS else [category]


def data_key(name: str, dataset: Dataset) -> str:
    """A data set's name with a digest of all that its manifests depend on, so that two definitions never mix."""
    decisive = dataset.model_dump(mode="json", include={"layout", "root", "generated", "seed", "train_share"})
    return f"{name}-{digest(decisive)[:6]}"


@cache
def feature_key(features: Features) -> str:
    """A readable name for a set of feature parameters, unique by the digest at its end."""
    grid = f"{features.grid_size}x{features.grid_size}"
    return f"{features.backbone}-{features.image_size}px-{grid}-{digest(features.model_dump(mode='json'))[:8]}"


def bank_key(params: Params) -> str:
    """A name for the anomalies that ADTR+ is trained with, unique by the digest at its end."""
    decisive: list[Any] = [params.confetti.model_dump(mode="json"), params.features.image_size]
    name = f"confetti-{params.features.image_size}px"
    if params.adtr_plus.anomalies == "outliers":
        decisive, name = [params.outliers.model_dump(mode="json")], f"outliers-{params.outliers.count}"
    return f"{name}-{digest(decisive)[:8]}"


class Store(NamedTuple):
    """What a feature store is made of."""

    dataset: str  # with `experiment`, the first to use it; they name it on the command line
    experiment: str
    params: Params
    manifest: Path
    anomalies: bool  # those of ADTR+


class Paths:
    """The files of a study.

    Attributes:
        results: the study's folder of results: tables, figures and runs.
        report: the folder of its report.
        keys: the folder's name of each data set below results/manifests and results/features.
    """

    def __init__(self, plan: Plan, root: Path = Path()):
        self.plan, self.root = plan, root
        self.results, self.report = root / RESULTS / plan.name, root / "reports" / plan.name
        self.datasets = plan.datasets | plan.outliers
        self.keys = {name: data_key(name, dataset) for name, dataset in self.datasets.items()}

    def generated(self, dataset: str) -> Path:
        """The mark of a generated data set."""
        return self.root / RESULTS / f"generated/{dataset}/.done"

    def manifest(self, dataset: str, category: str) -> Path:
        return self.root / RESULTS / f"manifests/{self.keys[dataset]}/{category}.csv"

    def shortcuts(self, dataset: str, category: str) -> Path:
        """How far scores that know nothing of defects get on a category."""
        return self.root / RESULTS / f"shortcuts/{self.keys[dataset]}/{category}.csv"

    def category(self, dataset: str, part: str) -> str:
        """A category whose manifest holds the part, the same in every study."""
        layout = self.datasets[dataset].layout
        if layout not in FIRST_CLASS:
            return part
        return FIRST_CLASS[layout] if part == "test" else part.removeprefix("train_")

    def store(self, dataset: str, experiment: str, part: str) -> Path:
        """The feature store of a part of a data set."""
        key = feature_key(self.plan.params[dataset, experiment].features)
        return self.root / RESULTS / f"features/{self.keys[dataset]}/{key}/{part}.npy"

    def stores(self, run: Run) -> list[Path]:
        """The feature stores of a run: of its training images, and of its test images where these have another."""
        parts = parts_of(self.plan.datasets[run.dataset].layout, run.category)
        return [self.store(run.dataset, run.experiment, part) for part in parts]

    @cached_property
    def all_stores(self) -> dict[Path, Store]:
        """What each feature store of the study is made of."""
        found: dict[Path, Store] = {}
        for run in self.plan.runs():
            (dataset, experiment, category, _), params = run, self.plan.params[run[:2]]
            for path in self.stores(run):
                manifest = self.manifest(dataset, self.category(dataset, path.stem))
                found.setdefault(path, Store(dataset, experiment, params, manifest, anomalies=False))
            if bank := self.bank(dataset, experiment, category):
                found.setdefault(bank[1], Store(dataset, experiment, params, bank[0], anomalies=True))
        return found

    def bank(self, dataset: str, experiment: str, category: str) -> tuple[Path, Path] | None:
        """Manifest and feature store of the anomalies that an experiment is trained with; None of other methods."""
        params = self.plan.params[dataset, experiment]
        if params.method != "adtr_plus":
            return None
        key, features, kind = bank_key(params), feature_key(params.features), params.adtr_plus.anomalies
        outliers = kind == "outliers"
        data, part = self.keys[params.outliers.dataset if outliers else dataset], "outliers" if outliers else category
        results = self.root / RESULTS
        return results / f"{kind}/{data}/{key}/{part}.csv", results / f"features/{data}/{features}/{key}/{part}.npy"

    def bank_root(self, dataset: str, experiment: str, manifest: Path) -> Path:
        """The folder of the images of a bank, of its manifest."""
        params = self.plan.params[dataset, experiment]
        outliers = params.adtr_plus.anomalies == "outliers"
        return root_of(self.datasets[params.outliers.dataset].root) if outliers else manifest.parent

    def start(self, run: Run) -> Path | None:
        """The folder of the run that a run starts from; None of methods that start from none."""
        start = self.plan.params[run[:2]].start
        return self.run(run._replace(experiment=start)) if start else None

    def run(self, run: Run) -> Path:
        """The folder of a run."""
        return self.results / "runs" / str(run)

    def state(self, run: Run) -> Path:
        """The folder that an interrupted training resumes from."""
        return self.root / "state" / self.plan.name / str(run)

    def differences(self, run: Run) -> Path:
        """Feature difference vectors of a run."""
        return self.results / "differences" / f"{run}.npz"

    def table(self, name: str) -> list[Path]:
        """The three forms of one of the study's tables."""
        return [self.results / "tables" / f"{name}.{suffix}" for suffix in ("csv", "md", "tex")]

    def category_figures(self, dataset: str, category: str) -> Path:
        return self.results / "figures/categories" / dataset / category

    def dataset_figures(self, dataset: str) -> Path:
        return self.results / "figures/datasets" / dataset
