"""The numbers of docs/findings.md against the reports that they come from."""

import itertools
import re

import pandas as pd
import planted
import pytest

ROOT = planted.REPOSITORY
TEXT = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
DISTANCES = {"L2": "", "standardised L2": ", standardised L2", "Mahalanobis": ", Mahalanobis"}


def rows(text: str) -> list[list[str]]:
    """The cells of the lines of Markdown tables."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


def table(mark: str) -> list[list[str]]:
    """The rows of the text's table between two marks, its head first."""
    return rows(TEXT[TEXT.index(f"<!-- {mark} -->") : TEXT.index(f"<!-- /{mark} -->")])


def measured_of(study: str, metric: str) -> dict[str, list[str]]:
    """The row of each experiment in a report's table of a metric: its categories, their mean, the interval."""
    report = (ROOT / f"reports/measured/{study}/report.md").read_text(encoding="utf-8")
    return {row[0]: row[1:] for row in rows(report.partition(f"# {metric}\n")[2].partition("\n#")[0])}


@pytest.mark.parametrize(
    ("mark", "study", "metric"),
    [
        ("distance_elpv", "distance_elpv", "image AUROC"),
        ("distance_mvtec image AUROC", "distance_mvtec", "image AUROC"),
        ("distance_mvtec pixel AUROC", "distance_mvtec", "pixel AUROC"),
        ("distance_cifar10", "distance_cifar10", "image AUROC"),
    ],
)
def test_the_matrix_of_distances_is_that_of_its_report(mark: str, study: str, metric: str) -> None:
    found = measured_of(study, metric)
    ends = {name: next((i for i, cell in enumerate(row) if cell.startswith("[")), 0) for name, row in found.items()}
    measured = {name: f"{row[ends[name] - 1]} {row[ends[name]]}" for name, row in found.items()}
    head, *lines = table(mark)
    assert head[1:] == [*DISTANCES]
    for name, *cells in lines:
        for distance, cell in zip(head[1:], cells, strict=True):
            plain = ", L2" if name == "Mean" and distance == "L2" else DISTANCES[distance]
            assert cell == measured[name + plain], (name, distance)
    for name in ("PaDiM", "PatchCore") if study != "distance_mvtec" else ():
        assert f"{name} is at {measured[name]}" in TEXT or f"{name} at {measured[name]}" in TEXT


