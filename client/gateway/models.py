"""Which models can be asked, remembered for some seconds."""

from __future__ import annotations

import time

from client import tasks
from client.aio import AsyncClient
from client.errors import ClientError, ModelNotFound, ServerUnavailable
from client.gateway.problems import Problem
from client.tasks import TASKS

REMEMBERED_SECONDS = 5.0
TASK = "classification"


class Models:
    def __init__(self, client: AsyncClient, default: str | None) -> None:
        self._client, self._default = client, default
        self._names: list[str] = []
        self._until = 0.0
        self._classifiers: dict[str, float] = {}
        """Until when it is remembered of a name that it is a classifier's."""

    async def names(self) -> list[str]:
        """The image classifiers that are ready. Raises ClientError."""
        if time.monotonic() >= self._until:
            self._names = [model.name for model in await self._client.models() if tasks.is_for(TASK, model)]
            self._until = time.monotonic() + REMEMBERED_SECONDS
        return self._names

    async def default(self) -> str | None:
        """The model for requests that name none, if there is one."""
        if self._default:
            return self._default
        names = await self.names()
        return names[0] if len(names) == 1 else None

    async def served(self) -> list[str]:
        """Those that callers ask: the default one, or, where they have to name one, all. Raises ClientError."""
        default = await self.default()
        return [default] if default else await self.names()

    async def chosen(self, name: str | None) -> str:
        """Raises Problem 400, ClientError; ServerUnavailable where there is none: it may just be loaded anew."""
        found = name or await self.default()
        if found:
            await self._require_classifier(found)
            return found
        if names := await self.names():
            raise Problem(400, "InvalidInput", f"name a model with ?model=NAME; there are: {', '.join(names)}")
        raise ServerUnavailable("the server has no image classifier that is ready")

    async def _require_classifier(self, name: str) -> None:
        """The operator may have chosen what GET /models does not list. Raises ModelNotFound."""
        if time.monotonic() < self._classifiers.get(name, 0.0):
            return
        model = await self._client.model(name)
        if TASKS[TASK].refusal(model) if name == self._default else not tasks.is_for(TASK, model):
            raise ModelNotFound(f"{name} is not one of the image classifiers, which GET /models lists")
        self._classifiers[name] = time.monotonic() + REMEMBERED_SECONDS

    async def ready(self) -> bool:
        """Whether Triton says that it is."""
        try:
            if not await self._client.ready():
                return False
            if self._default:
                return await self._client.ready(self._default)
            return bool(await self.names())
        except ClientError:
            return False
