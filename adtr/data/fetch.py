"""Data sets and weights from their official sources: download, checksum, safe unpacking.

Every step can be cut off and run again: a download goes on from the bytes at hand, an archive is unpacked aside and
moved into place whole, and the marker `.fetched-NAME.json` is written last.
"""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import file_digest
from http.client import HTTPException
from logging import getLogger
from pathlib import Path
from typing import Any

from tqdm import tqdm

from adtr.data.sources import Source
from adtr.data.unpack import Bar, unpack
from adtr.errors import UserError
from adtr.files import NO_SPACE, sha256, write_text, written_atomically

logger = getLogger(__name__)

TIMEOUT = 60  # s without a byte from the server
PAUSES = (0, 2, 8)  # s before each round over the mirrors
CHUNK = 1 << 20  # bytes at most


class _MirrorError(Exception):
    """A mirror did not give the file; if `final`, asking it again is of no use."""

    def __init__(self, message: str, final: bool = False):
        super().__init__(message)
        self.final = final


def fetch(
    name: str,
    source: Source,
    root: Path,
    urls: list[str] | None = None,
    archive: Path | None = None,
    progress: Bar = tqdm,
) -> Path:
    """Brings `source` to its destination below `root` and returns that path; does nothing where it is complete.

    Args:
        urls: mirrors tried instead of the source's own.
        archive: a copy that the user has, taken instead of a download and left where it is.
        progress: makes a progress bar in bytes, as tqdm does.

    Raises:
        UserError: no mirror gives the file, its checksum is wrong, the archive is unsafe, or the disk is full.
    """
    destination = (root / source.destination).resolve()
    marker = (destination if source.kind == "archive" else destination.parent) / f".fetched-{name}.json"
    bar = partial(progress, unit="B", unit_scale=True, desc=name, disable=None)
    try:
        if _is_complete(source, destination, marker):
            logger.info("%s: already complete in %s", name, destination)
            return destination
        file, origin = _given(source, archive) if archive else _downloaded(name, source, root, urls, bar)
        record = {"url": origin, "checksum": source.checksum, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        if source.kind == "archive":
            _place_archive(file, marker, record, bar)
            logger.info("%s: unpacked, you may delete %s", name, file)
        else:
            _place_weights(file, destination)
            write_text(marker, json.dumps(record))
            if not archive:
                file.unlink()
    except OSError as error:
        reason = "no space left on the disk" if error.errno in NO_SPACE else str(error)
        raise UserError(f"{name}: {reason}. Mend that and type `adtr fetch {name}` again") from error
    logger.info("%s: ready in %s (licence: %s)", name, destination, source.licence or "see its page")
    return destination


def _is_complete(source: Source, destination: Path, marker: Path) -> bool:
    if source.kind == "weights":
        return destination.is_file() and _complaint(destination, source) is None
    record = _record(marker)
    return record.get("checksum") == source.checksum and all((destination / m).exists() for m in record["members"])


def _record(marker: Path) -> dict[str, Any]:
    """What a marker holds, {} where there is none; it is written atomically, so it is never half."""
    return json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}


def _complaint(file: Path, source: Source) -> str | None:
    """What is wrong with the checksum of `file`, None where it is right."""
    algorithm, _, expected = source.checksum.partition(":")
    actual = sha256(file) if source.sha256 else _md5(file)
    return None if actual.startswith(expected) else f"its {algorithm} is {actual}, expected {expected}"


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "md5").hexdigest()


def _given(source: Source, archive: Path) -> tuple[Path, str]:
    if complaint := _complaint(archive, source):
        raise UserError(f"{archive}: {complaint}. Get it again from {source.page or source.urls[0]}")
    return archive, str(archive)


def _downloaded(name: str, source: Source, root: Path, urls: list[str] | None, bar: Bar) -> tuple[Path, str]:
    """The checked file in `root`/downloads and where it came from: the user may have put it there."""
    file = root.resolve() / "downloads" / source.filename
    file.parent.mkdir(parents=True, exist_ok=True)
    problems = {}
    if file.exists():
        complaint = _complaint(file, source)
        if complaint is None:
            return file, str(file)
        problems[str(file)] = f"{complaint}; renamed to {_set_aside(file)}"
    mirrors = list(urls or source.urls)
    for pause in PAUSES:
        time.sleep(pause if mirrors else 0)
        for url in mirrors.copy():
            try:
                _from_mirror(url, file, source, bar)
                return file, url
            except _MirrorError as error:
                logger.warning("%s: %s: %s", name, url, error)
                problems[url] = str(error)
                if error.final:
                    mirrors.remove(url)
    raise UserError(_by_hand(name, source, file, problems))


