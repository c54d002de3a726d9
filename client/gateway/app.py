"""The application: routes, and what is around them."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from client.aio import AsyncClient
from client.errors import ClientError, DeadlineExceeded, ModelNotFound, ServerError, ServerUnavailable
from client.gateway import asking, documents, problems
from client.gateway.answers import accepts_json, as_mask
from client.gateway.asking import Query as Wanted
from client.gateway.body import image_of
from client.gateway.health import Health
from client.gateway.limits import Slots
from client.gateway.methods import Methods
from client.gateway.metrics import Metrics
from client.gateway.middleware import Around
from client.gateway.models import Models
from client.gateway.problems import Problem
from client.gateway.settings import Settings
from client.types import ModelInfo

MAX_TOP = 1000
SERVER_FAULTS = (ServerUnavailable, ServerError, DeadlineExceeded, ModelNotFound)


@dataclass
class Gateway:
    """What the routes share. `draining` is set when the server is about to stop."""

    client: AsyncClient
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False

    def __post_init__(self) -> None:
        self.slots = Slots(self.settings.concurrency, self.settings.queue)
        self.models = Models(self.client, self.settings.model)
        self.health = Health(self.client, self.models)


def make_app(gateway: Gateway) -> FastAPI:

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await gateway.client.close()

    app = FastAPI(
        title=documents.TITLE,
        description=documents.DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_service(app, gateway)
    _add_health(app, gateway)
    documents.add_pages(app)
    handlers: dict[Any, Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
        Problem: _answer_problem,
        ClientError: _answer_client_error,
        RequestValidationError: _answer_invalid,
        HTTPException: _answer_http,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Methods, routes=lambda: app.routes)
    app.add_middleware(Around, metrics=gateway.metrics)
    return app


def _add_service(app: FastAPI, gateway: Gateway) -> None:

    keyed = [Depends(_key_check(gateway.settings.api_key))]
    model_query = Query(None, description="A name of GET /models; the only or default one where left out.")
    top_query = Query(None, ge=1, le=MAX_TOP, description=documents.TOP)
    threshold_query = Query(None, description=documents.THRESHOLD)
    score_query = Query(None, ge=0, le=1, description=documents.SCORE)
    mask_query = Query(False, description=documents.MASK)

    @app.post("/classify", dependencies=keyed, summary="Classify an image", **documents.CLASSIFY)
    async def classify(
        request: Request,
        model: str | None = model_query,
        top: int | None = top_query,
        threshold: float | None = threshold_query,
    ) -> Response:
        found, timing = await _answered(gateway, request, asking.CLASSIFICATION, model, Wanted(top, threshold))
        return JSONResponse({"predictions": found}, headers=timing)

    @app.post("/detect", dependencies=keyed, summary="Find objects in an image", **documents.DETECT)
    async def detect(
        request: Request, model: str | None = model_query, threshold: float | None = score_query
    ) -> Response:
        found, timing = await _answered(gateway, request, asking.DETECTION, model, Wanted(threshold=threshold))
        return JSONResponse({"detections": found}, headers=timing)

    @app.post("/segment", dependencies=keyed, summary="Tell the class of each pixel", **documents.SEGMENT)
    async def segment(request: Request, model: str | None = model_query, mask: bool = mask_query) -> Response:
        found, timing = await _answered(gateway, request, asking.SEGMENTATION, model, Wanted())
        headers = {**timing, "Vary": "Accept"}
        if accepts_json(request.headers.get("accept", "")):
            return JSONResponse(as_mask(found, mask), headers=headers)
        return Response(found.png, media_type="image/png", headers=headers)

    @app.post("/embed", dependencies=keyed, summary="An image as a vector", **documents.EMBED)
    async def embed(request: Request, model: str | None = model_query) -> Response:
        found, timing = await _answered(gateway, request, asking.EMBEDDING, model, Wanted())
        return JSONResponse({"embedding": found}, headers=timing)

    @app.get("/models", dependencies=keyed, summary="What can be asked", **documents.MODELS)
    async def models() -> dict[str, Any]:
        known = gateway.models
        return {"models": await known.names(), "default": await known.default(), "tasks": await known.tasks()}


def _add_health(app: FastAPI, gateway: Gateway) -> None:

    @app.get("/healthz", summary="Whether this process answers", tags=["operation"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether images are answered", tags=["operation"], **documents.READY)
    async def readyz() -> Response:
        reason = "stopping" if gateway.draining else "" if await gateway.health.ready() else "the server is not ready"
        return JSONResponse({"status": reason or "ok"}, 503 if reason else 200)

    @app.get("/metrics", summary="For Prometheus", tags=["operation"], **documents.TEXT)
    async def metrics() -> Response:
        return gateway.metrics.response()


async def _answered(
    gateway: Gateway, request: Request, task: str, model: str | None, wanted: Wanted
) -> tuple[Any, dict[str, str]]:
    """What the model gives, and a header that tells the milliseconds."""
    started = time.perf_counter()
    with gateway.slots.admission():
        gateway.metrics.admitted.set(gateway.slots.admitted)
        image = await image_of(request, gateway.settings.max_bytes, gateway.settings.body_timeout)
        gateway.metrics.image_bytes.inc(len(image))
        found, seconds = await _unless_gone(request, _asked(gateway, image, task, model, wanted))
    gateway.metrics.admitted.set(gateway.slots.admitted)
    total = time.perf_counter() - started
    return found, {"Server-Timing": f"triton;dur={seconds * 1000:.2f}, total;dur={total * 1000:.2f}"}


async def _asked(gateway: Gateway, image: bytes, task: str, model: str | None, wanted: Wanted) -> tuple[Any, float]:
    """What the model gives, and the seconds that Triton took."""
    info = await gateway.models.chosen(task, model)
    async with gateway.slots.turn(gateway.settings.body_timeout):
        started = time.perf_counter()
        found = await _watched(gateway, info, image, wanted)
        seconds = time.perf_counter() - started
    gateway.metrics.triton_seconds.labels(info.name).observe(seconds)
    return found, seconds


async def _watched(gateway: Gateway, info: ModelInfo, image: bytes, wanted: Wanted) -> Any:
    try:
        found = await asking.asked(gateway.client, info, image, wanted)
    except SERVER_FAULTS:
        gateway.health.failed(info.name)
        raise
    gateway.health.answered(info.name)
    return found


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The work's result; it is cancelled when the client hangs up, which nobody would read it then."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Problem(499, "ClientClosedRequest", "the client hung up")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def _key_check(key: str | None) -> Callable[[Request], Coroutine[Any, Any, None]]:

    async def check(request: Request) -> None:
        if key is None:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode(), key.encode()):
            message = "an API key is wanted: `Authorization: Bearer KEY`, or `X-API-Key: KEY`"
            raise Problem(401, "Unauthorized", message, {"WWW-Authenticate": "Bearer"})

    return check


async def _answer_problem(_: Request, problem: Problem) -> Response:
    return problems.answer(problem)


async def _answer_client_error(_: Request, error: ClientError) -> Response:
    return problems.answer(problems.of(error))


async def _answer_invalid(_: Request, error: Any) -> Response:
    where = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
    return problems.answer(Problem(400, "InvalidInput", where))


async def _answer_http(_: Request, error: Any) -> Response:
    kinds = {404: "NotFound", 405: "MethodNotAllowed"}
    kind = kinds.get(error.status_code, "HTTPError")
    return problems.answer(Problem(error.status_code, kind, str(error.detail), error.headers or {}))
