"""Archives unpacked so that nothing is written outside their folder."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adtr.data.sources import leaves_folder
from adtr.errors import UserError

Bar = Callable[..., Any]  # makes a tqdm


def unpack(file: Path, folder: Path, bar: Bar) -> None:
    """Unpacks a tar or zip archive into a new `folder`, which is removed again if anything goes wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _untar(file, folder, bar) if tarfile.is_tarfile(file) else _unzip(file, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, tarfile.TarError | zipfile.BadZipFile | EOFError):
            raise UserError(f"{file} was not unpacked: {error}") from error
        raise


def _untar(file: Path, folder: Path, bar: Bar) -> None:
    with file.open("rb") as stream, tarfile.open(fileobj=stream) as tar, bar(total=file.stat().st_size) as shown:

        def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
            shown.update(stream.tell() - shown.n)
            _refuse_outside(file, member.name)  # the filter would strip a leading / silently
            return tarfile.data_filter(member, path)  # links, devices; drops modes that would lock a folder

        tar.extractall(folder, filter=checked)


def _unzip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for item in archive.infolist():
            _refuse_outside(file, item.filename)
            if stat.S_IFMT(item.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{file} was not unpacked: {item.filename} is a link or a device")
        archive.extractall(folder)


def _refuse_outside(file: Path, member: str) -> None:
    if leaves_folder(member):
        raise UserError(f"{file} was not unpacked: {member} would be written outside its folder")
