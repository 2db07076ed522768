"""Data sets and weights from their publishers: download, checksum, unpacking.

Every step may be interrupted and run again: downloads resume, and nothing unfinished has a final name.
"""

import shutil
import time
from collections.abc import Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from adtr.data.sources import Source
from adtr.data.unpack import Bar, is_unpacked, unpack_into
from adtr.errors import UserError
from adtr.files import NO_SPACE

logger = getLogger(__name__)

TIMEOUT = 60  # s without a byte from the server
PAUSES = (0, 2, 8)  # s before each round over the addresses
CHUNK = 1 << 16  # bytes; an interruption loses no more
BUSY = {408, 429, 500, 502, 503, 504}  # HTTP errors that may pass


def fetch(name: str, source: Source, root: Path, urls: Sequence[str] = (), archive: Path | None = None) -> Path:
    """Brings `source` to its destination below `root` and returns that path; does nothing if it is complete.

    Args:
        urls: addresses tried, in order, instead of the source's own.
        archive: a copy that the user has, used instead of a download and left where it is.

    Raises:
        UserError: no address gives the file, its checksum is wrong, the archive is unsafe, or the disk is full.
    """
    destination = (root / source.destination).resolve()
    weights = source.kind == "weights"
    file = destination if weights else root.resolve() / "downloads" / source.filename
    bar = partial(tqdm, unit="B", unit_scale=True, desc=name, disable=None)
    try:
        there = destination.is_file() and not _mismatch(destination, source)
        if there or is_unpacked(destination, name, source.checksum):
            logger.info("%s: already complete in %s", name, destination)
            return destination
        if archive and not archive.is_file():
            raise UserError(f"{archive}: no such file, or a pipe or a folder")
        if archive and (problem := _mismatch(archive, source)):
            raise UserError(f"{archive}: {problem}. Get it again from {source.page or source.urls[0]}")
        if archive and weights:
            shutil.copyfile(archive, _part(file))
            _place(file)
        elif not archive:
            _download(name, source, file, urls or source.urls, bar)
        if not weights:
            unpack_into(destination, name, source.checksum, archive or file, bar)
            logger.info("%s: unpacked; you may delete %s", name, archive or file)
    except OSError as error:
        reason = "no space left on the disk" if error.errno in NO_SPACE else error
        raise UserError(f"{name}: {reason}. Correct this and run `adtr fetch {name}` again") from error
    logger.info("%s: ready in %s (licence: %s)", name, destination, source.licence or "see its page")
    return destination


def _mismatch(file: Path, source: Source) -> str | None:
    """What is wrong with the checksum of `file`; of a sha256 the first digits may be all that is published."""
    algorithm, _, expected = source.checksum.partition(":")
    actual = pooch.file_hash(str(file), alg=algorithm)
    return None if actual.startswith(expected) else f"its {algorithm} is {actual}, expected {expected}"


def _download(name: str, source: Source, file: Path, urls: Sequence[str], bar: Bar) -> None:
    """Downloads to `file`, by way of `file`.part, from the first address that gives it; it may be there already."""
    remaining, problems = list(urls), {}
    if file.exists():
        if not (problem := _mismatch(file, source)):
            return
        problems[str(file)] = problem
    for pause in PAUSES:
        time.sleep(pause if remaining else 0)
        for url in remaining.copy():
            problem, may_pass = _try(url, _part(file), source, bar)
            if not problem:
                _place(file)
                return
            if problems.get(url) != problem:
                logger.warning("%s: %s: %s", name, url, problem)
            problems[url] = problem
            if not may_pass:
                remaining.remove(url)
    causes = "".join(f"\n  {place}: {problem}" for place, problem in problems.items())
    raise UserError(
        f"{name}: the download failed.{causes}\n"
        f"Get {source.filename} from {source.page or 'its publisher'} and run `adtr fetch {name} --archive FILE`, "
        f"or run `adtr fetch {name}` again later: it resumes"
    )


def _part(file: Path) -> Path:
    """Where `file` is written until it is complete and checked."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.with_name(f"{file.name}.part")


def _place(file: Path) -> None:
    """Gives the checked part its final name; another file of that name is kept aside."""
    if file.exists():
        wrong = file.replace(file.with_name(f"{file.name}.wrong"))
        logger.warning("%s had another checksum, renamed to %s", file, wrong.name)
    _part(file).replace(file)


def _try(url: str, part: Path, source: Source, bar: Bar) -> tuple[str | None, bool]:
    """Completes `part` from `url`. Returns what went wrong, if anything, and whether another try may help."""
    start = part.stat().st_size if part.exists() else 0
    try:
        with bar(total=source.bytes or 1) as shown:  # pooch sets the total that the server states
            _append(url, part, start, shown)
    except requests.RequestException as error:
        arrived = part.stat().st_size
        if not arrived:
            part.unlink()
        if error.response is None:
            if isinstance(error, ValueError):
                return "not an address of http or https", False
            cause = getattr(error.args[0], "reason", error)  # requests repeats the address around it
            return f"cut off after {arrived:,} bytes" if arrived > start else str(cause), True
        code = error.response.status_code
        if not (start and code == 416):  # 416: no bytes are left to send; the checksum decides
            return f"HTTP {code} {error.response.reason}", code in BUSY
    problem = _mismatch(part, source)
    if problem:
        part.unlink()
    return problem, start > 0  # perhaps only the bytes at hand were wrong


def _append(url: str, part: Path, start: int, shown: Any) -> None:
    """Appends to `part` the bytes of `url` from `start` on, or replaces it if the server sends everything."""
    headers = {"User-Agent": "adtr-bench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with part.open("ab") as file:

        def inspect(response: requests.Response, **_: Any) -> None:
            response.raw.headers.pop("Content-Encoding", None)  # a .tar.gz stays as published, compressed
            if start and response.status_code == 200:
                file.truncate(0)

        options = {"timeout": TIMEOUT, "headers": headers, "hooks": {"response": inspect}}
        pooch.HTTPDownloader(shown, CHUNK, **options)(url, file, None)
