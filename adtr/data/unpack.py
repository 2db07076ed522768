"""Archives unpacked so that nothing is written outside their folder, and nothing half under a final name."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adtr.data.sources import leaves_folder
from adtr.errors import UserError
from adtr.files import content_of, write_text

Bar = Callable[..., Any]  # makes a tqdm


class Unpacked(BaseModel):
    """What `unpack_into` writes down beside the members of an archive."""

    checksum: str
    members: list[str]


def is_unpacked(folder: Path, name: str, checksum: str) -> bool:
    """Whether `unpack_into` has put the archive of that name and checksum into `folder`, and its members are there."""
    record = _record(folder, name)
    return record.checksum == checksum and all((folder / member).exists() for member in record.members)


def _record(folder: Path, name: str) -> Unpacked:
    """What `unpack_into` wrote down; nothing where that is missing or damaged."""
    try:
        return Unpacked.model_validate_json(content_of(folder / f".fetched-{name}.json"))
    except (OSError, ValueError):
        return Unpacked(checksum="", members=[])


def unpack_into(folder: Path, name: str, checksum: str, file: Path, bar: Bar) -> None:
    """Unpacks a tar or zip archive on the same file system, then moves its members into `folder`.

    Members that an earlier call put there stay; a record of them in `folder` tells them from files of the user.

    Raises:
        UserError: the archive is unsafe, or one of its members exists and is not ours.
    """
    staging = (folder if folder.exists() else folder.parent) / f".unpacking-{name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _unpack(file, staging, bar)
        members = sorted(path.name for path in staging.iterdir())
        present = [member for member in members if (folder / member).exists()]
        if present and _record(folder, name).checksum != checksum:
            raise UserError(
                f"{folder} already holds {', '.join(present)}, not put there by `adtr fetch`: "
                "use it as it is, or move it away and run the same command again"
            )
        place = folder if folder.exists() else staging  # a new folder gets its name when it is whole
        write_text(place / f".fetched-{name}.json", Unpacked(checksum=checksum, members=members).model_dump_json())
        if place is staging:
            staging.rename(folder)
        else:
            for member in set(members) - set(present):
                (staging / member).rename(folder / member)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack(file: Path, folder: Path, bar: Bar) -> None:
    try:
        _untar(file, folder, bar) if tarfile.is_tarfile(file) else _unzip(file, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{file} was not unpacked: {error}") from error


def _untar(file: Path, folder: Path, bar: Bar) -> None:
    with file.open("rb") as stream, tarfile.open(fileobj=stream) as tar, bar(total=file.stat().st_size) as shown:

        def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
            shown.update(stream.tell() - shown.n)
            if leaves_folder(member.name):  # the filter would strip a leading / silently
                raise tarfile.TarError(f"{member.name} would be written outside its folder")
            return tarfile.data_filter(member, path)  # links, devices; drops modes that would lock a folder

        tar.extractall(folder, filter=checked)


def _unzip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for item in archive.infolist():
            kind = stat.S_IFMT(item.external_attr >> 16)
            if leaves_folder(item.filename) or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"{item.filename} is outside its folder, a link or a device")
        archive.extractall(folder)
