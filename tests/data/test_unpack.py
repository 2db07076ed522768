"""Archives, hostile ones too, and interruptions while they are unpacked."""

import io
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from disk import files_below, put
from tqdm import tqdm

from adtr.data.unpack import is_unpacked, unpack_into
from adtr.errors import UserError

BAR = partial(tqdm, disable=True)


def tarball(*members: tuple[str, dict[str, Any] | bytes]) -> bytes:
    """A compressed archive of members with their content, or with attributes of an entry without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, what in members:
            info, content = tarfile.TarInfo(name), what if isinstance(what, bytes) else b""
            info.size, info.mode = len(content), 0o444
            for key, value in what.items() if isinstance(what, dict) else ():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(name: str, content: bytes, mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


# As MVTec's: several members at the top, and folders that may not be written to.
FOLDER = {"type": tarfile.DIRTYPE, "mode": 0o555}
ARCHIVE = tarball(("bottle", FOLDER), ("bottle/0.png", b"a bottle"), ("cable", FOLDER), ("cable/1.png", b"a cable"))
MEMBERS = {"bottle/0.png", "cable/1.png", ".fetched-set.json"}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return put(tmp_path / "mine", ARCHIVE)


def test_unpacks_what_can_be_read_and_removed(tmp_path: Path, mine: Path) -> None:
    folder = tmp_path / "data/set"
    unpack_into(folder, "set", "md5:1", mine, BAR)
    assert files_below(tmp_path / "data") == {f"set/{name}" for name in MEMBERS}
    assert (folder / "bottle/0.png").read_bytes() == b"a bottle"
    assert all(path.stat().st_mode & 0o200 for path in folder.rglob("*"))
    assert is_unpacked(folder, "set", "md5:1")
    assert not is_unpacked(folder, "set", "md5:2")


UNSAFE = {
    "tar, climbs": tarball(("a/0.png", b""), ("../escaped.txt", b"x")),
    "tar, climbs later": tarball(("a/../../escaped.txt", b"x")),
    "tar, absolute": tarball(("/tmp/adtr-escaped.txt", b"x")),
    "tar, symlink": tarball(("a", {"type": tarfile.SYMTYPE, "linkname": ".."}), ("a/escaped.txt", b"x")),
    "tar, absolute symlink": tarball(("a", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})),
    "tar, hard link": tarball(("a", {"type": tarfile.LNKTYPE, "linkname": "../victim.txt"})),
    "tar, pipe": tarball(("a", {"type": tarfile.FIFOTYPE})),
    "tar, device": tarball(("a", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})),
    "zip, climbs": zipped("../escaped.txt", b"x"),
    "zip, climbs, Windows": zipped("..\\escaped.txt", b"x"),
    "zip, absolute": zipped("/tmp/adtr-escaped.txt", b"x"),
    "zip, drive": zipped("C:/escaped.txt", b"x"),
    "zip, symlink": zipped("a", b"/etc/passwd", mode=0o120777),
    "neither": b"no archive at all",
}


@pytest.mark.parametrize("packed", UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe_archive_is_refused_and_writes_nothing(tmp_path: Path, packed: bytes) -> None:
    victim, mine = put(tmp_path / "data/victim.txt", b"untouched"), put(tmp_path / "mine", packed)
    with pytest.raises(UserError, match="mine was not unpacked"):
        unpack_into(tmp_path / "data/set", "set", "md5:1", mine, BAR)
    assert sorted(tmp_path.rglob("*")) == [victim.parent, victim, mine]
    assert victim.read_bytes() == b"untouched"
    assert not Path("/tmp/adtr-escaped.txt").exists()


def test_removed_folder_is_put_again_into_a_shared_one(tmp_path: Path) -> None:
    """As CIFAR's: one folder at the top of the archive, put beside others in data/."""
    data, mine = tmp_path / "data", put(tmp_path / "mine", zipped("cifar/batch", b"1"))
    put(data / "other.txt")
    for _ in range(2):
        assert not is_unpacked(data, "set", "md5:1")
        unpack_into(data, "set", "md5:1", mine, BAR)
        assert files_below(data) == {"cifar/batch", "other.txt", ".fetched-set.json"}
        (data / "cifar/batch").unlink()
        (data / "cifar").rmdir()


def test_files_of_the_user_are_not_touched(tmp_path: Path, mine: Path) -> None:
    put(tmp_path / "set/cable/mine.png")
    with pytest.raises(UserError, match="already holds cable, not put there"):
        unpack_into(tmp_path / "set", "set", "md5:1", mine, BAR)
    assert files_below(tmp_path) == {"mine", "set/cable/mine.png"}


@pytest.mark.parametrize(
    "damaged", [b"", b"[]", b"{}", b"\xff", b'{"checksum": "md5:1"}', b'{"checksum": "md5:1", "members": 5}']
)
def test_a_damaged_record_of_what_was_unpacked_counts_as_none(tmp_path: Path, mine: Path, damaged: bytes) -> None:
    folder = tmp_path / "mvtec"
    unpack_into(folder, "set", "md5:1", mine, BAR)
    (folder / ".fetched-set.json").write_bytes(damaged)
    assert not is_unpacked(folder, "set", "md5:1")
    with pytest.raises(UserError, match="already holds bottle, cable"):
        unpack_into(folder, "set", "md5:1", mine, BAR)


def test_interrupted_unpacking_leaves_nothing(tmp_path: Path, mine: Path) -> None:
    class Stopped(tqdm):
        def update(self, n: float | None = 1) -> bool | None:  # noqa: ARG002
            raise KeyboardInterrupt

    put(tmp_path / "data/.unpacking-set/half.png")  # of a killed process
    with pytest.raises(KeyboardInterrupt):
        unpack_into(tmp_path / "data/set", "set", "md5:1", mine, Stopped)
    assert list((tmp_path / "data").iterdir()) == []


def test_killed_while_moving(tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rename = tmp_path / "set", Path.rename
    put(folder / "notes.txt")

    def killed_at_cable(path: Path, target: Path) -> Path:
        if path.name == "cable":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed_at_cable)
    with pytest.raises(KeyboardInterrupt):
        unpack_into(folder, "set", "md5:1", mine, BAR)
    monkeypatch.undo()
    assert not is_unpacked(folder, "set", "md5:1")
    unpack_into(folder, "set", "md5:1", mine, BAR)
    assert files_below(folder) == MEMBERS | {"notes.txt"}
