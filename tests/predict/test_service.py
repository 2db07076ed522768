"""`adtr serve` as a process, asked by an HTTP client and by a browser."""

import base64
import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from adtr import Detector
from adtr.predict import service

Make = Callable[..., Path]  # the fixture `made`


def started(run: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """The process, once it listens, and its address."""
    code = "from adtr.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"(http://127\.0\.0\.1:\d+/) ", line)
    if not found:
        process.kill()
        pytest.fail(f"{line!r} {process.communicate()[1]}")
    return process, found[1]


@pytest.fixture(scope="module")
def address(made: Make) -> Iterator[str]:
    process, address = started(made("padim"))
    yield address
    process.terminate()
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.fixture(scope="module")
def image(images: Path, made: Make) -> Path:
    """A test image with a region."""
    detector = Detector.load(made("padim"))
    return next(p for p in sorted((images / "carpet/test").glob("*/*.png")) if detector.predict(p)[0].largest_region)


def post(address: str, content: bytes, **options: object) -> requests.Response:
    return requests.post(f"{address}predict", data=content, timeout=60, **options)  # type: ignore[arg-type]


def test_an_image_gets_what_the_detector_gives(address: str, made: Make, image: Path) -> None:
    (expected,) = Detector.load(made("padim")).predict(image)
    found = post(address, image.read_bytes()).json()
    assert found["pred_score"] == expected.pred_score
    assert (found["threshold"], found["pred_label"]) == (expected.threshold, expected.pred_label)
    assert expected.largest_region == (*found["box"], found["area"])
    assert (expected.peak, expected.pixel_threshold) == (tuple(found["peak"]), found["pixel_threshold"])
    picture = Image.open(io.BytesIO(base64.b64decode(found["overlay"])))
    assert (picture.format, picture.size) == ("PNG", (512, 512))
    assert post(address, image.read_bytes(), params={"overlay": "false"}).json()["overlay"] is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "MPO", "BMP", "TIFF", "WEBP"])
def test_every_kind_of_image_that_is_promised_is_read(address: str, image: Path, form: str) -> None:
    content = io.BytesIO()
    Image.open(image).save(content, form)
    answer = post(address, content.getvalue())
    assert answer.status_code == 200, answer.text


def test_health_and_version(address: str, made: Make) -> None:
    assert requests.get(f"{address}health", timeout=60).json() == {"status": "ok", "images": 0}
    version, detector = requests.get(f"{address}version", timeout=60).json(), Detector.load(made("padim"))
    assert version["threshold"] == detector.threshold
    assert version["weights"] == detector.made_of["weights"]
    assert version["limits"]["bytes"] == service.BYTES


def png(width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("1", (width, height)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", 400, "not a PNG, JPEG, BMP, TIFF or WebP image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "not a PNG"),
        (png(64, 64)[:50], 400, "the image: not readable"),
        (png(10_000, 10_000), 413, "10000x10000 px are more than 67,108,864"),
        (bytes(service.BYTES + 1), 413, "33,554,433 bytes are more than 33,554,432"),
    ],
    ids=["empty", "postscript", "cut", "bomb", "large"],
)
def test_what_is_no_image_is_refused_as_json(content: bytes, code: int, message: str, address: str) -> None:
    answer = post(address, content)
    assert answer.status_code == code
    assert message in answer.json()["detail"]


def test_a_form_a_wrong_route_and_a_wrong_method_are_refused_as_json(address: str, image: Path) -> None:
    form = requests.post(f"{address}predict", files={"image": image.read_bytes()}, timeout=60)
    assert (form.status_code, "curl --data-binary" in form.json()["detail"]) == (415, True)
    assert requests.get(f"{address}service.py", timeout=60).status_code == 404
    assert "/health" in requests.get(f"{address}nothing", timeout=60).json()["detail"]
    assert requests.put(f"{address}predict", timeout=60).json()["detail"] == "Method Not Allowed"


def test_a_full_queue_says_when_to_come_again(address: str, image: Path) -> None:
    """Bodies that do not arrive hold all places; a further image is sent away, and scored once they have gone."""
    host, port = re.findall(r"//(.+):(\d+)", address)[0]
    slow = [socket.create_connection((host, int(port))) for _ in range(service.QUEUE)]
    for connection in slow:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    while requests.get(f"{address}health", timeout=60).json()["images"] < service.QUEUE:
        pass
    answer = post(address, image.read_bytes())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    for connection in slow:
        connection.close()
    while requests.get(f"{address}health", timeout=60).json()["images"]:
        pass
    with ThreadPoolExecutor(service.QUEUE) as pool:
        answers = list(pool.map(lambda _: post(address, image.read_bytes()), range(service.QUEUE)))
    assert len({answer.json()["pred_score"] for answer in answers}) == 1


def test_an_interrupt_and_a_taken_port(made: Make, address: str) -> None:
    process, _ = started(made("padim"))
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
    port = address.rstrip("/").rpartition(":")[2]
    with pytest.raises(pytest.fail.Exception, match=f"127.0.0.1:{port}: cannot be listened on .*--port"):
        started(made("padim"), "--port", port)


@pytest.mark.parametrize("calibration", [0.5, 0.0], ids=["with a threshold", "without"])
def test_the_page(browser: Any, calibration: float, made: Make, image: Path, tmp_path: Path) -> None:
    """Files chosen and dropped, the slider, an error; no request to others, no message on the console."""
    process, address = started(made("padim", calibration))
    (tmp_path / "notes.png").write_text("not an image")
    try:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        asked, said = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"  # Enter opens the browser's own dialogue
        page.locator("#files").set_input_files(image)
        page.wait_for_selector("article")
        score = Detector.load(made("padim", calibration)).predict(image)[0].pred_score
        verdict = page.locator("article .verdict")
        assert f"score {score:.4g}"[:9] in verdict.inner_text()
        assert verdict.inner_text().startswith("Anomalous" if calibration else ("Anomalous", "Normal"))
        for picture in page.locator("article img").all():
            picture.evaluate("picture => picture.decode()")
        page.locator("#threshold").focus()
        page.keyboard.press("End")
        assert verdict.inner_text().startswith("Normal")
        page.keyboard.press("Home")
        assert verdict.inner_text().startswith("Anomalous")
        assert page.locator("#count").inner_text() == "1 of 1 anomalous"
        assert page.locator("#reset").is_visible() == bool(calibration)
        assert said == []
        _drop(page, image, tmp_path / "notes.png")
        page.wait_for_selector("#status.error")
        assert page.locator("#status").inner_text().startswith("notes.png: the body is not a PNG")
        assert page.locator("article").count() == 2
        assert all(url.startswith((address, "data:", f"blob:{address}")) for url in asked)
        page.close()
    finally:
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""


def _drop(page: object, *paths: Path) -> None:
    """Drops files on a page as a browser does."""
    contents = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    page.evaluate(  # type: ignore[attr-defined]
        """files => {
            const data = new DataTransfer();
            for (const [name, content] of files)
                data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }""",
        contents,
    )