def _by_hand(name: str, source: Source, file: Path, problems: dict[str, str]) -> str:
    causes = "".join(f"\n  {place}: {problem}" for place, problem in problems.items())
    page = f" (see {source.page})" if source.page else ""
    return (
        f"{name}: no mirror gave the file.{causes}\n"
        f"Type `adtr fetch {name}` again later: what has arrived is kept. Or get {source.urls[0]}{page} by hand, "
        f"put it at {file} and type `adtr fetch {name}`"
    )


def _set_aside(file: Path) -> Path:
    return file.replace(file.with_name(f"{file.name.removesuffix('.part')}.wrong"))


def _from_mirror(url: str, file: Path, source: Source, bar: Bar) -> None:
    """Downloads `url` to `file` by way of `file`.part; a file with a wrong checksum is set aside."""
    part = file.with_name(f"{file.name}.part")
    start = _transfer(url, part, source.bytes, bar)
    complaint = _complaint(part, source)
    if complaint is None:
        part.replace(file)
        return
    aside = _set_aside(part)
    if not start:
        raise _MirrorError(f"{complaint}; kept as {aside}", final=True)
    _from_mirror(url, file, source, bar)  # what was at hand may have been wrong: once more, from the first byte


def _transfer(url: str, part: Path, size: int | None, bar: Bar) -> int:
    """Appends to `part` what it lacks of `url` and returns the byte from which it went on; 0 where it began anew."""
    start = part.stat().st_size if part.exists() else 0
    logger.info("downloading %s from byte %d", url, start)
    with _opened(url, start) as response:
        if response.status == 416:
            return start  # nothing is left to send, or what is at hand is wrong: the checksum tells
        offered = response.headers.get("Content-Range") or ""
        if response.status == 206 and not offered.startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _MirrorError(f"offered {offered or 'nothing'} when asked for the bytes from {start} on")
        start = start if response.status == 206 else 0
        told = (offered or response.headers.get("Content-Length") or "").rpartition("/")[2]
        total = int(told) if told.isdigit() else size
        with part.open("ab" if start else "wb") as file, bar(total=total, initial=start) as shown:
            for chunk in _chunks(response):
                file.write(chunk)
                shown.update(len(chunk))
    if total and part.stat().st_size < total:
        raise _MirrorError(f"cut off after {part.stat().st_size:,} of {total:,} bytes")
    return start


def _opened(url: str, start: int) -> Any:
    """The response to a request for the bytes from `start` on; 416 (there are none) is an answer, not an error."""
    headers = {"User-Agent": "adtr-bench"} | ({"Range": f"bytes={start}-"} if start else {})
    if not url.startswith(("http://", "https://", "file://")):
        raise _MirrorError("not an address of http, https or file", final=True)
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return error
        with error:
            passing = error.code >= 500 or error.code in (408, 429)
            raise _MirrorError(f"HTTP {error.code} {error.reason}", final=not passing) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _MirrorError(str(getattr(error, "reason", error))) from error


def _chunks(response: Any) -> Iterator[bytes]:
    """The body; errors of the network are told from those of the disk by being raised here."""
    try:
        while chunk := response.read1(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _MirrorError(f"cut off: {error}") from error


def _place_weights(file: Path, destination: Path) -> None:
    if destination.exists():
        logger.warning("%s: had another checksum, renamed to %s", destination, _set_aside(destination))
    with written_atomically(destination) as temporary:
        shutil.copyfile(file, temporary)


def _place_archive(file: Path, marker: Path, record: dict[str, Any], bar: Bar) -> None:
    """Unpacks beside the final names, on the same file system, and then moves: what has a final name is whole."""
    destination, inside = marker.parent, marker.parent.exists()
    staging = (destination if inside else destination.parent) / marker.stem.replace("fetched", "unpacking", 1)
    if _record(staging / marker.name).get("checksum") != record["checksum"]:
        unpack(file, staging, bar)
        members = sorted(path.name for path in staging.iterdir())
        write_text(staging / marker.name, json.dumps(record | {"members": members}))
    if inside:
        _move_into(destination, staging, marker.name)
    else:
        staging.rename(destination)


def _move_into(destination: Path, staging: Path, marker: str) -> None:
    """Moves the members one by one, the marker last; a second call goes on where a first was killed."""
    members = sorted(staging.iterdir(), key=lambda path: (path.name == marker, path.name))
    if taken := [path.name for path in members[:-1] if (destination / path.name).exists()]:
        raise UserError(
            f"{destination} already holds {', '.join(taken)}, not put there by `adtr fetch`: "
            "use it as it is, or move it away and type the same command again"
        )
    for path in members:
        path.replace(destination / path.name)
    staging.rmdir()
