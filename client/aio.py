"""Images to predictions, for event loops. The names, arguments and errors are those of `Client`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from client import endpoint
from client.endpoint import DEFAULT_URL
from client.errors import ClientError
from client.flows import Flow, Flows, Pause, Send, Step
from client.images import grouped, read_image
from client.transports import KINDS, AsyncTransport
from client.types import AnyImage, Classified, Image, ModelInfo, ModelStatistics, Prediction, Tls

if TYPE_CHECKING:
    from client.types import Array

Result = TypeVar("Result")


class AsyncClient:
    """A connection to a Triton server, for the tasks of one event loop; `async with` closes it.

    Cancelling a task cancels its request, on the server as well. See `Client` for the arguments.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        shared_memory: bool | None = None,
        admin_key: str | None = None,
    ) -> None:
        self.endpoint = endpoint.parse(url, headers, tls, admin_key)
        self._flows = Flows(self.endpoint, timeout, retries, shared_memory)
        self._connected: AsyncTransport | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._run(self._flows.close())
        if self._connected:
            await self._connected.close()

    async def ready(self, model: str | None = None) -> bool:
        return await self._run(self._flows.ready(model))

    async def models(self) -> list[ModelInfo]:
        return await self._run(self._flows.models())

    async def model(self, name: str) -> ModelInfo:
        return await self._run(self._flows.model(name))

    async def classifier(self, name: str | None = None) -> ModelInfo:
        return await self._run(self._flows.classifier(name))

    async def statistics(self, model: str | None = None) -> list[ModelStatistics]:
        return await self._run(self._flows.statistics(model))

    async def classify(self, image: Image, model: str | None = None, top: int = 5) -> tuple[Prediction, ...]:
        return await self._run(self._flows.classify(image, model, top))

    async def classify_batch(
        self, images: Sequence[Image], model: str | None = None, top: int = 5
    ) -> list[tuple[Prediction, ...]]:
        return await self._run(self._flows.classify_batch(images, model, top))

    async def probabilities(self, images: Sequence[Image], model: str | None = None) -> Array:
        return await self._run(self._flows.probabilities(images, model))

    async def infer(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return await self._run(self._flows.infer(model, inputs))

    async def classify_many(
        self,
        images: Iterable[AnyImage] | AsyncIterable[AnyImage],
        model: str | None = None,
        top: int = 5,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Classified[AnyImage], None]:
        """As Client.classify_many; `aclose` cancels what is in flight."""
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        info = await self.classifier(model)
        slots = asyncio.Semaphore(concurrency)
        pending: deque[asyncio.Task[list[Classified[AnyImage]]]] = deque()

        async def outcomes(group: Sequence[AnyImage]) -> list[Classified[AnyImage]]:
            async with slots:
                return await self._run(self._flows.classify_each(group, info.name, top))

        try:
            async for group in _grouped(images, info.batch(batch_size)):
                pending.append(asyncio.create_task(outcomes(group)))
                if len(pending) >= 2 * concurrency:
                    for result in await pending.popleft():
                        yield result
            while pending:
                for result in await pending.popleft():
                    yield result
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _run(self, flow: Flow[Result]) -> Result:
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._take(step)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            flow.close()

    async def _take(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._transport().send(step.call, step.seconds)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        return step.image if isinstance(step.image, bytes) else await asyncio.to_thread(read_image, step.image)

    def _transport(self) -> AsyncTransport:
        """Made at the first call, inside the loop that it belongs to."""
        if self._connected is None:
            self._connected = KINDS[self.endpoint.scheme].connect_async(self.endpoint)
        return self._connected


async def _grouped(images: Iterable[AnyImage] | AsyncIterable[AnyImage], size: int) -> AsyncIterator[list[AnyImage]]:
    if not isinstance(images, AsyncIterable):
        for group in grouped(images, size):
            yield group
        return
    held: list[AnyImage] = []
    async for image in images:
        held.append(image)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
