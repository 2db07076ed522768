"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adtr.errors import UserError
from adtr.files import write_text, written_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.npy"
    with written_atomically(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["a.npy"]


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Größe ± 1\n")
    assert (tmp_path / "a.txt").read_bytes() == b"Gr\xc3\xb6\xc3\x9fe \xc2\xb1 1\n"


def write_half(path: Path, error: BaseException) -> None:
    with written_atomically(path) as temporary:
        temporary.write_text("half of the n")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, FileNotFoundError])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error())
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_kill_leaves_the_old_file_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    script = (
        "import os, signal, sys, pathlib\n"
        "from adtr.files import written_atomically\n"
        "with written_atomically(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of the n')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -9
    assert path.read_text() == "old"
    assert [path.read_text() for path in tmp_path.glob(".a.txt.*")] == ["half of the n"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_as_such(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match=r"no space left to write .*a\.txt"):
        write_half(tmp_path / "a.txt", OSError(number, os.strerror(number)))
    assert names(tmp_path) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "")
        (tmp_path / "plain.txt").write_text("")
    finally:
        assert os.umask(before) == mask
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """And nothing else, whatever the names."""
    left, others = ".a[1].txt.0a1b2c3d.partial.txt", [".a1.txt.0a1b2c3d.partial.txt", ".b.txt.0a1b2c3d.partial.txt"]
    others.append(".a[1].txt.b.txt.0a1b2c3d.partial.txt")  # of a[1].txt.b.txt, which another thread may write
    for name in (left, *others):
        (tmp_path / name).touch()
    write_text(tmp_path / "a[1].txt", "whole")
    assert sorted(names(tmp_path)) == sorted([*others, "a[1].txt"])


def test_a_file_that_cannot_be_written_is_named_and_not_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)  # the temporary name is longer than a file's may be
    with pytest.raises(UserError, match=r"x: cannot be written: File name too long$"):
        write_text(path, "text")
    assert not list(tmp_path.iterdir())
