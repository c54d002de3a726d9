"""Which models can be asked, and for what, remembered for some seconds."""

from __future__ import annotations

import time

from client import tasks
from client.aio import AsyncClient
from client.errors import ClientError, ModelNotFound, ServerUnavailable
from client.gateway.asking import CLASSIFICATION, ROUTES, plural
from client.gateway.body import OF_IMAGES, OF_TEXTS
from client.gateway.problems import Problem
from client.tasks import TASKS
from client.types import ModelInfo

REMEMBERED_SECONDS = 5.0


class Models:
    def __init__(self, client: AsyncClient, default: str | None) -> None:
        self._client, self._default = client, default
        self._found: dict[str, str] = {}
        self._until = 0.0
        self._seen: set[str] = set()
        """Kinds of which there was a model: one that is not ready just now may be loaded anew."""
        self._known: dict[str, tuple[ModelInfo, float]] = {}
        """What is remembered of a model, and until when."""

    async def kinds(self) -> dict[str, str]:
        """Of the models that are ready, those that are asked here, by how they are asked. Raises ClientError."""
        if time.monotonic() >= self._until:
            models = await self._client.models()
            self._found = {model.name: kind for model in models for kind in ROUTES if tasks.is_for(kind, model)}
            self._until = time.monotonic() + REMEMBERED_SECONDS
            self._seen.update(self._found.values())
        return self._found

    async def tasks(self) -> dict[str, str]:
        """As their configs have them. Raises ClientError."""
        return {name: TASKS[kind].NAME for name, kind in (await self.kinds()).items()}

    async def routes(self) -> dict[str, str]:
        """Where each is asked. Raises ClientError."""
        return {name: ROUTES[kind] for name, kind in (await self.kinds()).items()}

    async def names(self, task: str | None = None) -> list[str]:
        """Of this task, or of any. Raises ClientError."""
        return [name for name, its in (await self.kinds()).items() if task in (None, its)]

    async def default(self) -> str | None:
        """The model to ask where none is named: the operator's, or the only one, of classifiers at first."""
        if self._default:
            return self._default
        for names in (await self.names(CLASSIFICATION), await self.names()):
            if names:
                return names[0] if len(names) == 1 else None
        return None

    async def served(self) -> list[str]:
        """Those that callers ask: the operator's, or all. Raises ClientError."""
        return [self._default] if self._default else await self.names()

    async def chosen(self, task: str, name: str | None, instead: str = "") -> ModelInfo:
        """Raises Problem 400, ClientError; ServerUnavailable where there is none: it may just be loaded anew.

        Problem 415 where there never was one, but models of the task that the route has `instead`.
        """
        if name:
            return await self._required(task, name)
        if self._default and self._fits(task, await self.known(self._default)):
            return await self.known(self._default)
        names = await self.names(task)
        if len(names) == 1:
            return await self._required(task, names[0])
        if names:
            raise Problem(400, "InvalidInput", f"name a model with ?model=NAME; there are: {', '.join(names)}")
        if self._default:
            raise self._refusal(task, self._default)
        if instead and task not in self._seen and await self.names(instead):
            wanted = OF_TEXTS if TASKS[instead].NAME == "text" else OF_IMAGES
            raise Problem(415, "UnsupportedMediaType", f"there are no {plural(task)} here; {wanted}")
        raise ServerUnavailable(f"there is none of the {plural(task)} at the server that is ready")

    async def known(self, name: str) -> ModelInfo:
        """Raises ClientError."""
        info, until = self._known.get(name, (None, 0.0))
        if info is None or time.monotonic() >= until:
            info = await self._client.model(name)
            self._known[name] = (info, time.monotonic() + REMEMBERED_SECONDS)
        return info

    async def _required(self, task: str, name: str) -> ModelInfo:
        """Raises ModelNotFound."""
        info = await self.known(name)
        if not self._fits(task, info):
            raise self._refusal(task, name)
        return info

    def _fits(self, task: str, info: ModelInfo) -> bool:
        """The operator may have chosen what GET /models does not list."""
        if info.name == self._default and task == CLASSIFICATION:
            return not TASKS[task].refusal(info)
        return tasks.is_for(task, info)

    def _refusal(self, task: str, name: str) -> ModelNotFound:
        return ModelNotFound(f"{name} is not one of the {plural(task)}, which GET /models lists")

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