# Of a study: method, metric; its difference from ADTR in the report; what the text says of it
DIFFERENCES = {
    "distance_elpv": [
        ("Mean, L2", "image AUROC", "-9.3 [-11.5, -7.2]", "ADTR is 9.3 (95 % interval 7.2 to 11.5) ahead of the mean"),
        ("ADTR, Mahalanobis", "image AUROC", "+1.2 [+0.7, +1.8]", "adds 1.2 points (0.7 to 1.8)"),
        ("ADTR, standardised L2", "image AUROC", "0.0 [-0.5, +0.5]", "(0.0, −0.5 to 0.5)"),
        ("w/o query", "image AUROC", "-0.1 [-0.3, +0.1]", "(w/o query: −0.1, −0.3 to 0.1)"),
        ("CNN", "image AUROC", "-0.8 [-1.2, -0.3]", "the CNN is 0.8 behind ADTR (0.3 to 1.2)"),
    ],
    "distance_mvtec": [
        ("ADTR, Mahalanobis", "image AUROC", "-4.9 [-9.6, -0.2]", "costs it 4.9 points of image AUROC (0.2 to 9.6)"),
        ("ADTR, Mahalanobis", "pixel AUROC", "-2.9 [-3.5, -2.3]", "2.9 of pixel AUROC (2.3 to 3.5)"),
        ("ADTR, Mahalanobis", "AUPRO", "-10.2 [-12.2, -8.3]", "10.2 of AUPRO (8.3 to 12.2)"),
        ("PaDiM", "image AUROC", "-9.5 [-14.5, -4.6]", "9.5 points of image AUROC (4.6 to 14.5)"),
        ("PaDiM", "pixel AUROC", "-2.4 [-3.1, -1.8]", "2.4 of pixel AUROC (1.8 to 3.1)"),
        ("PaDiM", "AUPRO", "-9.1 [-11.3, -7.1]", "9.1 of AUPRO (7.1 to 11.3)"),
        ("PatchCore", "image AUROC", "+1.0 [-3.2, +5.1]", "image AUROC (−1.0, −5.1 to 3.2)"),
        ("PatchCore", "pixel AUROC", "-1.5 [-1.9, -1.1]", "1.5 of pixel AUROC (1.1 to 1.9)"),
        ("PatchCore", "AUPRO", "-7.3 [-9.4, -5.4]", "7.3 of AUPRO (5.4 to 9.4)"),
        ("w/o query", "AUPRO", "-1.5 [-2.4, -0.7]", "AUPRO is 1.5 lower (0.7 to 2.4)"),
        ("CNN", "image AUROC", "+0.5 [-3.1, +4.1]", "The CNN is level with ADTR"),
        ("CNN", "AUPRO", "-0.3 [-1.0, +0.5]", "in all three metrics"),
    ],
    "ablations_bottle": [
        ("w/o attention", "pixel AUROC", "-0.6 [-1.0, -0.3]", "0.6 points of pixel AUROC (95 % interval 0.3 to 1.0)"),
        ("w/o attention", "AUPRO", "-3.4 [-4.9, -2.2]", "3.4 of AUPRO (2.2 to 4.9)"),
        ("w/o query", "pixel AUROC", "-0.7 [-1.1, -0.4]", "of w/o query by 0.7 (0.4 to 1.1)"),
        ("w/o query", "AUPRO", "-4.0 [-5.7, -2.7]", "and 4.0 (2.7 to 5.7)"),
        ("CNN", "pixel AUROC", "-1.0 [-1.5, -0.6]", "of the CNN by 1.0 (0.6 to 1.5)"),
        ("CNN", "AUPRO", "-6.6 [-9.5, -4.4]", "and 6.6 (4.4 to 9.5)"),
        ("Mean, L2", "pixel AUROC", "0.0 [-0.2, +0.1]", "by pixel AUROC (0.0, −0.2 to 0.1)"),
        ("Mean, L2", "AUPRO", "+0.7 [-0.3, +1.9]", "by AUPRO (0.7, −0.3 to 1.9)"),
        ("ADTR, Mahalanobis", "pixel AUROC", "-2.3 [-3.4, -1.6]", "2.3 points of pixel AUROC less (1.6 to 3.4)"),
        ("PaDiM", "pixel AUROC", "-2.4 [-3.4, -1.5]", "It is 2.4 (1.5 to 3.4) ahead of PaDiM"),
        ("PatchCore", "pixel AUROC", "-2.1 [-2.8, -1.5]", "2.1 (1.5 to 2.8) of PatchCore"),
        ("ADTR+", "AUPRO", "+0.4 [+0.2, +0.7]", "0.4 points of AUPRO (0.2 to 0.7)"),
        ("ADTR+", "pixel AUROC", "0.0 [0.0, +0.1]", "by pixel AUROC (0.0, 0.0 to 0.1)"),
        ("ADTR, longer", "AUPRO", "-0.1 [-0.5, +0.3]", "(AUPRO −0.1, −0.5 to 0.3)"),
        ("ADTR, Mahalanobis, equal scale", "pixel AUROC", "-1.4 [-1.9, -1.0]", "in equal scale 1.4 (1.0 to 1.9)"),
    ],
    "ablations_screw_200": [
        (
            "CNN",
            "pixel AUROC",
            "-0.5 [-0.9, -0.1]",
            "0.5 points of pixel AUROC ahead of the CNN (95 % interval 0.1 to 0.9)",
        ),
        ("CNN", "AUPRO", "-2.4 [-4.0, -1.0]", "and 2.4 of AUPRO (1.0 to 4.0)"),
        ("Mean, L2", "pixel AUROC", "-6.1 [-7.3, -5.1]", "6.1 ahead of the training mean (5.1 to 7.3)"),
        ("PaDiM", "pixel AUROC", "-5.3 [-6.8, -4.1]", "5.3 of PaDiM (4.1 to 6.8)"),
        ("PatchCore", "pixel AUROC", "-3.8 [-4.8, -3.0]", "3.8 of PatchCore (3.0 to 4.8)"),
        ("PaDiM", "AUPRO", "-18.0 [-22.5, -14.0]", "PaDiM is 5.3 and 18.0 (14.0 to 22.5) behind"),
        ("Mean, Mahalanobis", "pixel AUROC", "-3.3 [-4.5, -2.3]", "relative to the variances 3.3 (2.3 to 4.5)"),
        ("Mean, Mahalanobis", "AUPRO", "-11.9 [-15.8, -8.7]", "and 11.9 (8.7 to 15.8)"),
        ("Mean, Mahalanobis, equal scale", "pixel AUROC", "-1.2 [-1.8, -0.7]", "that in equal scale 1.2 (0.7 to 1.8)"),
        ("Mean, Mahalanobis, equal scale", "AUPRO", "-4.8 [-7.0, -3.0]", "and 4.8 (3.0 to 7.0)"),
        ("ADTR, standardised features", "pixel AUROC", "0.0 [-0.2, +0.3]", "at the end level (0.0, −0.2 to 0.3;"),
        ("ADTR, standardised features", "AUPRO", "-0.4 [-1.8, +0.7]", "AUPRO −0.4, −1.8 to 0.7)"),
        ("ADTR, standardised features", "image AUROC", "+6.8 [+0.1, +13.9]", "6.8 ahead (0.1 to 13.9)"),
    ],
    "distance_cifar10": [
        ("ADTR, Mahalanobis", "image AUROC", "+2.2 [+1.6, +2.9]", "adds 2.2 points (1.6 to 2.9) to ADTR's residual"),
        ("Mean, Mahalanobis", "image AUROC", "+2.6 [+1.9, +3.4]", "2.6 more than ADTR by its norm (1.9 to 3.4)"),
        ("w/o query", "image AUROC", "-1.5 [-1.9, -1.2]", "worth 1.5 points of image AUROC here (1.2 to 1.9)"),
        ("CNN", "image AUROC", "-1.8 [-2.7, -0.9]", "1.8 ahead of the CNN (0.9 to 2.7)"),
    ],
    "resolution": [
        (
            "ADTR, 512 px, 24x24",
            "pixel AUROC",
            "+1.5 [+1.1, +1.9]",
            "1.5 points of pixel AUROC ahead of 256 px (95 % interval 1.1 to 1.9)",
        ),
        ("ADTR, 512 px, 24x24", "AUPRO", "+7.8 [+5.9, +9.8]", "7.8 of AUPRO (5.9 to 9.8)"),
        ("ADTR, 512 px, 24x24", "image AUROC", "+6.1 [+1.1, +11.2]", "6.1 of image AUROC (1.1 to 11.2)"),
        ("ADTR, 512 px, 16x16", "pixel AUROC", "+1.3 [+0.9, +1.7]", "1.3 ahead by pixel AUROC (0.9 to 1.7)"),
        ("ADTR, 512 px, 16x16", "AUPRO", "+6.9 [+5.2, +8.9]", "6.9 by AUPRO (5.2 to 8.9)"),
    ],
    "size_cifar10": [
        ("ADTR, 128 px", "image AUROC", "+9.3 [+8.1, +10.5]", "9.3 points to ADTR** (95 % interval 8.1 to 10.5)"),
        ("ADTR, 64 px", "image AUROC", "-1.4 [-2.5, -0.3]", "64 px cost 1.4 (0.3 to 2.5)"),
        ("PaDiM", "image AUROC", "+2.6 [+1.8, +3.3]", "PaDiM is 2.6 ahead of ADTR (1.8 to 3.3)"),
    ],
    "confetti_control": [
        ("ADTR+", "pixel AUROC", "+0.4 [+0.3, +0.5]", "0.4 points of pixel AUROC (95 % interval 0.3 to 0.5)"),
        ("ADTR+", "AUPRO", "+1.9 [+1.4, +2.5]", "and 1.9 of AUPRO (1.4 to 2.5)"),
        ("ADTR, longer", "pixel AUROC", "+0.3 [+0.2, +0.4]", "the control by 0.3 (0.2 to 0.4)"),
        ("ADTR, longer", "AUPRO", "+1.1 [+0.8, +1.4]", "and 1.1 (0.8 to 1.4)"),
        ("ADTR+", "image AUROC", "+0.4 [-1.5, +2.4]", "(ADTR+: 0.4, −1.5 to 2.4)"),
    ],
}
PLAIN = re.sub(r"\s+", " ", TEXT)


