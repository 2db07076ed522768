"""Where data sets and weights are published, read from params/sources.yaml."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, PositiveInt, model_validator

from adtr.config.reader import read_as
from adtr.config.schema import Name, Section

Url = Annotated[str, Field(pattern=r"^https?://[^\s{}\\<>\"]+$")]


class Source(Section):
    """A file that is published elsewhere, and what becomes of it here."""

    kind: Literal["archive", "weights"]
    urls: list[Url] = Field(min_length=1)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{8,64}$")  # its first digits suffice
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    destination: str
    bytes: PositiveInt | None = None
    licence: str | None = None
    page: Url | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "Source":
        if (self.sha256 is None) == (self.md5 is None):
            raise ValueError("give sha256 or md5, one of them")
        if self.filename in ("", ".."):
            raise ValueError("the first of urls ends in no file name")
        if leaves_folder(self.destination):
            raise ValueError("destination must be relative and stay below the root")
        return self

    @property
    def filename(self) -> str:
        """The name under which the download is kept."""
        return PurePosixPath(unquote(urlsplit(self.urls[0]).path)).name

    @property
    def checksum(self) -> str:
        """The expected checksum, as 'sha256:…' or 'md5:…'."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


def read_sources(path: Path) -> dict[str, Source]:
    """The sources in a YAML file, by name.

    Raises:
        UserError: with every error of the file in one message.
    """
    return read_as(path, dict[Name, Source])


def leaves_folder(name: str) -> bool:
    """Whether a path, of this system or of Windows, is absolute or climbs out of its folder."""
    windows = PureWindowsPath(name)
    return name.startswith(("/", "\\")) or bool(windows.drive) or ".." in windows.parts
