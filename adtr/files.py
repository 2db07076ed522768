"""Files that are either whole or absent, and their checksums."""

import errno
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

from adtr.errors import UserError

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` once the block has ended well.

    The bytes are on disk before the rename, so a kill or a power cut leaves the old file or the new one, never half.
    A file has one writer at a time: what a killed one left is removed.

    Raises:
        UserError: it cannot be written, or the disk or the quota is full. Nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.name)}.{8 * '[0-9a-f]'}.partial{escape(path.suffix)}"):
            left.unlink(missing_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise UserError(f"no space left to write {path}: free some and run the same command again") from error
        if str(error.filename) == str(temporary):  # of which nobody knows
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Writes `content` to `path` atomically."""
    # not Path.write_bytes, whose view of the content lives on with the traceback of an error
    with written_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def content_of(path: Path) -> bytes:
    """The content of a file; an OSError where there is none, of a folder, and of a pipe, which would block."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return path.read_bytes()


def saved(save: Callable[[IO[bytes]], object]) -> bytes:
    """What `save` puts into a file, in memory: on a full disk libraries hide its error."""
    content = io.BytesIO()
    save(content)
    return content.getvalue()


def digest(content: Any) -> str:
    """The sha256 of plain values as JSON, as 64 hexadecimal digits; the order of keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
