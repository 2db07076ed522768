"""Levels of parameters laid over each other as dotted keys, and every error of every file in one message."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from adtr.config.reader import parse_yaml, read_yaml
from adtr.config.schema import Name, Section
from adtr.errors import UserError

Flat = dict[str, tuple[Any, str]]  # dotted key -> (value, the file that set it)
MOST = 200  # signs of a value in a message
A_NAME = "a name is of letters, digits, _ . and -, in quotes where it reads as a number"
_NAME = TypeAdapter(Name)


def is_name(text: Any) -> bool:
    """Whether it may name a study, a data set, a recipe or an experiment: files are called by it."""
    try:
        return bool(_NAME.validate_python(text, strict=True))
    except ValidationError:
        return False


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
            if value != {} or leaf not in node:  # {} changes nothing of what a section holds
                node[leaf] = value
    return tree


def parse_settings(text: str) -> dict[str, Any]:
    """Parameters from a command line: 'train.epochs=5 train.lr=1e-3' (spaces or commas between them).

    Raises:
        UserError: one of them cannot be read, or stands twice.
    """
    settings: dict[str, Any] = {}
    for item in re.findall(r"(?:\[[^\]]*\]?|[^\s,\[])+", text):  # brackets hold spaces and commas
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UserError(f"set: {short(item)} is not of the form section.name=value")
        if key in settings:
            raise UserError(f"set: {short(key)} stands twice")
        try:
            settings[key] = parse_yaml(value)
        except ValueError as error:
            raise UserError(f"set: {short(item)}: its value is not valid YAML: {error}") from None
    return settings


def short(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


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
                path = ".".join(str(part)[:MOST] for part in problem["loc"])
                parts = (_source_of(path, flat, source), path, _describe(problem, model))
                self.append(": ".join(filter(None, parts)))
        return None

    def mappings(self, path: Path) -> dict[str, dict[str, Any]]:
        """The named mappings in a YAML file."""
        found = {}
        for name, value in read_yaml(path).items():
            if not is_name(name):
                self.append(f"{path}: {short(name)}: {A_NAME}")
            elif not isinstance(value, dict):
                self.append(f"{path}: {name}: a mapping is expected (it is {short(value)})")
            else:
                found[name] = value
        return found

    def known(self, name: str, names: Iterable[str], what: str, source: str) -> bool:
        names = list(names)
        if name not in names:
            self.append(f"{source}: no {what} {short(name)}{suggestion(name, names)}; known: {', '.join(names)}")
        return name in names

    def stop(self, where: str = "the parameters") -> None:
        """Raises all of them as one UserError, if there are any."""
        if self:
            unique = list(dict.fromkeys(self))
            raise UserError("\n  ".join([f"{len(unique)} error{'s' * (len(unique) > 1)} in {where}:", *unique]))


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
        return f"unknown key{suggestion(str(problem['loc'][-1]), section.model_fields)}"
    if problem["type"] == "missing" or isinstance(problem["input"], dict):
        return message
    quote = ": put it in quotes" * (problem["type"] == "string_type" and isinstance(problem["input"], int | float))
    return f"{message} (it is {short(problem['input'])}{quote})"


def suggestion(name: str, names: Iterable[str]) -> str:
    """A name like one of `names`, as the end of a message; nothing if none is like it."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
