"""Downloads are tried against a real server on this machine, which misbehaves on demand."""

import hashlib
import io
import json
import logging
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adtr.data import fetch as fetching
from adtr.data.fetch import fetch
from adtr.data.sources import Source, read_sources
from adtr.errors import UserError

SOURCES = Path(__file__).parents[2] / "params" / "sources.yaml"
WEIGHTS = bytes(range(256)) * 800  # 204,800 bytes


class Mirror(ThreadingHTTPServer):
    """Serves `files`; knows what was asked for and how many bytes it sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []  # bytes after which each of the next answers breaks off
        self.stalls = 0  # answers that, after their cut, neither go on nor end
        self.over = threading.Event()
        self.knows_ranges = True
        self.shift = 0  # bytes by which an answered range is not the one asked for
        self.status = 0  # answered instead of a file
        self.asked: list[int | None] = []  # first byte of each request's range
        self.sent = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        mirror = self.server
        body = mirror.files.get(self.path.lstrip("/"))
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        mirror.asked.append(int(asked[1]) if asked else None)
        start = int(asked[1]) if asked and mirror.knows_ranges else None
        if body is None or mirror.status:
            self.send_error(mirror.status or 404)
        elif start is not None and start >= len(body):
            self._answer(416, b"", f"bytes */{len(body)}")
        elif start is not None:
            start += mirror.shift
            self._answer(206, body[start:], f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self._answer(200, body, None)

    def _answer(self, status: int, body: bytes, content_range: str | None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[:cut])
        self.server.sent += len(body[:cut])
        if self.server.stalls:
            self.server.stalls -= 1
            self.wfile.flush()
            self.server.over.wait(5)

    def log_message(self, *_: Any) -> None:
        pass


class Bar:
    """A progress bar that remembers."""

    made: list["Bar"]

    def __init__(self, total: int | None = None, initial: int = 0, **_: Any) -> None:
        self.total, self.initial, self.n = total, initial, initial
        Bar.made.append(self)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def update(self, count: int) -> None:
        self.n += count


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between rounds, and no proxy between the tests and their server."""
    monkeypatch.setattr(fetching, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("no_proxy", "*")
    Bar.made = []


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def tarball(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def zipped(name: str, content: bytes, mode: int = 0o100644) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


# As MVTec's: several folders at the top, and folders that may not be written to.
ARCHIVE = tarball(
    member("bottle", type=tarfile.DIRTYPE, mode=0o555),
    member("bottle/train", type=tarfile.DIRTYPE, mode=0o555),
    member("bottle/train/0.png", b"a bottle", mode=0o444),
    member("cable", type=tarfile.DIRTYPE, mode=0o555),
    member("cable/1.png", b"a cable", mode=0o444),
    member("license.txt", b"a licence"),
)


def weights(*urls: str, content: bytes = WEIGHTS, digits: int = 8) -> Source:
    digest = hashlib.sha256(content).hexdigest()[:digits]
    entry = {"kind": "weights", "urls": list(urls), "sha256": digest, "destination": "data/weights/net.pth"}
    return Source.model_validate(entry | {"page": "http://page"})


def archive_source(*urls: str, content: bytes = ARCHIVE, destination: str = "data/set") -> Source:
    digest = hashlib.md5(content).hexdigest()
    return Source.model_validate({"kind": "archive", "urls": list(urls), "md5": digest, "destination": destination})


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_weights_are_downloaded_whole(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"] = WEIGHTS
    path = fetch("net", weights(mirror.url("net.pth")), tmp_path, progress=Bar)
    assert path == tmp_path / "data/weights/net.pth"
    assert path.read_bytes() == WEIGHTS
    assert files_below(tmp_path / "data") == {"weights/net.pth", "weights/.fetched-net.json"}
    assert files_below(tmp_path / "downloads") == set()
    assert [(bar.total, bar.initial, bar.n) for bar in Bar.made] == [(len(WEIGHTS), 0, len(WEIGHTS))]


def test_archive_is_unpacked_with_a_marker(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["set.tar.gz"] = ARCHIVE
    source = archive_source(mirror.url("set.tar.gz"))
    folder = fetch("set", source, tmp_path, progress=Bar)
    expected = {"bottle/train/0.png", "cable/1.png", "license.txt", ".fetched-set.json"}
    assert files_below(tmp_path / "data") == {f"set/{name}" for name in expected}
    assert (folder / "bottle/train/0.png").read_bytes() == b"a bottle"
    assert all(path.stat().st_mode & 0o200 for path in folder.rglob("*"))
    record = json.loads((folder / ".fetched-set.json").read_text())
    assert record.pop("time").startswith("20")
    assert record == {
        "url": source.urls[0],
        "checksum": source.checksum,
        "members": ["bottle", "cable", "license.txt"],
    }
    assert Bar.made[1].total == len(ARCHIVE)
    assert 0 < Bar.made[1].n <= len(ARCHIVE)


def test_resumes_after_a_cut(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.files["net.pth"], mirror.cuts = WEIGHTS, [70_000]
    source = weights(mirror.url("net.pth"))
    monkeypatch.setattr(fetching, "PAUSES", (0,))
    with pytest.raises(UserError, match="cut off after 70,000 of 204,800 bytes"):
        fetch("net", source, tmp_path)
    at_hand = (tmp_path / "downloads/net.pth.part").stat().st_size
    assert not (tmp_path / "data").exists()
    path = fetch("net", source, tmp_path, progress=Bar)
    assert mirror.asked == [None, at_hand]
    assert mirror.sent == len(WEIGHTS)
    assert path.read_bytes() == WEIGHTS
    assert vars(Bar.made[0]) == {"total": len(WEIGHTS), "initial": 70_000, "n": len(WEIGHTS)}


def test_cuts_are_mended_within_one_call(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"], mirror.cuts = WEIGHTS, [50_000, 60_000]
    fetch("net", weights(mirror.url("net.pth")), tmp_path)
    assert mirror.asked == [None, 50_000, 110_000]
    assert mirror.sent == len(WEIGHTS)


def test_second_mirror_goes_on_where_the_first_broke_off(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files |= {"one/net.pth": WEIGHTS, "two/net.pth": WEIGHTS}
    mirror.cuts = [50_000]
    fetch("net", weights(mirror.url("one/net.pth"), mirror.url("two/net.pth")), tmp_path)
    assert mirror.asked == [None, 50_000]


def test_stalled_server_is_left_and_asked_again(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    mirror.files["net.pth"], mirror.cuts, mirror.stalls = WEIGHTS, [50_000], 1
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path).read_bytes() == WEIGHTS
    assert mirror.asked == [None, 50_000]
    assert "timed out" in caplog.text


def test_server_that_ignores_ranges_begins_anew(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"], mirror.knows_ranges = WEIGHTS, False
    part(tmp_path, WEIGHTS[:1000])
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path, progress=Bar).read_bytes() == WEIGHTS
    assert (mirror.asked, mirror.sent) == ([1000], len(WEIGHTS))
    assert Bar.made[0].initial == 0


def test_another_range_than_asked_for_is_not_appended(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"], mirror.shift = WEIGHTS, 256  # the bytes there look alike
    part(tmp_path, WEIGHTS[:1024])
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path).read_bytes() == WEIGHTS
    assert mirror.asked == [1024, None]
    assert files_below(tmp_path / "downloads") == set()


def test_complete_part_is_not_downloaded_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"] = WEIGHTS
    part(tmp_path, WEIGHTS)
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path).read_bytes() == WEIGHTS
    assert (mirror.asked, mirror.sent) == ([len(WEIGHTS)], 0)


@pytest.mark.parametrize("content", [WEIGHTS + b"more", b"another file's"], ids=["too long", "wrong"])
def test_wrong_part_is_not_built_upon(mirror: Mirror, tmp_path: Path, content: bytes) -> None:
    mirror.files["net.pth"] = WEIGHTS
    part(tmp_path, content)
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path).read_bytes() == WEIGHTS
    assert mirror.asked == [len(content), None]


def part(root: Path, content: bytes) -> None:
    (root / "downloads").mkdir()
    (root / "downloads/net.pth.part").write_bytes(content)


def test_wrong_checksum_falls_over_to_the_next_mirror(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files |= {"bad/net.pth": b"<html>", "good/net.pth": WEIGHTS}
    source = weights(mirror.url("bad/net.pth"), mirror.url("good/net.pth"))
    assert fetch("net", source, tmp_path).read_bytes() == WEIGHTS
    record = json.loads((tmp_path / "data/weights/.fetched-net.json").read_text())
    assert record["url"] == mirror.url("good/net.pth")


def test_wrong_checksum_everywhere(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"] = b"<html>"
    source = weights(mirror.url("net.pth"))
    with pytest.raises(UserError) as caught:
        fetch("net", source, tmp_path)
    actual = hashlib.sha256(b"<html>").hexdigest()
    assert f"{source.urls[0]}: its sha256 is {actual}, expected {source.sha256}" in str(caught.value)
    assert "by hand" in str(caught.value)
    assert files_below(tmp_path) == {"downloads/net.pth.wrong"}
    assert len(mirror.asked) == 1


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (416, 1), (503, 3)])
def test_only_passing_errors_are_tried_again(mirror: Mirror, tmp_path: Path, status: int, requests: int) -> None:
    mirror.status = status
    with pytest.raises(UserError, match=f"HTTP {status}"):
        fetch("net", weights(mirror.url("net.pth")), tmp_path)
    assert len(mirror.asked) == requests


def test_without_a_server_the_way_by_hand_is_told_and_works(tmp_path: Path) -> None:
    source = weights(f"http://127.0.0.1:{closed_port()}/net.pth")
    with pytest.raises(UserError) as caught:
        fetch("net", source, tmp_path)
    place = tmp_path / "downloads/net.pth"
    for told in (source.urls[0], "Connection refused", "http://page", f"put it at {place}", "`adtr fetch net`"):
        assert told in str(caught.value)
    place.write_bytes(WEIGHTS)
    assert fetch("net", source, tmp_path).read_bytes() == WEIGHTS


def test_wrong_file_put_by_hand_is_named_and_set_aside(tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/net.pth").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"downloads/net\.pth: its sha256 is .* renamed to .*net\.pth\.wrong"):
        fetch("net", weights(f"http://127.0.0.1:{closed_port()}/net.pth"), tmp_path)
    assert files_below(tmp_path) == {"downloads/net.pth.wrong"}


def test_given_mirrors_replace_those_of_the_source(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["copy?id=7"] = WEIGHTS
    source = weights(f"http://127.0.0.1:{closed_port()}/net.pth")
    assert fetch("net", source, tmp_path, urls=[mirror.url("copy?id=7")]).read_bytes() == WEIGHTS


def test_file_addresses(tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(WEIGHTS)
    part(tmp_path, WEIGHTS[:10])
    assert fetch("net", weights("http://unused/net.pth"), tmp_path, urls=[copy.as_uri()]).read_bytes() == WEIGHTS


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an address of http, https or file"):
        fetch("net", weights("http://unused/net.pth"), tmp_path, urls=["ftp://127.0.0.1/net.pth"])


@pytest.mark.parametrize("packed", [ARCHIVE, zipped("bottle/0.png", b"a bottle")], ids=["tar", "zip"])
def test_local_archive_is_used_and_left(tmp_path: Path, packed: bytes) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(packed)
    source = archive_source("http://unused/set.tar.gz", content=packed)
    folder = fetch("set", source, tmp_path / "root", archive=mine)
    assert next(folder.rglob("0.png")).read_bytes() == b"a bottle"
    assert mine.read_bytes() == packed
    assert not (tmp_path / "root/downloads").exists()


def test_wrong_local_archive_is_refused_and_left(tmp_path: Path) -> None:
    mine = tmp_path / "mine.tar.gz"
    mine.write_bytes(ARCHIVE[:-1])
    source = archive_source("http://unused/set.tar.gz")
    with pytest.raises(UserError, match=f"mine.tar.gz: its md5 is .*, expected {source.md5}"):
        fetch("set", source, tmp_path, archive=mine)
    assert files_below(tmp_path) == {"mine.tar.gz"}


def test_missing_local_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file.*absent\.tar"):
        fetch("set", archive_source("http://unused/set.tar.gz"), tmp_path, archive=tmp_path / "absent.tar")


@pytest.mark.parametrize("digits", [8, 20, 64])
def test_checksum_may_be_a_prefix(tmp_path: Path, digits: int) -> None:
    mine, other = tmp_path / "mine.pth", tmp_path / "other.pth"
    mine.write_bytes(WEIGHTS)
    other.write_bytes(WEIGHTS[:-1])
    source = weights("http://unused/net.pth", digits=digits)
    with pytest.raises(UserError, match="its sha256 is"):
        fetch("net", source, tmp_path, archive=other)
    assert fetch("net", source, tmp_path, archive=mine).read_bytes() == WEIGHTS


UNSAFE = {
    "tar, climbs": tarball(member("a/0.png"), member("../escaped.txt", b"x")),
    "tar, climbs later": tarball(member("a/../../escaped.txt", b"x")),
    "tar, symlink": tarball(member("a", type=tarfile.SYMTYPE, linkname=".."), member("a/escaped.txt", b"x")),
    "tar, absolute symlink": tarball(member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "tar, hard link": tarball(member("a", type=tarfile.LNKTYPE, linkname="../victim.txt")),
    "tar, pipe": tarball(member("a", type=tarfile.FIFOTYPE)),
    "tar, device": tarball(member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "zip, climbs": zipped("../escaped.txt", b"x"),
    "zip, climbs, Windows": zipped("..\\escaped.txt", b"x"),
    "zip, drive": zipped("C:/escaped.txt", b"x"),
    "zip, symlink": zipped("a", b"/etc/passwd", mode=0o120777),
    "neither": b"no archive at all",
}


@pytest.mark.parametrize("packed", UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe_archive_is_refused(tmp_path: Path, packed: bytes) -> None:
    refuses(tmp_path, packed)


@pytest.mark.parametrize("pack", [lambda name: tarball(member(name, b"x")), lambda name: zipped(name, b"x")])
def test_absolute_path_is_refused(tmp_path: Path, pack: Any) -> None:
    refuses(tmp_path, pack(str(tmp_path / "escaped.txt")))


def refuses(folder: Path, packed: bytes) -> None:
    """Unpacking `packed` is refused, and nothing is written in or outside the destination."""
    (folder / "root/data").mkdir(parents=True)
    (folder / "root/data/victim.txt").write_text("untouched")
    (folder / "mine").write_bytes(packed)
    source = archive_source("http://unused/set.tar.gz", content=packed)
    with pytest.raises(UserError, match="mine was not unpacked"):
        fetch("set", source, folder / "root", archive=folder / "mine")
    assert files_below(folder) == {"mine", "root/data/victim.txt"}
    assert [path.name for path in (folder / "root/data").iterdir()] == ["victim.txt"]


def test_second_call_does_nothing(mirror: Mirror, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mirror.files |= {"net.pth": WEIGHTS, "set.tar.gz": ARCHIVE}
    sources = {"net": weights(mirror.url("net.pth")), "set": archive_source(mirror.url("set.tar.gz"))}
    paths = [fetch(name, source, tmp_path) for name, source in sources.items()]
    (tmp_path / "downloads/set.tar.gz").unlink()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with caplog.at_level(logging.INFO, "adtr"):
        assert [fetch(name, source, tmp_path) for name, source in sources.items()] == paths
    assert len(mirror.asked) == 2
    assert caplog.text.count("already complete") == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_removed_folder_is_fetched_again_into_a_shared_one(tmp_path: Path) -> None:
    """As CIFAR's: one folder at the top of the archive, put beside others in data/."""
    mine = tmp_path / "mine"
    mine.write_bytes(packed := tarball(member("cifar/batch", b"1")))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/other.txt").touch()
    source = archive_source("http://unused/set.tar.gz", content=packed, destination="data")
    expected = {"data/cifar/batch", "data/other.txt", "data/.fetched-set.json", "mine"}
    for _ in range(2):
        fetch("set", source, tmp_path, archive=mine)
        assert files_below(tmp_path) == expected
        assert not (tmp_path / "data/.unpacking-set").exists()
        (tmp_path / "data/cifar/batch").unlink()
        (tmp_path / "data/cifar").rmdir()


def test_what_the_user_put_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(ARCHIVE)
    (tmp_path / "data/set/cable").mkdir(parents=True)
    (tmp_path / "data/set/cable/mine.png").touch()
    with pytest.raises(UserError, match="already holds cable, not put there"):
        fetch("set", archive_source("http://unused/set.tar.gz"), tmp_path, archive=tmp_path / "mine")
    assert files_below(tmp_path / "data/set/cable") == {"mine.png"}
    assert not (tmp_path / "data/set/bottle").exists()


def test_other_weights_in_the_way_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(WEIGHTS)
    (tmp_path / "data/weights").mkdir(parents=True)
    (tmp_path / "data/weights/net.pth").write_bytes(b"half")
    path = fetch("net", weights("http://unused/net.pth"), tmp_path, archive=tmp_path / "mine")
    assert path.read_bytes() == WEIGHTS
    assert path.with_name("net.pth.wrong").read_bytes() == b"half"


def test_interrupted_unpacking_leaves_nothing(tmp_path: Path) -> None:
    class Stopped(Bar):
        def update(self, count: int) -> None:  # noqa: ARG002
            raise KeyboardInterrupt

    (tmp_path / "mine").write_bytes(ARCHIVE)
    with pytest.raises(KeyboardInterrupt):
        fetch("set", archive_source("http://u/s.tgz"), tmp_path, archive=tmp_path / "mine", progress=Stopped)
    assert list((tmp_path / "data").iterdir()) == []


def test_leftovers_of_a_kill_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(ARCHIVE)
    (tmp_path / "data/.unpacking-set").mkdir(parents=True)
    (tmp_path / "data/.unpacking-set/half.png").touch()
    fetch("set", archive_source("http://u/s.tgz"), tmp_path, archive=tmp_path / "mine")
    assert not list(tmp_path.rglob("half.png"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]


def test_killed_while_moving_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_bytes(ARCHIVE)
    (tmp_path / "data/set").mkdir(parents=True)
    source, replace = archive_source("http://u/s.tgz"), Path.replace

    def killed_at_cable(path: Path, target: Path) -> Path:
        if path.name == "cable":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed_at_cable)
        with pytest.raises(KeyboardInterrupt):
            fetch("set", source, tmp_path, archive=tmp_path / "mine")
    visible = {path.name for path in (tmp_path / "data/set").iterdir()}
    assert visible == {"bottle", ".unpacking-set"}
    fetch("set", source, tmp_path, archive=tmp_path / "mine")
    assert {path.name for path in (tmp_path / "data/set").iterdir()} == {
        "bottle", "cable", "license.txt", ".fetched-set.json",
    }  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["net.pth"] = WEIGHTS
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/net.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"net: no space left on the disk.*type `adtr fetch net` again"):
        fetch("net", weights(mirror.url("net.pth")), tmp_path)
    assert len(mirror.asked) == 1


def test_official_sources() -> None:
    sources = read_sources(SOURCES)
    assert {"mvtec", "cifar10", "cifar100", "efficientnet_b4", "resnet18"} <= set(sources)
    for source in sources.values():
        assert all(url.startswith("https://") for url in source.urls)
        assert source.page
        assert source.licence
        if source.kind == "weights":
            assert source.filename.endswith(f"-{source.sha256}.pth")
            assert source.destination == f"data/weights/{source.filename}"


def test_all_errors_of_a_source_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(
        "one: {kind: archive, urls: ['ftp://a/b'], md5: abc, destination: x}\n"
        "two: {kind: weights, urls: ['http://a/b'], sha256: 12345678, destination: x, colour: red}\n"
        "three: {kind: weights, urls: ['http://a/b'], destination: x}\n"
        "four: {kind: weights, urls: ['http://a/b'], sha256: '12345678', destination: ../x}\n"
        "five/six: {kind: weights, urls: ['http://a/b'], sha256: '12345678', destination: x}\n"
    )
    with pytest.raises(UserError) as caught:
        read_sources(path)
    for key in ("one.urls.0", "one.md5", "two.sha256", "two.colour", "three", "four", "five/six"):
        assert f"{path}: {key}" in str(caught.value)
