"""Which images are meant by the words of a command line, and their names in text, tables and as files."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from adtr.data.findings import shown
from adtr.data.folders import is_junk
from adtr.data.manifest import SUFFIXES
from adtr.errors import UserError
from adtr.records import FORMULA

UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)  # in the name of a file that we write
LONGEST = 100  # characters of such a name


def cell(path: str | os.PathLike[str]) -> str:
    """A file's name for a table: no program takes it for a formula, and it still names the file."""
    text = shown(path)
    return f"./{text}" if FORMULA.match(text) else text


def images_of(words: Iterable[str], listed: bytes, written: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """The image files that words name, and what else was in the folders among them, as sentences.

    A folder stands for all images below it, in alphabetical order, but for what programs leave behind (hidden files,
    thumbnails) and what lies in `written`; '-' for the names of `listed`.

    Args:
        written: folders that hold results of this command.
        listed: names, a line each; or each ended by a NUL, where there is one.

    Raises:
        UserError: there is not one image.
    """
    found, besides = list[Path](), [folder.resolve() for folder in written]
    notes = []
    for word in words:
        for path in _lines(listed) if word == "-" else [Path(word)]:
            if not path.is_dir():
                found.append(path)
                continue
            names = (p.relative_to(path) for p in path.rglob("*") if not p.is_dir())
            files = sorted(path / name for name in names if not any(map(is_junk, name.parts)))
            files = [p for p in files if not any(map(p.parent.resolve().is_relative_to, besides))]
            images = [file for file in files if file.suffix.lower() in SUFFIXES]
            if others := len(files) - len(images):
                notes.append(f"{shown(path)}: {others} files of other kinds than {', '.join(sorted(SUFFIXES))} ignored")
            found += images
    if not found:
        raise UserError(f"no image to score: name images or folders of them ({', '.join(sorted(SUFFIXES))})")
    return found, notes


def _lines(listed: bytes) -> Iterator[Path]:
    separator = b"\0" if b"\0" in listed else b"\n"
    return (Path(os.fsdecode(name)) for name in listed.split(separator) if name.strip())


def file_names(paths: Iterable[Path]) -> list[str]:
    """A name for what is written of each image: its own as far as it is safe, and each once on any system."""
    taken: set[str] = set()
    names = []
    for path in paths:
        stem = UNSAFE.sub("_", shown(path.stem))[:LONGEST].lstrip(".-") or "image"
        name, count = stem, 1
        while name.lower() in taken:
            count += 1
            name = f"{stem}-{count}"
        taken.add(name.lower())
        names.append(name)
    return names
