"""The generated files that pin the environment agree with what they are generated from."""

import re
import tomllib
from pathlib import Path

import yaml

HERE = Path(__file__).parent.parent


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def _pins() -> dict[str, str]:
    lines = (line for line in (HERE / "constraints.txt").read_text().splitlines() if "==" in line)
    return {_canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_environment_yml_mirrors_the_pins() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    wanted = [
        re.split("[<>=]", name)[0] for name in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    ]
    environment = yaml.safe_load((HERE / "environment.yml").read_text())
    pinned = [line for line in environment["dependencies"][-1]["pip"] if "==" in line]
    pins = _pins()
    assert pinned == [f"{name}=={pins[_canonical(name)]}" for name in wanted]


def test_no_pin_names_a_build_or_a_place() -> None:
    lines = [line for line in (HERE / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)] == []
