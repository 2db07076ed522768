"""The service of `adtr serve`: images by HTTP to scores and overlays, and a page to drop them on."""

import asyncio
import base64
import io
import logging
import math
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from adtr import __version__
from adtr.config.study import Run
from adtr.data.findings import FORMATS
from adtr.data.images import decode_file
from adtr.errors import UserError
from adtr.files import saved
from adtr.predict.detector import Detector
from adtr.predict.overlay import overlay as drawn
from adtr.records import Record

logger = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
BYTES = 32 << 20  # of an image as it comes
PIXELS = 1 << 26  # of an image: 200 MB as RGB
QUEUE = 8  # images at once: one is scored, the others wait or arrive
SECONDS = 30  # that an image may take to arrive
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TYPES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}


class Found(BaseModel):
    """What a detector finds in an image; without calibration images there is neither threshold nor label nor region."""

    pred_score: float
    threshold: float | None
    pred_label: bool | None  # true: anomalous
    peak: tuple[int, int]  # x, y of the highest value of the map, px
    pixel_threshold: float | None
    box: tuple[int, int, int, int] | None  # of the largest region: left, top, right, bottom, px
    area: int | None  # of it, px
    width: int
    height: int
    milliseconds: float
    overlay: str | None  # a PNG, base64


class Health(BaseModel):
    """That the service answers, and how many images are in work or wait."""

    status: str
    images: int


def application(detector: Detector, run: dict[str, Any], ready: Callable[[], None]) -> FastAPI:
    """The routes; `run` is what /version says besides threshold, digests and limits; `ready` is called at the start."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ready()
        yield

    app = FastAPI(title="adtr serve", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    one_at_a_time, images, seconds = asyncio.Lock(), 0, 1.0

    @app.middleware("http")
    async def guarded(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            response = await following(request)
        except Exception:
            logger.exception("%s %s", request.method, request.url.path)
            response = JSONResponse({"detail": "an error of the service: its log says more"}, 500)
        response.headers.update(HEADERS)
        return response

    @app.post("/predict")
    async def predict(request: Request, overlay: bool = True) -> Found:
        """Scores the image that is the body of the request; `overlay=false` leaves the picture out."""
        nonlocal images, seconds
        if images >= QUEUE:
            wait = {"Retry-After": str(math.ceil(QUEUE * seconds))}
            raise HTTPException(503, f"{QUEUE} images are waiting already: try again", wait)
        images += 1
        try:
            content = await _body(request)
            async with one_at_a_time:
                began = time.monotonic()
                found = await run_in_threadpool(_found, detector, content, overlay)
                seconds = time.monotonic() - began
                return found
        finally:
            images -= 1

    @app.get("/health")
    async def health() -> Health:
        return Health(status="ok", images=images)

    @app.get("/version")
    async def version() -> dict[str, Any]:
        limits = {"bytes": BYTES, "pixels": PIXELS, "queue": QUEUE}
        threshold = {name: getattr(detector, name) for name in ("threshold", "pixel_threshold", "false_alarms")}
        return {"version": __version__, **run, **threshold, **detector.made_of, "limits": limits}

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def page(name: str = "index.html") -> FileResponse:
        if name not in TYPES:
            raise HTTPException(404, f"no /{name}: there are /, /predict, /health, /version and /openapi.json")
        return FileResponse(PAGE / name, media_type=TYPES[name])

    return app


async def _body(request: Request) -> bytes:
    """The body of a request; what is too large is read to its end and dropped, so that the client hears of it."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "the body is the image itself, not a form: curl --data-binary @IMAGE")
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= BYTES:
                    content += chunk
                else:
                    content.clear()
    except ClientDisconnect:
        raise HTTPException(400, "the image did not arrive whole") from None  # nobody is there to read it
    except TimeoutError:
        raise HTTPException(408, f"the image did not arrive within {SECONDS} s") from None
    if size > BYTES:
        raise HTTPException(413, f"{size:,} bytes are more than {BYTES:,}: send a smaller image")
    return bytes(content)


def _found(detector: Detector, content: bytes, with_overlay: bool) -> Found:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            width, height = header.size
    except Exception:  # a broken image raises almost anything
        raise HTTPException(400, "the body is not a PNG, JPEG, BMP, TIFF or WebP image") from None
    if width * height > PIXELS:
        raise HTTPException(413, f"{width}x{height} px are more than {PIXELS:,}: cut or shrink the image")
    try:
        began = time.perf_counter()
        image = decode_file(content, "the image")
        (found,) = detector.predict(image)
    except UserError as error:
        raise HTTPException(400, str(error)) from None
    region, png = found.largest_region, None
    if with_overlay:
        picture = drawn(image, found.token_map, detector.scale_of(found), found.pixel_threshold)
        png = base64.b64encode(saved(lambda file: picture.save(file, "PNG", compress_level=1))).decode()
    return Found(
        pred_score=found.pred_score,
        threshold=found.threshold,
        pred_label=found.pred_label,
        peak=found.peak,
        pixel_threshold=found.pixel_threshold,
        box=region and region[:4],
        area=region and region[4],
        width=image.width,
        height=image.height,
        milliseconds=round(1000 * (time.perf_counter() - began), 2),
        overlay=png,
    )


def about(run: Path, detector: Detector) -> dict[str, Any]:
    """What /version says of a run: its name, and the lowest and highest score of the images that it was tested on."""
    evaluation = Record(run / "evaluation.json")
    labels = evaluation.table("metrics.csv", dtype=str).iloc[0]
    tables = [evaluation.table(name).pred_score for name in ("scores.csv", "calibration.csv")]
    scores = [*np.concatenate(tables)] or [0.0, 1.0]
    name = "/".join(str(labels[part]) for part in Run._fields if part in labels)
    features = detector.params.features
    return {
        "run": name,
        "method": detector.params.method,
        "backbone": features.backbone,
        "image_size": features.image_size,
        "calibration_images": detector.calibrated_on,
        "scores": [float(min(scores)), float(max(scores))],
    }


def serve(run: Path, detector: Detector, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; requests in work are answered before.

    Raises:
        UserError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"{host}:{port}: cannot be listened on ({error}): choose others by --host and --port") from None
    with closing(listening):
        address = f"[{host}]" if ":" in host else host
        if not host.startswith("127.") and host not in ("localhost", "::1"):
            logger.warning("whoever reaches this address can use the service: it asks for no password")
        app = application(
            detector,
            about(run, detector),
            # Not before signals are heard: who reads the address may send one at once
            lambda: print(f"http://{address}:{listening.getsockname()[1]}/ (Ctrl-C stops)", flush=True),
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # which uvicorn raises again, once it has stopped
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening])
