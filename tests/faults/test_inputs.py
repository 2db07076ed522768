"""Bad inputs of every command, drawn anew each time: told in a message, never a traceback, a hang or an execution."""

import os
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from harness import STUDY, House, chance, copied

pytestmark = pytest.mark.faults

EACH = 100 if os.environ.get("ADTR_FAULTS") == "all" else 8
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**23, -(10**23), float("nan"), float("inf"), [], {}, [[]], [None], {1: 2},
    {"": ""}, {"a": {"b": {"c": 1}}}, ["adtr", "adtr"], [True], ["5"], "", " ", ".", "..", "../../evil", "/etc/passwd",
    "-x", "--help", "$(touch pwned)", "`touch pwned`", "; touch pwned;", "| touch pwned", "a b", "a\nb", "a\tb", "'",
    '"', "\\", "{braces}", "${HOME}", "%", "%s", "#", "a#b", "=1+1", "@x", "nan", "null", "007", "1e3", "2024_11",
    "x" * 5000, "&a [*a]", "é", "日本", "Я", "😀", "\u200b", "\u202e", "<img src=x onerror=alert(1)>",
    "](javascript:alert(1))", "!!python/object/apply:os.system ['touch pwned']",
]  # fmt: skip
TARGETS = ["smoke_mvtec/adtr/carpet/0", "smoke_mvtec/carpet", "smoke_mvtec", "smoke_mvtec/adtr_plus/carpet"]
COMMANDS = ["generate", "index", "confetti", "outliers", "features", "train", "evaluate", "differences", "figures"]


OF_STUDIES = ["plan", "status", "cost", "prune", "tables", "plots", "report", "verify"]
KEYS = ["train.epochs", "train.lr", "model.heads", "features.layers", "features.backbone", "method", "", "x", "train"]
KEYS += ["a.b.c", "confetti.blur", "outliers.dataset", "adtr_plus.start"]


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value, or another key of the old one, at the end of the way."""
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check(house: House, *words: str) -> None:
    place = house.folder / "inputs"
    if not place.exists():
        copied(house.folder / "whole", place)
    ended = house.words(place, *words)
    print(words, ended.code, ended.text[-2000:])
    assert ended.code in (0, 1, 2)
    assert "Traceback" not in ended.text
    assert not list(place.rglob("pwned"))
    assert not [folder for folder in (house.folder / "house", *place.parents[:3]) if {"pwned", "evil"} & names(folder)]


@pytest.mark.parametrize("number", range(EACH))
def test_a_hostile_value_in_a_study(house: House, number: int) -> None:
    random = chance(f"study {number}")
    tree = yaml.safe_load(STUDY)
    for _ in range(random.choice([1, 1, 2])):
        way = random.choice(places(tree))
        tree = replaced(tree, way, random.choice(HOSTILE))
    if random.random() < 0.3 and isinstance(tree, dict):
        tree |= {str(random.choice(HOSTILE)): random.choice(HOSTILE)}
    path = house.folder / "house/params/studies/hostile.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
    check(house, random.choice(["plan", "status", "cost", "tables"]), "--study", "hostile")


@pytest.mark.parametrize("number", range(EACH))
def test_a_study_of_broken_bytes(house: House, number: int) -> None:
    random = chance(f"bytes {number}")
    content = bytearray(STUDY.encode())
    for _ in range(random.randint(1, 8)):
        content[random.randrange(len(content))] = random.randrange(256)
    path = house.folder / "house/params/studies/broken.yaml"
    path.write_bytes(content)
    check(house, "plan", "--study", "broken")


@pytest.mark.parametrize("number", range(EACH))
def test_a_hostile_setting(house: House, number: int) -> None:
    random = chance(f"setting {number}")
    key = random.choice(KEYS)
    form = random.choice(["{}={}", "{} {}", "{}={} ", "={}{}"])
    check(house, "plan", "--study", "faults", "--set", form.format(key, text(random)))


@pytest.mark.parametrize("number", range(EACH))
def test_a_hostile_name(house: House, number: int) -> None:
    """Of a study, a target, a device, a number."""
    random = chance(f"name {number}")
    command, target = random.choice(COMMANDS), random.choice(TARGETS)
    parts = target.split("/")
    parts[random.randrange(len(parts))] = text(random)
    words = [command, "--study", text(random) if random.random() < 0.3 else "faults"]
    words += ["--set", "train.epochs=1"] if random.random() < 0.2 else []
    words += [random.choice(["--device", "--threads"]), text(random)] if random.random() < 0.2 else []
    check(house, *words, "--", "/".join(parts))


@pytest.mark.parametrize("number", range(EACH))
def test_hostile_words(house: House, number: int) -> None:
    random = chance(f"words {number}")
    words = [random.choice([*COMMANDS, *OF_STUDIES, "fetch", text(random)])]
    words += random.choices(
        ["--study", "faults", "--set", "--here", "--parameters", text(random)], k=random.randint(0, 4)
    )
    if words[0] == "fetch":
        words = ["fetch", "--sources", text(random)]
    check(house, *words)


def text(random: Random) -> str:
    """A hostile value as a word of a command line, which cannot hold a NUL."""
    value = str(random.choice(HOSTILE))
    return re.sub("\0", "", value)
