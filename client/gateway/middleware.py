"""Around every request: figures, security headers, and a last answer where all else failed."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.gateway.metrics import Metrics
from client.gateway.problems import Problem, answer

LOG = logging.getLogger("repo-client.gateway")
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Around:
    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            await self._last_answer(scope, receive, sending, status)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    async def _last_answer(self, scope: Scope, receive: Receive, send: Send, status: int) -> None:
        """A mistake of this program: told in the log, under a name that the user is given."""
        name = secrets.token_hex(4)
        LOG.exception("request %s failed", name)
        if not status:
            problem = Problem(
                500, "InternalError", f"this is a mistake of the gateway's; its log tells more under {name}"
            )
            await answer(problem)(scope, receive, send)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", "other")  # not what hostile clients make up
        self._metrics.requests.labels(path, scope["method"] if route else "other", str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
