"""Downloads from a real local server, which misbehaves on demand."""

import hashlib
import io
import logging
import os
import re
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from disk import files_below, put
from tqdm import tqdm

from adtr.data import fetch as fetching
from adtr.data.fetch import fetch
from adtr.data.sources import Source
from adtr.errors import UserError

WEIGHTS = bytes(range(256)) * 3200  # 819,200 bytes


class Mirror(ThreadingHTTPServer):
    """Serves `files` and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"net.pth": WEIGHTS, "set.tar.gz": ARCHIVE, "page.html": b"<html>"}
        self.cuts: list[int] = []  # bytes after which each of the next answers breaks off
        self.stalls = 0  # answers that, after their cut, neither continue nor end
        self.over = threading.Event()
        self.ranges = True  # whether it understands them
        self.shift = 0  # bytes by which an answered range is not the requested one
        self.status = 0  # answered instead of a file
        self.starts: list[int] = []  # first byte of each request
        self.sent = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        mirror, body = self.server, self.server.files.get(self.path.lstrip("/"))
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        mirror.starts.append(start)
        if mirror.status or body is None:
            self.send_error(mirror.status or 404)
            return
        status = 200 if not (start and mirror.ranges) else 206 if start < len(body) else 416
        if status != 200:
            body = body[start + mirror.shift :]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")  # as some servers say of archives
        self.end_headers()
        cut = mirror.cuts.pop(0) if mirror.cuts else len(body)
        mirror.sent += len(body[:cut])
        self.wfile.write(body[:cut])
        if mirror.stalls:
            mirror.stalls -= 1
            self.wfile.flush()
            mirror.over.wait(20)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between rounds, and no proxy between the tests and their server."""
    monkeypatch.setattr(fetching, "PAUSES", (0, 0, 0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("bottle/0.png"))
    return buffer.getvalue()


ARCHIVE = _archive()


def weights(*urls: str, digits: int = 8) -> Source:
    digest = hashlib.sha256(WEIGHTS).hexdigest()[:digits]
    entry = {"kind": "weights", "urls": list(urls), "sha256": digest, "destination": "data/net.pth"}
    return Source.model_validate(entry | {"page": "http://page"})


def archive_source(url: str) -> Source:
    digest = hashlib.md5(ARCHIVE).hexdigest()
    return Source.model_validate({"kind": "archive", "urls": [url], "md5": digest, "destination": "data/set"})


def test_progress_is_displayed(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "tqdm", lambda **options: tqdm(**options | {"disable": False}))
    fetch("net", weights(mirror.url("net.pth")), tmp_path)
    assert re.search(r"net: 100%.* 819k/819k", capsys.readouterr().err)


def test_weights_and_archives_are_fetched_once(
    mirror: Mirror, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"net": weights(mirror.url("net.pth")), "set": archive_source(mirror.url("set.tar.gz"))}
    paths = [fetch(name, source, tmp_path) for name, source in sources.items()]
    assert paths == [tmp_path / "data/net.pth", tmp_path / "data/set"]
    assert paths[0].read_bytes() == WEIGHTS
    (tmp_path / "downloads/set.tar.gz").unlink()
    assert files_below(tmp_path) == {"data/net.pth", "data/set/bottle/0.png", "data/set/.fetched-set.json"}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with caplog.at_level(logging.INFO, "adtr"):
        assert [fetch(name, source, tmp_path) for name, source in sources.items()] == paths
    assert caplog.text.count("already complete") == len(mirror.starts) == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_resumes_in_another_call(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.cuts = [700_000]
    source = weights(mirror.url("net.pth"))
    monkeypatch.setattr(fetching, "PAUSES", (0,))
    with pytest.raises(UserError, match=r"cut off after [\d,]+ bytes\n(.|\n)* again later: it resumes"):
        fetch("net", source, tmp_path)
    arrived = (tmp_path / "data/net.pth.part").stat().st_size
    assert files_below(tmp_path) == {"data/net.pth.part"}
    assert 700_000 - arrived < fetching.CHUNK
    assert fetch("net", source, tmp_path).read_bytes() == WEIGHTS
    assert mirror.starts == [0, arrived]
    assert files_below(tmp_path) == {"data/net.pth"}


def test_resumes_in_one_call_and_from_another_mirror(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["copy.pth"] = WEIGHTS
    mirror.cuts = [300_000, 200_000]
    path = fetch("net", weights(mirror.url("net.pth"), mirror.url("copy.pth")), tmp_path)
    assert path.read_bytes() == WEIGHTS
    assert len(mirror.starts) == len(set(mirror.starts)) == 3
    assert mirror.sent < len(WEIGHTS) + 2 * fetching.CHUNK


def test_stalled_server_is_asked_again(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    mirror.cuts, mirror.stalls, began = [300_000], 1, time.monotonic()
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path).read_bytes() == WEIGHTS
    assert mirror.starts[1] > 0
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("part", "server", "starts", "sent"),
    [
        (WEIGHTS, {}, [len(WEIGHTS)], 0),
        (WEIGHTS + b"more", {}, [len(WEIGHTS) + 4, 0], len(WEIGHTS)),
        (b"<html>", {}, [6, 0], 2 * len(WEIGHTS) - 6),
        (WEIGHTS[:1000], {"ranges": False}, [1000], len(WEIGHTS)),
        (WEIGHTS[:1024], {"shift": 256}, [1024, 0], 2 * len(WEIGHTS) - 1280),  # the bytes there look alike
    ],
    ids=["complete", "too long", "wrong", "server without ranges", "another range sent"],
)
def test_bytes_at_hand(
    mirror: Mirror, tmp_path: Path, part: bytes, server: dict[str, int], starts: list[int], sent: int
) -> None:
    """A complete part is not downloaded again, a wrong one is not built upon."""
    vars(mirror).update(server)
    put(tmp_path / "data/net.pth.part", part)
    assert fetch("net", weights(mirror.url("net.pth")), tmp_path).read_bytes() == WEIGHTS
    assert (mirror.starts, mirror.sent) == (starts, sent)


@pytest.mark.parametrize("other", ["absent.pth", "page.html"])
def test_dead_or_wrong_address_falls_over_to_the_next(mirror: Mirror, tmp_path: Path, other: str) -> None:
    source = weights(mirror.url(other), mirror.url("net.pth"))
    assert fetch("net", source, tmp_path).read_bytes() == WEIGHTS
    assert len(mirror.starts) == 2


def test_wrong_checksum_everywhere(mirror: Mirror, tmp_path: Path) -> None:
    source = weights(mirror.url("page.html"))
    with pytest.raises(UserError) as caught:
        fetch("net", source, tmp_path)
    actual = hashlib.sha256(b"<html>").hexdigest()
    assert f"{source.urls[0]}: its sha256 is {actual}, expected {source.sha256}" in str(caught.value)
    assert (files_below(tmp_path), len(mirror.starts)) == (set(), 1)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (416, 1), (503, 3)])
