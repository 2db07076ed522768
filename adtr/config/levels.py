"""Levels of parameters laid over each other as dotted keys, and every error of every file in one message."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from adtr.config.schema import Section, parse_value, read_yaml
from adtr.errors import UserError

Flat = dict[str, tuple[Any, str]]  # dotted key -> (value, the file that set it)


def flatten(tree: Mapping[str, Any], source: str, prefix: str = "") -> Flat:
    """A nested mapping as dotted keys, each with where it came from; keys may be dotted already."""
    flat: Flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, source, path + ".")
        else:
            flat[path] = (value, source)
    return flat


def unflatten(flat: Flat, errors: list[str]) -> dict[str, Any]:
    """The inverse of `flatten`, without the sources; what does not fit is left out and added to `errors`."""
    tree: dict[str, Any] = {}
    for path, (value, _) in flat.items():
        *parents, leaf = path.split(".")
        node: Any = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                errors.append(f"{flat[path][1]}: {path}: {parent} is a value, not a section")
                break
        else:
            if value == {}:  # changes nothing of what the section holds
                node.setdefault(leaf, value)
            else:
                node[leaf] = value
    return tree


def parse_settings(text: str) -> dict[str, Any]:
    """Parameters from a command line: 'train.epochs=5 train.lr=1e-3' (spaces or commas between them)."""
    settings: dict[str, Any] = {}
    for item in filter(None, re.split(r"[\s,]+(?![^\[]*\])", text)):  # not within brackets
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"set: {item!r} is not of the form section.name=value")
        try:
            settings[key] = parse_value(value)
        except yaml.YAMLError:
            raise UserError(f"set: {item!r}: its value is not valid YAML") from None
    return settings


class Errors(list[str]):
    """All that is wrong in the parameters."""

    def check(self, model: type[Section], tree: Any, source: str, flat: Flat | None = None, whole: bool = True) -> Any:
        """The section, or nothing; if levels are lacking (not `whole`), what keys mean together is not judged."""
        try:
            return model.model_validate(tree)
        except ValidationError as error:
            for problem in error.errors():
                if not whole and problem["type"] == "value_error" and isinstance(problem["input"], dict):
                    continue
                path = ".".join(str(part) for part in problem["loc"])
                parts = (_source_of(path, flat, source), path, _describe(problem, model))
                self.append(": ".join(filter(None, parts)))
        return None

    def mappings(self, path: Path) -> dict[str, dict[str, Any]]:
        """The named mappings in a YAML file."""
        content = read_yaml(path)
        wrong = {name: value for name, value in content.items() if not isinstance(value, dict)}
        self.extend(f"{path}: {name}: a mapping is expected (it is {value!r})" for name, value in wrong.items())
        return {str(name): value for name, value in content.items() if name not in wrong}

    def known(self, name: str, names: Iterable[str], what: str, source: str) -> bool:
        names = list(names)
        if name not in names:
            self.append(f"{source}: no {what} {name!r}{_suggest(name, names)}; known: {', '.join(names)}")
        return name in names

    def stop(self, where: str = "the parameters") -> None:
        """Raises all of them as one UserError, if there are any."""
        if self:
            unique = list(dict.fromkeys(self))
            noun = "error" if len(unique) == 1 else "errors"
            raise UserError("\n  ".join([f"{len(unique)} {noun} in {where}:", *unique]))


def _source_of(path: str, flat: Flat | None, default: str) -> str:
    """The file that set `path` or a list around it, or for a whole section the files that set anything in it."""
    if flat and path in flat:
        return flat[path][1]
    related = ((key, origin) for key, (_, origin) in (flat or {}).items())
    found = {origin for key, origin in related if f"{key}.".startswith(f"{path}.") or f"{path}.".startswith(f"{key}.")}
    return " and ".join(sorted(found)) or default


def _describe(problem: Any, model: type[Section]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        section: Any = model
        for part in problem["loc"][:-1]:
            kind = section.model_fields[part].annotation
            section = next(iter(get_args(kind)), kind)  # of `Generated | None`, Generated
        return f"unknown key{_suggest(str(problem['loc'][-1]), section.model_fields)}"
    if problem["type"] == "missing" or isinstance(problem["input"], dict):
        return message
    return f"{message} (it is {problem['input']!r})"


def _suggest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
