"""Kinds of defect: their numbers against the exact metrics of the same images, and against arithmetic by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from adtr.config.study import Plan
from adtr.evaluate import metrics
from adtr.evaluate.pixels import count, empty
from adtr.tables import defects

KINDS = ["good"] * 20 + ["scratch"] * 12 + ["dent"] * 8


def case() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """40 test images of which 12 have a scratch, lifted by their maps, and 8 a dent that the maps do not know."""
    rng = np.random.default_rng(0)
    masks = np.zeros((40, 64, 64), bool)
    for image in range(20, 40):
        for _ in range(1 + image % 2):
            y, x = rng.integers(0, 50, 2)
            masks[image, y : y + rng.integers(4, 14), x : x + rng.integers(4, 14)] = True
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 3, 3))
    lift = 8 * ndimage.gaussian_filter(masks.astype(float), (0, 2, 2)) * (np.arange(40) < 32)[:, None, None]
    maps = (noise / noise.std() + lift).astype(np.float32)
    scores = pd.DataFrame({"label": [int(kind != "good") for kind in KINDS], "defect": KINDS, "split": "test"})
    return scores.assign(pred_score=maps.max(axis=(1, 2)).astype(float)), masks, maps


def test_each_kind_stands_against_the_normal_images_alone() -> None:
    scores, masks, maps = case()
    found = defects.of_run(scores, count(masks, maps)).set_index("defect")
    threshold = np.quantile(maps[:20], 0.99)
    for kind, images in {"scratch": range(20, 32), "dent": range(32, 40)}.items():
        both = [*range(20), *images]
        regions, total = ndimage.label(masks[[*images]], metrics.TOUCHING)
        overlap = ndimage.mean(maps[[*images]] > threshold, regions, range(1, total + 1))
        row = found.loc[kind]
        assert (row.images, row.regions) == (len(images), total)
        assert row.image_auroc == metrics.auroc(scores.label.to_numpy()[both] == 1, scores.pred_score.to_numpy()[both])
        assert row.pixel_auroc == pytest.approx(metrics.auroc(masks[both], maps[both]), abs=2e-3)
        assert row.region_recall == pytest.approx((overlap >= 0.5).mean(), abs=1 / total)
    assert found.region_recall["scratch"] > 0.8 > 0.2 > found.region_recall["dent"]


def test_a_region_counts_from_half_of_its_pixels_on_and_images_beyond_the_test_do_not() -> None:
    masks = np.zeros((3, 10, 10), bool)
    masks[1, 0, :2] = masks[2, 0, :3] = True
    maps = np.zeros((3, 10, 10), np.float32)
    maps[0, 9, 9] = 1  # one per cent of the normal image
    maps[1, 0, 0] = maps[2, 0, 0] = 2
    scores = pd.DataFrame({"label": [0, 1, 1], "defect": ["good", "a", "b"], "split": "test"})
    found = defects.of_run(scores.assign(pred_score=[1.0, 2.0, 0.5]), count(masks, maps))
    assert found.region_recall.tolist() == [1, 0]  # one of two pixels, one of three
    assert found.image_auroc.tolist() == [1, 0]
    less = defects.of_run(scores.assign(pred_score=1.0, split=["test", "rest", "test"]), empty(3))
    assert less.defect.tolist() == ["b"]
    assert less[["pixel_auroc", "region_recall", "image_auroc"]].isna().all(axis=None)  # no masks; all scores equal


def test_a_sheet_a_data_set_and_metric_with_its_counts(plan: Plan) -> None:
    rows = [("adtr", "a", 70.0, 55.5), ("adtr", "b", 80, np.nan), ("padim", "a", 90, 60), ("padim", "b", 100, np.nan)]
    table = pd.DataFrame(rows, columns=["experiment", "defect", "image_auroc", "region_recall"])
    table = table.assign(dataset="smoke_mvtec", category="screw", images=[3, 4, 3, 4], regions=[5, 0, 5, 0])
    found = defects.sheets(plan, table.assign(pixel_auroc=np.nan))
    assert [metric for _, metric in found] == ["image_auroc", "region_recall"]
    text = found["smoke_mvtec", "region_recall"].text
    assert [*text] == ["category", "defect", "regions", "ADTR", "PaDiM"]
    assert text.to_numpy().tolist() == [["screw", "a", "5", "55.5", "60.0"], ["screw", "b", "0", "–", "–"]]
    sizes = defects.sheets(plan, table.assign(pixel_auroc=np.nan, regions=[5, 0, 6, 0]))["smoke_mvtec", "region_recall"]
    assert sizes.text.to_numpy().tolist()[0] == ["screw", "a", "5 or 6", "55.5", "60.0"]  # of masks of two sizes
    other = dataclasses.replace(plan, titles=plan.titles | {"padim": "Ours"})
    assert [*defects.sheets(other, table.assign(pixel_auroc=np.nan))["smoke_mvtec", "image_auroc"].text][-1] == "Ours"