def test_only_passing_errors_are_tried_again(mirror: Mirror, tmp_path: Path, status: int, requests: int) -> None:
    mirror.status = status
    with pytest.raises(UserError, match=f"HTTP {status} [A-Z]"):
        fetch("net", weights(mirror.url("net.pth")), tmp_path)
    assert (files_below(tmp_path), len(mirror.starts)) == (set(), requests)


def test_message_names_every_cause_and_its_advice_works(mirror: Mirror, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/net.pth"
    source = weights(closed, mirror.url("old.pth"))
    wrong = put(tmp_path / "data/net.pth", b"half")
    with pytest.raises(UserError) as caught:
        fetch("net", source, tmp_path)
    head, *causes, advice = str(caught.value).splitlines()
    assert head == "net: the download failed."
    assert causes[0].startswith(f"  {wrong}: its sha256 is ")
    assert re.fullmatch(f"  {closed}: .*Connection refused", causes[1])
    assert causes[2:] == [f"  {source.urls[1]}: HTTP 404 Not Found"]
    assert advice.startswith("Get net.pth from http://page and run `adtr fetch net --archive FILE`, or")
    assert files_below(tmp_path) == {"data/net.pth"}
    assert fetch("net", source, tmp_path, archive=put(tmp_path / "mine", WEIGHTS)).read_bytes() == WEIGHTS
    assert wrong.with_name("net.pth.wrong").read_bytes() == b"half"


def test_given_addresses_replace_those_of_the_source(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["copy?id=7"] = WEIGHTS
    source = weights("http://127.0.0.1:1/net.pth")
    assert fetch("net", source, tmp_path, [mirror.url("copy?id=7")]).read_bytes() == WEIGHTS
    for url in ("ftp://127.0.0.1/net.pth", "net.pth"):
        with pytest.raises(UserError, match=f"{url}: not an address of http or https"):
            fetch("net", source, tmp_path / "other", [url])


def test_local_archive_is_used_and_left(tmp_path: Path) -> None:
    source, mine = archive_source("http://unused/set.tar.gz"), put(tmp_path / "mine", ARCHIVE)
    assert files_below(fetch("set", source, tmp_path / "root", archive=mine)) == {"bottle/0.png", ".fetched-set.json"}
    assert mine.read_bytes() == ARCHIVE
    assert not (tmp_path / "root/downloads").exists()
    put(tmp_path / "put/downloads/set.tar.gz", ARCHIVE)  # where a download would lie
    assert files_below(fetch("set", source, tmp_path / "put")) == {"bottle/0.png", ".fetched-set.json"}


def test_wrong_or_missing_local_archive_is_refused(tmp_path: Path) -> None:
    source, mine = archive_source("http://unused/set.tar.gz"), put(tmp_path / "mine.tar.gz", ARCHIVE[:-1])
    with pytest.raises(UserError, match=f"mine.tar.gz: its md5 is .*, expected {source.md5}"):
        fetch("set", source, tmp_path, archive=mine)
    os.mkfifo(tmp_path / "pipe")  # to read it would take for ever
    for name in ("absent.tar", "pipe", "."):
        with pytest.raises(UserError, match="no such file, or a pipe or a folder"):
            fetch("set", source, tmp_path, archive=tmp_path / name)
    assert files_below(tmp_path) == {"mine.tar.gz"}


@pytest.mark.parametrize("digits", [8, 20, 64])
def test_checksum_may_be_a_prefix(tmp_path: Path, digits: int) -> None:
    source = weights("http://unused/net.pth", digits=digits)
    with pytest.raises(UserError, match="its sha256 is"):
        fetch("net", source, tmp_path, archive=put(tmp_path / "other", WEIGHTS[:-1]))
    assert fetch("net", source, tmp_path, archive=put(tmp_path / "mine", WEIGHTS)).read_bytes() == WEIGHTS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/net.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"net: no space left on the disk.*run `adtr fetch net` again"):
        fetch("net", weights(mirror.url("net.pth")), tmp_path)
    assert len(mirror.starts) == 1
