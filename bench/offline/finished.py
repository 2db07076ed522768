"""Reduces the file of a study to what is finished, so that it can be reported; exits with 1 if there is nothing.

Kept are the seeds of which some category has ADTR, the categories that have ADTR of all these seeds, and the
experiments that are finished in all of both.
    python bench/offline/finished.py STUDY
"""

import json
import sys

from adtr.config import PARAMS
from adtr.config.paths import Paths
from adtr.config.reader import read_yaml
from adtr.config.study import Run, resolve


def main(name: str) -> None:
    plan = resolve(name)
    paths, path = Paths(plan), PARAMS / f"studies/{name}.yaml"
    ((dataset, experiments),) = plan.study.datasets.items()
    categories = plan.datasets[dataset].categories

    def finished(experiment: str, category: str, seeds: list[int]) -> bool:
        runs = [Run(dataset, experiment, category, seed) for seed in seeds if seed in plan.seeds(dataset, experiment)]
        files = [paths.run(run) / file for run in runs for file in ("run.json", "evaluation.json")]
        return bool(runs) and all(file.is_file() for file in files)

    seeds = list(plan.study.seeds)
    while seeds and not any(finished("adtr", category, seeds) for category in categories):
        seeds.pop()
    categories = [category for category in categories if finished("adtr", category, seeds)]
    kept = [e for e in experiments if categories and all(finished(e, category, seeds) for category in categories)]
    if not kept:
        sys.exit(f"{name}: no run is finished")
    content = read_yaml(path)
    content["seeds"], content["datasets"] = seeds, {dataset: kept}
    content["define"] = {dataset: content.get("define", {}).get(dataset, {}) | {"categories": categories}}
    content["overrides"] = {key: value for key, value in content.get("overrides", {}).items() if key in kept}
    path.write_text(json.dumps(content, indent=1))
    print(f"{name}: reported are {kept} of {categories}, seeds {seeds}")


if __name__ == "__main__":
    main(sys.argv[1])