@pytest.mark.parametrize(
    ("data", "method", "metric", "gap", "said"), [(data, *row) for data, rows in DIFFERENCES.items() for row in rows]
)
def test_a_difference_in_its_text_is_that_of_its_report(
    data: str, method: str, metric: str, gap: str, said: str
) -> None:
    report = (ROOT / f"reports/measured/{data}/report.md").read_text(encoding="utf-8")
    found = [row for row in rows(report) if len(row) == 8 and (row[0], row[2]) == (method, metric)]
    assert [f"{row[3]} {row[4]}" for row in found] == [gap]
    assert said in PLAIN


def test_how_far_seeds_move_differences_is_in_the_report() -> None:
    report = (ROOT / "reports/measured/distance_elpv/report.md").read_text(encoding="utf-8")
    moved = {row[0]: row[6] for row in rows(report) if len(row) == 8 and row[2] == "image AUROC"}
    networks = {moved["CNN"], moved["w/o query"]}
    said = f"by {networks.pop()} those of the networks, by {moved['ADTR, Mahalanobis']} and {moved['PaDiM']} those of"
    assert not networks
    assert said in PLAIN


def test_the_ablations_at_the_papers_budget_are_those_of_their_report() -> None:
    head, *lines = table("ablations_bottle")
    printed = {"ADTR": "98.0", "ADTR+": "98.0"}
    ablations = pd.read_csv(ROOT / "params/paper/table4.csv", dtype=str).query("part == 'a'").set_index("variant").value
    variants = {"ADTR": "adtr", "w/o attention": "no_attention", "w/o query": "no_query", "CNN": "cnn"}
    mean = {name: ablations[variant] for name, variant in variants.items()}
    for name, *cells in lines:
        measured = [measured_of("ablations_bottle", metric)[name] for metric in head[1:4]]
        found = [f"{row[0]} {row[2]}" if row[2].startswith("[") else row[0] for row in measured]
        assert cells == [*found, printed.get(name, ""), mean.get(name, "")], name
    paper = pd.read_csv(ROOT / "params/paper/table1.csv", dtype=str).query("category == 'bottle'").set_index("method")
    assert paper.value[[*printed]].to_dict() == printed
    gaps = [float(mean["ADTR"]) - float(mean[name]) for name in ("w/o attention", "w/o query", "CNN")]
    assert "The paper's gaps, over 15 categories, are {:.1f}, {:.1f} and {:.1f}:".format(*gaps) in PLAIN


