"""What DVC compares."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from vouched import vouch, vouch_again

from adtr.config.paths import Paths
from adtr.config.study import PLOTS, Plan, Run
from adtr.tables import plots


@pytest.fixture
def paths(plan: Plan, tmp_path: Path) -> Paths:
    """Runs whose loss is 1 / epoch plus the seed; the scores of seed 1 have one pair of four in the wrong order."""
    paths = Paths(plan, tmp_path)
    for run_of in plan.runs():
        (dataset, experiment, category, seed), folder = run_of, paths.run(run_of)
        folder.mkdir(parents=True)
        losses = [(epoch, 1 / epoch + seed) for epoch in (1, 2)] if experiment == "adtr" else []
        pd.DataFrame(losses, columns=["epoch", "loss"]).to_csv(folder / "history.csv", index=False)
        scores = {"label": [0, 0, 1, 1, 1], "split": ["test"] * 4 + ["rest"], "pred_score": [1, 2 + 2 * seed, 3, 5, 0]}
        pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
        run = {"dataset": dataset, "experiment": experiment, "category": category, "seed": seed, "note": ""}
        rows = [run | {"metric": m, "value": 90 + seed, "provenance": ""} for m in ("image_auroc", "image_ap")]
        pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
        params = plan.params[dataset, experiment].decisive()
        vouch(folder / "run.json", trained(plan, dataset, experiment, seed), "history.csv")
        evaluated = {"model": "m", "score": params["score"]}
        vouch(folder / "evaluation.json", evaluated, "scores.csv", "metrics.csv")
    return paths


def trained(plan: Plan, dataset: str, experiment: str, seed: int) -> dict[str, Any]:
    """What a run's record says of its parameters."""
    params = plan.params[dataset, experiment]
    sections = {name: params.decisive()[name] for name in params.method_sections()}
    made = {"features": params.decisive()["features"]}
    start = {"start": "m"} if params.method == "adtr_plus" else {}
    return {"method": params.method, "seed": seed, "params": sections, "features": made, "model": "m"} | start


def test_metrics_are_named_by_data_set_experiment_metric_and_category(paths: Paths) -> None:
    plots.write_plots(paths)
    found = pd.read_json(paths.results / "metrics.json", typ="series")
    assert found["smoke_mvtec"]["adtr"] == {"image_auroc": {"carpet": 90.5, "screw": 90.5, "mean": 90.5}}
    assert all((paths.results / name).is_file() for name in PLOTS)


def test_losses_are_averaged_over_categories_and_seeds(paths: Paths) -> None:
    found = plots.training(paths)
    assert set(found.experiment) == {"adtr"}
    assert found[found.dataset == "smoke_mvtec"].loss.tolist() == [1.5, 1.0]


def test_curves_are_averaged_vertically(paths: Paths) -> None:
    found = plots.roc(paths).query("dataset == 'smoke_mvtec' and experiment == 'adtr'")
    assert len(found) == len(plots.GRID)
    # seed 0: all found at once; seed 1: one of two found, then a normal image, then the other
    after = found[found.fpr > 0].tpr.to_numpy()
    assert after[found[found.fpr > 0].fpr < 50] == pytest.approx(75)
    assert after[found[found.fpr > 0].fpr > 50] == pytest.approx(100)


def test_an_undefined_metric_has_no_value(paths: Paths) -> None:
    path = paths.run(Run("smoke_mvtec", "adtr", "screw", 0)) / "metrics.csv"
    path.write_text(path.read_text().replace(",90,", ",,"))
    vouch_again(path.with_name("evaluation.json"))
    plots.write_plots(paths)
    found = pd.read_json(paths.results / "metrics.json", typ="series")["smoke_mvtec"]["adtr"]["image_auroc"]
    assert found["mean"] is None or np.isnan(found["mean"])


def test_a_continued_training_counts_its_epochs_from_where_it_starts(plan: Plan) -> None:
    assert plan.epochs_before("smoke_mvtec", "adtr_plus") == plan.params["smoke_mvtec", "adtr"].train.epochs == 4
    assert plan.epochs_before("smoke_mvtec", "adtr") == plan.epochs_before("smoke_mvtec", "padim") == 0


def test_parameters_are_those_that_runs_read_once_where_they_agree(plan: Plan) -> None:
    found = plots.parameters(plan)
    assert found["train"]["batch_size"] == 16
    assert found["train"]["epochs"] == dict.fromkeys(found["train"]["epochs"], 4) | {"adtr_plus": 2}
    assert found["features"]["image_size"]["smoke_cifar10/adtr"] == 32
    assert set(found["features"]["backbone"]) == {e for _, e in plan.params}
    assert "padim" in found
    assert "residual" not in found


def test_every_curve_has_the_colour_of_its_experiment(paths: Paths) -> None:
    plots.write_plots(paths)
    for name in PLOTS[2:]:
        table = pd.read_csv(paths.results / name)
        assert dict(zip(table.experiment, table.colour, strict=True))["ADTR"] == "#D55E00"
