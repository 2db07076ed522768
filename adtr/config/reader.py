"""The one reader of YAML: whatever is wrong with a text becomes a message."""

import re
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from adtr.errors import UserError
from adtr.files import content_of

T = TypeVar("T")

NUMBERS = {  # how they are written
    "tag:yaml.org,2002:int": r"0|[1-9]\d*",
    "tag:yaml.org,2002:float": r"(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|nan)",
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML that takes 1e-4 for a number, and neither 010, nor 1:30, nor 1_000.5: 8, 90 and 1000.5 to PyYAML.

    It refuses a key that stands twice: PyYAML would keep the last one.
    """

    yaml_implicit_resolvers: ClassVar = {
        sign: [(tag, pattern) for tag, pattern in resolvers if tag not in NUMBERS]
        for sign, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


for kind, written in NUMBERS.items():
    _Loader.add_implicit_resolver(kind, re.compile(rf"[-+]?({written})$"), list("-+.0123456789"))
DEEPEST, MOST, LENGTH = 20, 20_000, 3_000  # levels, values and signs of a value: more is no file of parameters


def parse_yaml(text: str) -> Any:
    """What YAML means, nothing of an empty text.

    Raises:
        ValueError: it is no YAML, contains itself, or is far larger or deeper than parameters are.
    """
    try:
        _check_depth(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, DEEPEST, {})
        return loader.construct_document(node)
    except Exception as error:  # PyYAML's constructors raise all sorts
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _check_depth(text: str) -> None:
    """Before nodes are made, in whose depth PyYAML overflows the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > LENGTH:
            raise ValueError(f"a value of more than {LENGTH} signs")
        if depth > DEEPEST:
            raise ValueError(f"it nests deeper than {DEEPEST} levels")


def _count(node: yaml.Node, levels: int, counts: dict[yaml.Node, int]) -> int:
    """The values below a node, each as often as it is referred to; `counts` has those of the nodes before."""
    if node in counts or isinstance(node, yaml.ScalarNode):
        return counts.get(node, 1)
    if levels == 0:
        raise ValueError(f"it contains itself, or nests deeper than {DEEPEST} levels")
    parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
    counts[node] = 1 + sum(_count(part, levels - 1, counts) for part in parts)
    if counts[node] > MOST:
        raise ValueError(f"more than {MOST} values")
    return counts[node]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, cannot be read, is not YAML or not a mapping.
    """
    try:
        content = parse_yaml(content_of(path).decode())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: not readable: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a mapping is expected")
    return content


def read_as(path: Path, kind: type[T]) -> T:
    """What a YAML file holds, as a type that pydantic can check.

    Raises:
        UserError: with every error in it.
    """
    try:
        return TypeAdapter(kind).validate_python(read_yaml(path))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise UserError("\n  ".join([f"{path}:", *problems])) from None