def test_screw_at_200_epochs_is_its_report_and_its_curve() -> None:
    head, *lines = table("ablations_screw_200")
    for name, *cells in lines:
        measured = [measured_of("ablations_screw_200", metric)[name] for metric in head[1:]]
        assert cells == [f"{row[0]} {row[2]}" for row in measured], name
    measured = pd.read_csv(ROOT / "reports/measured/ablations_screw_200/curve.csv")
    curve = measured.set_index(["experiment", "metric", "epoch"]).value.sort_index()
    (_, *epochs), *lines = table("curve screw")
    for name, *cells in lines:
        assert cells == [f"{curve[name, 'pixel_auroc', int(epoch)]:.1f}" for epoch in epochs], name
    behind = curve["CNN", "pixel_auroc", 25] - curve["ADTR", "pixel_auroc", 25]
    assert f"after 25 epochs it is {behind:.0f} behind" in PLAIN
    faster = curve["ADTR, standardised features", "pixel_auroc", 25] - curve["ADTR", "pixel_auroc", 25]
    assert f"after 25 epochs they are {faster:.1f} ahead" in PLAIN
    aupro = [curve["CNN", "aupro", epoch] for epoch in (50, 200)]
    assert "AUPRO from {:.1f} at 50 to {:.1f}".format(*aupro) in PLAIN
    image = measured_of("ablations_screw_200", "image AUROC")["ADTR"][0]
    assert f"image AUROC {image} in place of the paper's 94.0, level" in PLAIN


def test_the_curve_of_the_papers_budget_is_its_file() -> None:
    measured = pd.read_csv(ROOT / "reports/measured/ablations_bottle/curve.csv")
    curve = measured.set_index(["experiment", "metric", "epoch"]).value.sort_index()
    (_, *epochs), *lines = table("curve")
    for name, *cells in lines:
        assert cells == [f"{curve[name, 'pixel_auroc', int(epoch)]:.1f}" for epoch in epochs], name
    aupro = {name: curve[name, "aupro"] for name, *_ in lines}
    assert f"its AUPRO from {aupro['CNN'][50]:.1f} to {aupro['CNN'][500]:.1f}" in PLAIN
    assert (
        f"AUPRO of w/o query falls from {aupro['w/o query'][200]:.1f} at 200 to {aupro['w/o query'][500]:.1f}" in PLAIN
    )
    assert f"its training loss to {curve['w/o query', 'training_loss', 500]:.2f}" in PLAIN
    assert f"(AUPRO {aupro['ADTR'][200]:.1f} there, {aupro['ADTR'][500]:.1f} at the end)" in PLAIN
    first, last, ours = (curve[of, "training_loss", epoch] for of, epoch in (("CNN", 50), ("CNN", 500), ("ADTR", 500)))
    assert f"from {first:.2f} to {last:.2f}, a fifth of ADTR's ({ours:.2f})" in PLAIN
    assert ours / last == pytest.approx(5, abs=0.1)
    ahead = curve["CNN", "pixel_auroc", 50] - curve["ADTR", "pixel_auroc", 50]
    assert f"At 50 the CNN is ahead by {ahead:.0f} points" in PLAIN


