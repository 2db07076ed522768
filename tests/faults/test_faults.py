"""A campaign: kills, damaged files, full disks and bad inputs, drawn anew each time.

`make test` runs a share of it, `make test-faults` all. A failure prints ADTR_FAULTS_SEED, which draws the same again.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from random import Random

import pytest
from harness import STAGES, House, chance, contents, copied, files, kill, leftovers

pytestmark = pytest.mark.faults

WHOLE = os.environ.get("ADTR_FAULTS") == "all"
KILLS, DAMAGES, FULL = (102, 153, 34) if WHOLE else (3, 6, 2)
NAMES = list(STAGES)
RUN = "results/faults/runs/smoke_mvtec"

# What reads a file, by its place: the first pattern that fits; none: people only
READERS = {
    "results/generated/*/train/*": ["shortcuts", "features", "category figures"],
    "results/generated/*.png": ["features", "evaluate", "category figures"],
    "results/manifests/*": ["shortcuts", "confetti", "features", "train", "evaluate", "category figures"],
    "results/shortcuts/*.json": ["tables", "report"],
    "results/shortcuts/*": ["tables"],
    "results/confetti/*.csv": ["anomalies", "train plus", "category figures"],
    "results/confetti/*.json": ["anomalies", "train plus", "category figures"],
    "results/confetti/*": ["anomalies", "train plus"],
    "results/features/*/confetti*": ["train plus"],
    "results/features/*": ["train", "fit", "evaluate", "differences"],
    f"{RUN}/adtr/carpet/0/snapshots*": ["evaluate"],
    f"{RUN}/adtr/carpet/0/model*": ["train plus", "evaluate", "differences"],
    f"{RUN}/adtr/carpet/0/run.json": ["train plus", "evaluate", "tables", "report"],
    f"{RUN}/*/history.csv": ["plots", "category figures"],
    f"{RUN}/*/run.json": ["tables", "report"],
    f"{RUN}/*/metrics.csv": ["tables", "plots"],
    f"{RUN}/*/scores.csv": ["tables", "plots", "category figures"],
    f"{RUN}/*/pixels.npz": ["tables"],
    f"{RUN}/*/evaluation.json": ["tables", "plots"],
    f"{RUN}/*/maps.npy": ["category figures"],
    f"{RUN}/*/curve.csv": ["category figures"],
    "results/faults/differences/*": ["dataset figures"],
    "results/faults/metrics.csv": ["dataset figures", "report"],
    "results/faults/tables/comparison.csv": ["report"],
    "results/faults/tables/parameters.csv": ["report"],
    "results/faults/tables/defects.csv": ["report"],
    "results/faults/tables/shortcuts.csv": ["report"],
    "results/faults/figures/*": ["report"],
}


def after(house: House, stage: str) -> Path:
    """What there was once a stage had ended."""
    following = [*NAMES[NAMES.index(stage) + 1 :], ""][0]
    return house.steps[following] if following else house.folder / "whole"


def drawn(number: int, random: Random) -> str:
    """A stage: one after the other in the whole campaign, else any."""
    return NAMES[number % len(NAMES)] if WHOLE else random.choice(NAMES)


# Kills


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_stage_leaves_nothing_half_and_begins_again(house: House, tmp_path: Path, number: int) -> None:
    """Killed at a random moment, or before a file operation, of a random stage; then the same bytes."""
    random = chance(f"kill {number}")
    stage = drawn(number, random)
    place = copied(house.steps[stage], tmp_path / "place")
    if number % 2:
        ended = house.run(place, stage, kill_at=random.randint(1, 60))
    else:
        process = house.begin(place, stage)
        time.sleep(random.expovariate(2))
        kill(process)
        ended = house.ended()
    assert ended.code in (0, -9), ended.text
    whole = contents(after(house, stage))
    left = {name: content for name, content in contents(place).items() if ".partial" not in name}
    assert left.items() <= whole.items() | contents(house.steps[stage]).items()
    again = house.run(place, stage)
    assert again.code == 0, again.text
    assert contents(place) == whole
    assert leftovers(place) == []


# Damage


def damaged(path: Path, random: Random, others: list[Path]) -> str:
    """Flips a bit of a file, cuts or empties it, or puts another of its kind in its place; says which."""
    whole = path.read_bytes()
    foreign = [other for other in others if other.suffix == path.suffix and other.read_bytes() != whole]
    kinds = ["bit", "cut", "empty", *(["exchanged"] if foreign else [])]
    kind = random.choice(kinds) if whole else "exchanged"
    content = bytearray(whole)
    if kind == "bit":
        bit = random.randrange(8 * len(whole))
        content[bit // 8] ^= 1 << bit % 8
    elif kind == "cut":
        content = content[: random.choice([random.randrange(len(whole)), len(whole) - 1])]
    elif kind == "empty":
        content = bytearray()
    else:
        content = bytearray(random.choice(foreign).read_bytes())
    path.unlink()  # the other copies share the file
    path.write_bytes(content)
    return kind


@pytest.mark.parametrize("number", range(DAMAGES))
def test_damage_is_noticed_or_harmless(house: House, tmp_path: Path, number: int) -> None:
    """By whatever reads the file next, with its name, and by `adtr verify`."""
    random, whole = chance(f"damage {number}"), house.folder / "whole"
    place = copied(whole, tmp_path / "place")
    found = {name: path for name, path in files(place).items() if name.startswith("results/")}
    kinds = sorted({pattern for name in found for pattern in [pattern_of(name)] if pattern})
    wanted = kinds[number % len(kinds)] if WHOLE else random.choice(kinds)
    name = random.choice([name for name in found if pattern_of(name) == wanted])
    kind, stage = damaged(found[name], random, [*found.values()]), random.choice(READERS[wanted])
    before = contents(place)
    ended = house.run(place, stage)
    harmless = ended.code == 0 and contents(place) == before
    print(f"{name}: {kind}; {stage}: {ended.code}\n{ended.text}")
    assert (ended.told and named(name, ended.text)) or harmless
    if not name.startswith("results/generated"):
        verified = house.words(place, "verify", "--study", "faults")
        assert verified.told, verified.text
        assert named(name, verified.text)


def named(name: str, text: str) -> bool:
    """Whether a message leads to a file: by its name, or by the files beside it that do not fit an exchanged record."""
    return name in text or str(Path(name).parent) in text


def pattern_of(name: str) -> str:
    return next((pattern for pattern in READERS if fnmatch(name, pattern)), "")


@pytest.mark.parametrize("number", range(DAMAGES // 3))
def test_a_damaged_state_costs_time_and_no_number(house: House, tmp_path: Path, number: int) -> None:
    """Of a training that was killed; the model is that of an undisturbed one."""
    random = chance(f"state {number}")
    stage = random.choice(["train", "train plus"])
    place = copied(house.steps[stage], tmp_path / "place")
    process = house.begin(place, stage)
    deadline = time.monotonic() + 60
    own = place / "state/faults/smoke_mvtec" / STAGES[stage][-1].split("/")[1]
    while not list(own.rglob("state.pt")) or random.random() < 0.7:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill(process)
    house.ended()
    states = [path for path in own.rglob("*") if path.is_file()]
    others = [path for path in files(house.folder / "whole").values() if path.suffix in {".pt", ".json"}]
    path = random.choice(states)
    print(path, damaged(path, random, others))
    ended = house.run(place, stage)
    assert ended.code == 0, ended.text
    assert contents(place) == contents(after(house, stage))


# Disks


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of 64 MB of its own."""
    folder = tmp_path_factory.mktemp("disk")
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]).returncode:
        pytest.skip("no disk can be mounted here (root is needed)")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def brought(step: Path, disk: Path) -> Path:
    """A copy of a step, alone on a disk."""
    shutil.rmtree(disk / "place", ignore_errors=True)
    return Path(shutil.copytree(step, disk / "place"))


@pytest.mark.parametrize("number", range(FULL))
def test_a_full_disk_is_told_and_leaves_nothing(house: House, small_disk: Path, number: int) -> None:
    random = chance(f"disk {number}")
    stage = drawn(number, random)
    place = brought(house.steps[stage], small_disk)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler = small_disk / "filler"
    filler.write_bytes(bytes(max(0, free - random.choice([0, 4096, 16384]))))
    ended = house.run(place, stage)
    left = leftovers(place)
    filler.unlink()
    print(stage, ended)
    assert ended.told or ended.code == 0
    assert left == []
    again = house.run(place, stage)
    assert again.code == 0, again.text
    assert contents(place) == contents(after(house, stage))


@pytest.mark.parametrize("number", range(FULL))
def test_a_disk_that_is_read_only_is_told(house: House, small_disk: Path, number: int) -> None:
    random = chance(f"read only {number}")
    stage = drawn(number, random)
    place = brought(house.steps[stage], small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        ended = house.run(place, stage)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    print(stage, ended)
    assert ended.told
    assert contents(place) == contents(house.steps[stage])
