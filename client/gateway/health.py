"""Whether images are answered, which Triton's own health does not tell: it says 200 while a worker of it is dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from client.aio import AsyncClient
from client.errors import ClientError
from client.gateway.asking import Query, asked, kind_of, probe
from client.gateway.models import Models

# What is known of an answer to a caller, or to a probe, counts for so long. So there is one probe in as many seconds,
# however often somebody asks: who floods /readyz loads the gateway alone.
KNOWN_SECONDS = 5.0
# That a probe may take.
PROBE_SECONDS = 5.0


class Health:
    """What the answers to callers tell, and, where there were none lately or some failed, one small picture or text."""

    def __init__(self, client: AsyncClient, models: Models, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._models, self._clock = client, models, clock
        self._answered: dict[str, float] = {}
        """When each model last answered, unless it failed since."""
        self._probe: asyncio.Task[bool] | None = None
        self._probed = float("-inf")

    def answered(self, model: str) -> None:
        self._answered[model] = self._clock()

    def failed(self, model: str) -> None:
        """Perhaps because of the image, which may be made for it: so the next probe tells, and nothing else."""
        self._answered.pop(model, None)

    async def ready(self) -> bool:
        try:
            if not await self._models.ready():
                return False
            names = await self._models.served()
        except ClientError:
            return False
        if any(self._clock() - self._answered.get(name, float("-inf")) < KNOWN_SECONDS for name in names):
            return True
        if self._probe is None or (self._probe.done() and self._clock() - self._probed >= KNOWN_SECONDS):
            self._probed = self._clock()
            self._probe = asyncio.create_task(self._any_answers(names))
        return await asyncio.shield(self._probe)  # it goes on for the others who wait, if this caller hangs up

    async def _any_answers(self, names: list[str]) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                for name in names:
                    if await self._answers(name):
                        return True
        except TimeoutError:
            pass
        return False

    async def _answers(self, name: str) -> bool:
        try:
            info = await self._models.known(name)
            kind = kind_of(info)
            await asked(self._client, info, kind, probe(kind), Query(top=1))
        except (ClientError, KeyError):  # the operator's model may be of a task that has no route
            return False
        self.answered(name)
        return True
