"""Records: what made the files of a stage, and their checksums. Who reads such a file checks it.

A record is JSON beside the files, written last: plain values, `files` (the sha256 of each file by its name) and
`sha256`, its own. A file that is not the one of its record, or has none, is refused by name, so that no number of a
report rests on bytes that were damaged, exchanged or edited. Of a record itself every byte counts, too.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import pandas as pd
import yaml

from adtr.errors import UserError
from adtr.files import content_of, digest, sha256, write_bytes, write_text

FORMULA = re.compile(r"'*[=+\-@\t]")  # a text so begins that a spreadsheet computes, or that has our mark
MAKERS = {"manifests": "index", "run.json": "train", "evaluation.json": "evaluate"}
MAKERS |= {name: name for name in ("shortcuts", "confetti", "outliers", "features", "differences")}
MAKERS |= {name: name for name in ("tables", "plots", "figures")} | {"reports": "report"}


class Values(dict[str, Any]):
    """What a record says; a key that it lacks means that another record lies in its place."""

    def __init__(self, path: Path, values: Mapping[str, Any]):
        super().__init__({k: Values(path, v) if isinstance(v, dict) else v for k, v in values.items()})
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.path}: the record of something else, without {key!r}: {again(self.path)}")


yaml.SafeDumper.add_representer(Values, yaml.SafeDumper.represent_dict)


class Record:
    """A record as it was read and found whole.

    Attributes:
        path: of the record; its files lie in the same folder.
        values: what the stage wrote down.
    """

    def __init__(self, path: Path):
        """Reads a record.

        Raises:
            UserError: it is missing, damaged or was edited.
        """
        self.path = path
        content = _read(path)
        self.values = Values(path, _parsed(path, content))
        as_written = content == _text(self.values).encode()
        if self.values.pop("sha256", None) != digest(self.values) or not as_written:
            raise UserError(f"{path}: damaged or edited, as it is not what its stage wrote: {again(path)}")
        self.files: Mapping[str, str] = self.values.pop("files", {})

    def read(self, name: str) -> bytes:
        """The content of one of its files.

        Raises:
            UserError: it is missing or not the one that the record names.
        """
        path = Path(os.path.normpath(self.path.parent / name))  # a study's metrics.csv lies beside its tables
        content = _read(path, self.path)
        if hashlib.sha256(content).hexdigest() != self.files.get(name):
            reason = f"damaged or edited, as its sha256 is not the one in {self.path.name}"
            raise UserError(f"{path}: {reason}: {again(self.path)}")
        return content

    def check(self, name: str) -> Path:
        """The path of one of its files, whose content was compared; errors as `read`."""
        self.read(name)
        return self.path.parent / name

    def table(self, name: str, **options: Any) -> pd.DataFrame:
        """One of its files that `as_csv` wrote; `options` as of pandas' read_csv."""
        return read_csv(io.BytesIO(self.read(name)), **options)


def as_csv(table: pd.DataFrame, **options: Any) -> str:
    """A table as CSV; `options` as of pandas' to_csv.

    Text that a spreadsheet would compute has an apostrophe in front, which `Record.table` takes away.
    """
    return _mapped(table, lambda text: f"'{text}" if FORMULA.match(text) else text).to_csv(index=False, **options)


def read_csv(file: IO[bytes] | Path, **options: Any) -> pd.DataFrame:
    """A table that `as_csv` wrote; `options` as of pandas' read_csv."""
    table = pd.read_csv(file, **options)
    return _mapped(table, lambda text: text[1:] if text[:1] == "'" and FORMULA.match(text) else text)


def _mapped(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    texts = table.select_dtypes(["object", "str"])
    return table.assign(**texts.map(lambda cell: change(cell) if isinstance(cell, str) else cell))


def write(path: Path, values: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Writes files into the folder of `path`, in their order, and last the record, each atomically.

    Args:
        path: of the record.
        values: of it, as JSON knows them; not `files` and not `sha256`.
        contents: of the files, by name.

    Raises:
        UserError: the disk is full.
    """
    for name, content in contents.items():
        write_bytes(path.parent / name, content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    write_only(path, {**values, "files": files})


def vouch(path: Path, files: Iterable[Path], **values: Any) -> None:
    """Writes the record of files that were just written, in its folder or beside that."""
    write_only(path, values | {"files": {os.path.relpath(file, path.parent): sha256(file) for file in files}})


def write_only(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a record; `values` has the sha256 of files that are there as `files`, if there are any."""
    whole = json.loads(json.dumps(values))  # as it will be read: tuples are lists, keys are text
    write_text(path, _text(whole | {"sha256": digest(whole)}))


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1) + "\n"


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise UserError(f"{path}: damaged, as it is no JSON: {again(path)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: damaged, as it is no JSON object: {again(path)}")
    return values


def _read(path: Path, record: Path | None = None) -> bytes:
    """The content of a file; the message of an error tells how to get the files of its record again."""
    try:
        return content_of(path)
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}): {again(record or path, path.exists())}") from None


def again(path: Path, there: bool = True) -> str:
    """How to get the files of a record again; `there`: they must be removed first."""
    stage = next((MAKERS[part] for part in reversed(path.parts) if part in MAKERS), None)
    return f"{'remove it, then ' * there}{f'`adtr {stage}` or ' if stage else ''}Snakemake makes it again"
