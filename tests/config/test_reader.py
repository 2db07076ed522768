"""The reader of YAML: a mapping, or one message with the file's name; never a hang, a crash, or gigabytes."""

import os
from functools import partial
from pathlib import Path

import pytest

from adtr.config import PARAMS
from adtr.config.reader import parse_yaml, read_as, read_yaml
from adtr.cost import Cluster
from adtr.data.sources import read_sources
from adtr.errors import UserError
from adtr.tables.specs import read_specs

ALIASES = "\n".join([f"a0: &a0 [{'x, ' * 10}]", *(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 10}]" for i in range(1, 9))])
ODD = {
    "contains itself": ("&a {title: *a}", "contains itself"),
    "a list of itself": ("a: &a [*a]", "contains itself"),
    "deep": ("a: " + "[" * 5000, ""),
    "deep and closed": ("a: " + "[" * 100 + "]" * 100, "deeper than 20 levels"),
    "very deep": ("a: " + "[" * 200_000, ""),
    "references of references": (ALIASES, "more than 20000 values"),
    "a long number": ("a: 0x" + "f" * 4000, "more than 3000 signs"),
    "no day": ("a: 2024-13-45", "month must be in 1..12"),
    "no number": ("a: !!int x", ""),
    "no flag": ("a: !!bool x", ""),
    "an object": ("a: !!python/object/apply:os.system ['touch pwned']", "could not determine a constructor"),
    "a mapping as key": ("? {a: 1}\n: 2", "unhashable"),
    "two documents": ("a: 1\n---\na: 2", "but found another document"),
    "an unknown name": ("a: *b", "undefined alias"),
}


@pytest.mark.parametrize(("text", "told"), ODD.values(), ids=ODD)
def test_an_odd_file_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not valid YAML: ")
    assert told in message
    assert len(message) < 500


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, told in (
        (tmp_path, "not a file"),
        (tmp_path / "pipe", "not a file"),
        (tmp_path / ("x" * 999), "not readable"),
    ):
        with pytest.raises(UserError, match=told):
            read_yaml(path)


def test_references_within_reason_are_read() -> None:
    assert parse_yaml("{a: &a [1, 2], b: *a, c: {d: 1e-4}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1e-4}}
    assert parse_yaml("") is None


@pytest.mark.parametrize("text", ["010", "1:30", "1_000", "0x10", "0b11", "+0o7", "-010", "1:30.5", "1:30.", "1_000.5"])
def test_a_number_in_a_notation_that_yaml_reads_as_another_is_text(text: str) -> None:
    """Which no number of the parameters may be: epochs of 0100 would be 64."""
    assert parse_yaml(f"a: {text}") == {"a": text}


@pytest.mark.parametrize("number", [0, 7, 100, -3, 10**23, 2024])
def test_whole_numbers_are_read(number: int) -> None:
    assert parse_yaml(f"[{number}, +{abs(number)}]") == [number, abs(number)]


SHAPES = ["- a", "", "a: 1", "a: {b: [1]}", "a: null", "1: {}", "a: [x]", "{'': {}}"]


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize(
    ("read", "name"),
    [(partial(read_as, kind=Cluster), "cluster.yaml"), (read_sources, "sources.yaml"), (read_specs, "tables.yaml")],
)
def test_a_file_of_a_wrong_shape_is_refused_by_name(tmp_path: Path, read: object, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert callable(read)
    with pytest.raises(UserError, match=name):
        read(tmp_path if name == "tables.yaml" else tmp_path / name)


def test_the_files_of_this_repository_are_read() -> None:
    for path in sorted(PARAMS.rglob("*.yaml")):
        assert read_yaml(path)