def test_what_it_says_of_bottle_and_screw_is_in_their_report() -> None:
    image, pixel = (measured_of("distance_mvtec", metric) for metric in ("image AUROC", "pixel AUROC"))
    assert f"ADTR's image AUROC is {image['ADTR'][0]} (paper 100), its pixel AUROC {pixel['ADTR'][0]}" in PLAIN
    assert f"better there ({pixel['Mean, L2'][0]})" in PLAIN
    assert float(pixel["ADTR"][1]) - float(pixel["Mean, L2"][1]) == pytest.approx(5.0)
    assert f"image AUROC {image['ADTR'][1]} in place of" in PLAIN
    both = [f"{name} {image[name][2]} and {pixel[name][2]}" for name in ("PaDiM", "PatchCore")]
    assert "PaDiM is at {} and {}, PatchCore at {} and {}.".format(*re.findall(r"[\d.]+", " ".join(both))) in PLAIN


def test_what_it_says_of_the_paper_on_cifar10_is_in_its_report() -> None:
    report = (ROOT / "reports/measured/distance_cifar10/report.md").read_text(encoding="utf-8")
    first = next(row for row in rows(report) if row[0] == "ADTR")
    assert f"The paper has {first[2]} for these three classes" in PLAIN
    assert round(float(first[2]) - float(first[1].split()[0])) == 19


def test_sizes_of_images_are_those_of_their_report_beside_others() -> None:
    names = {"256 px, 16x16": "ADTR", "512 px, 16x16": "ADTR, 512 px, 16x16", "512 px, 24x24": "ADTR, 512 px, 24x24"}
    metrics = {name: measured_of("resolution", name) for name in ("image AUROC", "pixel AUROC", "AUPRO")}
    head, *lines = table("resolution")
    third = pd.read_csv(ROOT / "params/paper/third_party.csv").query("method == 'ADTR, EfficientNet-B5'")
    for name, *cells in lines:
        for title, cell in zip(head[1:], cells, strict=True):
            category, metric = title.split(", ")
            column = {"screw": 0, "bottle": 1}[category]
            if name in names:
                assert cell == metrics[metric][names[name]][column], (name, title)
            elif cell and name.startswith("third party"):
                key = metric.lower().replace(" ", "_")
                value = third[(third.metric == key) & (third.category == category)].value.item()
                assert float(cell) == pytest.approx(value, abs=0.051), title
            elif cell:
                number = {"pixel AUROC": 1, "image AUROC": 2}[metric]
                printed = pd.read_csv(ROOT / f"params/paper/table{number}.csv", dtype=str).fillna("")
                ours = printed[(printed.method == "ADTR") & (printed.category == category)]
                assert cell in ours.value.tolist(), title


def test_sizes_of_cifar10s_images_are_those_of_their_report() -> None:
    measured = measured_of("size_cifar10", "image AUROC")
    _, *lines = table("size_cifar10")
    plain = {name: [cell.strip("*") for cell in cells[:4]] for name, cells in measured.items()}
    assert len(lines) == 8
    assert {name: cells for name, *cells in lines} == {name: plain[name] for name, *_ in lines}
    report = (ROOT / "reports/measured/size_cifar10/report.md").read_text(encoding="utf-8")
    paper = float(next(row for row in rows(report) if row[0] == "ADTR")[2])
    assert paper - float(plain["ADTR, 128 px"][3]) == pytest.approx(9.5)


