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
from client.gateway.body import Given, Takes, given_in, size
from client.gateway.health import Health
from client.gateway.limits import Slots
from client.gateway.methods import Methods
from client.gateway.metrics import Metrics
from client.gateway.middleware import LOG, Around
from client.gateway.models import Models
from client.gateway.problems import Problem
from client.gateway.settings import Settings
from client.shown import printable
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

    keyed = [Depends(_key_check(gateway.settings.api_key)), Depends(_refuse_unknown)]
    model_query = Query(None, description="A name of GET /models; the only or default one where left out.")
    top_query = Query(None, ge=1, le=MAX_TOP, description=documents.TOP)
    threshold_query = Query(None, description=documents.THRESHOLD)
    score_query = Query(None, ge=0, le=1, description=documents.SCORE)
    mask_query = Query(False, description=documents.MASK)

    @app.post("/classify", dependencies=keyed, summary="Classify an image, or texts", **documents.CLASSIFY)
    async def classify(
        request: Request,
        model: str | None = model_query,
        top: int | None = top_query,
        threshold: float | None = threshold_query,
    ) -> Response:
        kinds = Kinds(asking.CLASSIFICATION, asking.TEXT_CLASSES)
        return _as_json("predictions", await _answered(gateway, request, kinds, model, Wanted(top, threshold)))

    @app.post("/detect", dependencies=keyed, summary="Find objects in an image", **documents.DETECT)
    async def detect(
        request: Request, model: str | None = model_query, threshold: float | None = score_query
    ) -> Response:
        kinds, wanted = Kinds(asking.DETECTION), Wanted(threshold=threshold)
        return _as_json("detections", await _answered(gateway, request, kinds, model, wanted))

    @app.post("/segment", dependencies=keyed, summary="Tell the class of each pixel", **documents.SEGMENT)
    async def segment(request: Request, model: str | None = model_query, mask: bool = mask_query) -> Response:
        answer = await _answered(gateway, request, Kinds(asking.SEGMENTATION), model, Wanted())
        found, headers = answer.found, {**answer.timing, "Vary": "Accept"}
        if accepts_json(request.headers.get("accept", "")):
            return JSONResponse(as_mask(found, mask), headers=headers)
        return Response(found.png, media_type="image/png", headers=headers)

    @app.post("/embed", dependencies=keyed, summary="An image, or texts, as vectors", **documents.EMBED)
    async def embed(request: Request, model: str | None = model_query) -> Response:
        kinds = Kinds(asking.EMBEDDING, asking.TEXT_VECTORS)
        return _as_json("embedding", await _answered(gateway, request, kinds, model, Wanted()))

    @app.get("/models", dependencies=keyed, summary="What can be asked", **documents.MODELS)
    async def models() -> dict[str, Any]:
        known = gateway.models
        told = {"models": await known.names(), "default": await known.default(), "tasks": await known.tasks()}
        return told | {"routes": await known.routes()}


def _add_health(app: FastAPI, gateway: Gateway) -> None:

    known = [Depends(_refuse_unknown)]

    @app.get("/healthz", dependencies=known, summary="Whether this process answers", tags=["operation"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz", dependencies=known, summary="Whether images are answered", tags=["operation"], **documents.READY
    )
    async def readyz() -> Response:
        reason = "stopping" if gateway.draining else "" if await gateway.health.ready() else "the server is not ready"
        return JSONResponse({"status": reason or "ok"}, 503 if reason else 200)

    @app.get("/metrics", dependencies=known, summary="For Prometheus", tags=["operation"], **documents.TEXT)
    async def metrics() -> Response:
        return gateway.metrics.response()


@dataclass(frozen=True)
class Kinds:
    """Which models a route asks, for images and for texts."""

    of_images: str
    of_texts: str = ""

    def of(self, given: Given) -> str:
        return self.of_images if isinstance(given, bytes) else self.of_texts

    def other(self, given: Given) -> str:
        return self.of_texts if isinstance(given, bytes) else self.of_images


@dataclass(frozen=True)
class Answered:
    """What the model gives, and a header that tells the milliseconds."""

    found: Any
    timing: dict[str, str]
    is_list: bool
    """Whether it is of several texts."""


def _as_json(name: str, answer: Answered) -> Response:
    """Of several, what each would have been given alone."""
    content = {"results": [{name: one} for one in answer.found]} if answer.is_list else {name: answer.found}
    return JSONResponse(content, headers=answer.timing)


async def _answered(gateway: Gateway, request: Request, kinds: Kinds, model: str | None, wanted: Wanted) -> Answered:
    started = time.perf_counter()
    with gateway.slots.admission():
        gateway.metrics.admitted.set(gateway.slots.admitted)
        takes = Takes(gateway.settings.max_bytes, gateway.settings.body_timeout, bool(kinds.of_texts))
        given = await given_in(request, takes)
        gateway.metrics.image_bytes.inc(size(given))
        found, seconds = await _unless_gone(request, _asked(gateway, given, kinds, model, wanted))
    gateway.metrics.admitted.set(gateway.slots.admitted)
    total = time.perf_counter() - started
    timing = {"Server-Timing": f"triton;dur={seconds * 1000:.2f}, total;dur={total * 1000:.2f}"}
    return Answered(found, timing, isinstance(given, list))


async def _asked(gateway: Gateway, given: Given, kinds: Kinds, model: str | None, wanted: Wanted) -> tuple[Any, float]:
    """What the model gives, and the seconds that Triton took."""
    kind = kinds.of(given)
    info = await gateway.models.chosen(kind, model, kinds.other(given))
    async with gateway.slots.turn(gateway.settings.body_timeout):
        started = time.perf_counter()
        found = await _watched(gateway, info, kind, given, wanted)
        seconds = time.perf_counter() - started
    gateway.metrics.triton_seconds.labels(info.name).observe(seconds)
    return found, seconds


async def _watched(gateway: Gateway, info: ModelInfo, kind: str, given: Given, wanted: Wanted) -> Any:
    try:
        found = await asking.asked(gateway.client, info, kind, given, wanted)
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


async def _refuse_unknown(request: Request) -> None:
    """A parameter that does nothing here would be taken for one that does."""
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            there = f"there are: {', '.join(known)}" if known else "there are none"
            raise Problem(400, "InvalidInput", f"{name}: no such query parameter here; {there}")


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
    if error.public:
        LOG.warning("%s", printable(str(error)))  # callers are told less: where the server is, is not theirs to know
    return problems.answer(problems.of(error))


async def _answer_invalid(_: Request, error: Any) -> Response:
    where = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
    return problems.answer(Problem(400, "InvalidInput", where))


async def _answer_http(_: Request, error: Any) -> Response:
    kinds = {404: "NotFound", 405: "MethodNotAllowed"}
    kind = kinds.get(error.status_code, "HTTPError")
    return problems.answer(Problem(error.status_code, kind, str(error.detail), error.headers or {}))
