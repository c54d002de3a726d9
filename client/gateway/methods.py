"""HEAD and OPTIONS, which load balancers and monitors ask with: as HTTP has them, for every route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = {"GET", "HEAD"}


class Methods:
    """HEAD is GET without the body; OPTIONS, and whatever is answered 405, tell what is allowed."""

    def __init__(self, app: ASGIApp, routes: Callable[[], Sequence[BaseRoute]]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._head(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "OPTIONS" and (allowed := self._allowed(scope)):
            await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
        else:
            await self._app(scope, receive, self._telling(scope, send))

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's own scope stays as it is, since it goes by the method, too."""
        asked: dict[str, Any] = {**scope, "method": "GET"}

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app(asked, receive, self._telling(scope, without_body))
        scope.update({"route": asked["route"]} if "route" in asked else {})  # for the figures

    def _telling(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                others = [(name, value) for name, value in message["headers"] if name.lower() != b"allow"]
                message["headers"] = [*others, (b"allow", self._allowed(scope).encode())]
            await send(message)

        return sending

    def _allowed(self, scope: Scope) -> str:
        """Of the path; nothing if there is none. `*` asks for the whole server."""
        found: set[str] = set()
        for route in self._routes():
            if scope["path"] == "*" or route.matches(scope)[0] is not Match.NONE:
                found |= getattr(route, "methods", None) or SAFE  # files that are mounted have none
        if "GET" in found:
            found.add("HEAD")
        return ", ".join(sorted(found | {"OPTIONS"})) if found else ""