@pytest.mark.parametrize(
    ("study", "method", "metric", "said"),
    [
        ("size_cifar10", "PaDiM, 128 px", "image AUROC", "of PaDiM by 6.0 points (5.3 to 6.8)"),
        ("size_cifar10", "PatchCore, 128 px", "image AUROC", "of PatchCore by 6.5 (5.7 to 7.3)"),
        ("confetti_control", "ADTR, longer", "AUPRO", "is 0.8 points of AUPRO (0.3 to 1.3)"),
        ("confetti_control", "ADTR, longer", "pixel AUROC", "and 0.1 of pixel AUROC (0.0 to 0.2)"),
    ],
)
def test_how_far_the_best_is_ahead_is_in_its_report(study: str, method: str, metric: str, said: str) -> None:
    report = (ROOT / f"reports/measured/{study}/report.md").read_text(encoding="utf-8")
    head, *lines = rows(report.partition("### How far behind the best")[2].partition("\n#")[0])
    gap, low, high = re.findall(r"\d+\.\d", said)
    assert (
        dict(zip(head, next(row for row in lines if row[0] == method), strict=True))[metric] == f"{gap} [{low}, {high}]"
    )
    assert said in PLAIN


def test_what_equal_scale_gains_is_in_the_reports() -> None:
    gains = []
    for study, metric in itertools.product(("ablations_screw_200", "ablations_bottle"), ("pixel AUROC", "AUPRO")):
        measured = measured_of(study, metric)
        equal, own = (float(measured[f"Mean, Mahalanobis{scale}"][0]) for scale in (", equal scale", ""))
        gains.append(f"{equal - own:.1f}")
    assert "on screw {} points of pixel AUROC and {} of AUPRO, on bottle {} and {} (".format(*gains) in PLAIN


def test_confetti_and_its_control_are_those_of_their_report() -> None:
    head, *lines = table("confetti_control")
    assert [name for name, *_ in lines] == ["ADTR", "ADTR+", "ADTR, longer"]
    for name, *cells in lines:
        for title, cell in zip(head[1:], cells, strict=True):
            category, metric = title.split(", ")
            measured = measured_of("confetti_control", metric)[name][{"screw": 0, "bottle": 1}[category]]
            assert cell == measured.strip("*"), (name, title)


def test_distances_fitted_on_images_held_out_are_the_measured_ones() -> None:
    measured, beside, lengths = dict[str, dict[str, list[str]]](), list[list[str]](), list[list[str]]()
    for category in ("screw", "bottle"):
        text = (ROOT / f"reports/measured/held_out/{category}.md").read_text(encoding="utf-8")
        first, _, second = text.partition("The same beside")
        measured[category] = {re.sub(r" \d+ (?=training|of|held)", " ", name): cells for name, *cells in rows(first)}
        beside += [row for row in rows(second) if row[0] == "Mahalanobis, each position, 64 held out"]
        lengths.append([f"{float(length):.2f}" for length in re.findall(r" (\d+\.\d{3})", text)])
    _, *lines = table("held_out")
    for where, fitted_on, *cells in lines:
        of = {"as many as held out": "of them"}.get(fitted_on, fitted_on)
        plain = "L2 of 100 channels" if "100" in where else "L2"
        name = f"Mahalanobis, {where}, {of}" if fitted_on else plain
        assert cells == [measured[category][name][column] for category in measured for column in (2, 4)], name

    def gap(category: str, scale: str, column: int) -> list[str]:
        """The gap and the ends of its interval, without signs."""
        cells = measured[category][f"Mahalanobis, each position, {scale}training images"]
        return re.findall(r"\d+\.\d", cells[column])

    pixel, aupro = (gap("screw", "equal scale, ", column) for column in (3, 5))
    before, (least, most, fewer) = gap("screw", "", 3)[0], gap("screw", "", 5)
    assert (
        f"on screw {pixel[0]} points of pixel AUROC (95 % interval −{pixel[1]} to {pixel[2]}) and {aupro[0]} of AUPRO "
        f"({aupro[1]} less to {aupro[2]} more), in place of {before} and {least} ({fewer} to {most})"
    ) in PLAIN
    own = [gap("bottle", scale, column)[0] for scale in ("equal scale, ", "") for column in (3, 5)]
    assert "on bottle {} and {} in place of {} and {}.".format(*own) in PLAIN
    held, low, high = re.findall(r"\d+\.\d", beside[0][6])
    assert f"(screw: AUPRO −{held}, −{low} to {high})" in PLAIN
    screw, bottle = lengths
    assert f"(screw: {screw[1]} beside {screw[0]} in the mean; bottle: {bottle[1]} beside {bottle[0]};" in PLAIN
    assert f"normal test images {screw[2]} and {bottle[2]})" in PLAIN
