"""Requests to answers, for event loops. The names, arguments and errors are those of `Client`."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Any, TypeVar

from client import endpoint
from client.classes import AsyncClasses
from client.endpoint import DEFAULT_URL, Endpoint
from client.errors import Cancelled, ClientError, Forked
from client.flows import Flow, Flows, Make, Pause, Send, Step
from client.images import grouped
from client.pictures import AsyncPictures
from client.processes import OfProcess, here, refuse_copy
from client.sizes import is_at_hand, read_within
from client.tasks import tensors
from client.texts import AsyncTexts
from client.transports import KINDS, AsyncTransport
from client.types import AnyImage, ModelInfo, ModelStatistics, Outcome, Tls

if TYPE_CHECKING:
    from client.types import Array

Result = TypeVar("Result")
THIS = "this iteration"


class AsyncClient(AsyncClasses, AsyncPictures, AsyncTexts):
    """A connection to a Triton server, for the tasks of one event loop; `async with` closes it.

    Cancelling a task cancels its request, on the server as well. See `Client` for the arguments.

    In a process that was forked it is a client of its own, as `Client` is, in an event loop of the child's own, such
    as `asyncio.run` makes. What goes on in the child of the parent's loop, whose sockets are still the parent's, gets
    Forked, and so does an iterator of `classify_many` that the parent began.
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
        self.endpoint = place = endpoint.parse(url, headers, tls, admin_key)
        self._closed = False
        self._held = OfProcess(lambda: Own(place, Flows(place, timeout, retries, shared_memory)))
        self._held.get()  # raises ValueError

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        own = self._held.get()
        await own.close(lambda: self._steps(own.flows.close(), own))

    async def ready(self, model: str | None = None) -> bool:
        return await self._run(lambda flows: flows.ready(model))

    async def models(self) -> list[ModelInfo]:
        return await self._run(lambda flows: flows.models())

    async def model(self, name: str) -> ModelInfo:
        return await self._run(lambda flows: flows.model(name))

    async def classifier(self, name: str | None = None) -> ModelInfo:
        return await self.chosen("classification", name)

    async def chosen(self, task: str, name: str | None = None) -> ModelInfo:
        return await self._run(lambda flows: flows.chosen(task, name))

    async def statistics(self, model: str | None = None) -> list[ModelStatistics]:
        return await self._run(lambda flows: flows.statistics(model))

    async def ask(self, request: Any, model: str | None = None) -> Any:
        return await self._run(lambda flows: flows.ask(request, model))

    async def infer(
        self, model: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None, split: bool = False
    ) -> dict[str, Array]:
        request = tensors.Request(inputs, outputs, split)
        found: dict[str, Array] = await self._run(lambda flows: flows.ask_anew(request, model))
        return found

    async def ask_each(
        self,
        files: Iterable[AnyImage] | AsyncIterable[AnyImage],
        make: Make,
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Outcome[AnyImage], None]:
        """As Client.ask_each; `aclose` cancels what is in flight."""
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        owner = here()
        info = await self._run(lambda flows: flows.chosen_for(make([]), model))
        slots = asyncio.Semaphore(concurrency)
        pending: deque[asyncio.Task[list[Outcome[AnyImage]]]] = deque()

        async def outcomes(group: Sequence[AnyImage]) -> list[Outcome[AnyImage]]:
            async with slots:
                return await self._run(lambda flows: flows.ask_each(group, make, info.name))

        try:
            async for group in _grouped(files, info.batch(batch_size)):
                refuse_copy(owner, THIS)
                pending.append(asyncio.create_task(outcomes(group)))
                if len(pending) >= 2 * concurrency:
                    for result in await pending.popleft():
                        yield result
                        refuse_copy(owner, THIS)
            while pending:
                for result in await pending.popleft():
                    yield result
                    refuse_copy(owner, THIS)
        finally:
            if here() == owner:  # the tasks are the parent's
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)

    async def _run(self, flow: Callable[[Flows], Flow[Result]]) -> Result:
        own = self._held.get()
        if self._closed:
            raise Cancelled("the client was closed")
        return await self._steps(flow(own.flows), own)

    async def _steps(self, flow: Flow[Result], own: Own) -> Result:
        task = own.enter()
        try:
            step = next(flow)
            while True:
                try:
                    answer = await own.take(step)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            flow.close()
            own.leave(task)


class Own:
    """What one process has of a client. It connects at the first call, inside the loop that it belongs to."""

    def __init__(self, place: Endpoint, flows: Flows) -> None:
        self.flows = flows
        self._endpoint = place
        self._connected: AsyncTransport | None = None
        # So that a child, which keeps what its parent had, does not end their coroutines, and the parent's sockets.
        self._tasks: Counter[asyncio.Task[Any] | None] = Counter()

    def enter(self) -> asyncio.Task[Any] | None:
        """Raises Forked."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            raise Forked(
                "this process was forked inside a running event loop, which is its parent's; call asyncio.run() here"
            ) from None
        self._tasks[task] += 1
        return task

    def leave(self, task: asyncio.Task[Any] | None) -> None:
        self._tasks[task] -= 1
        if not self._tasks[task]:
            del self._tasks[task]

    async def take(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._transport().send(step.call, step.seconds)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if is_at_hand(step.item):
            return read_within(step.item, step.most)
        return await asyncio.to_thread(read_within, step.item, step.most)

    def _transport(self) -> AsyncTransport:
        if self._connected is None:
            self._connected = KINDS[self._endpoint.scheme].connect_async(self._endpoint)
        return self._connected

    async def close(self, farewell: Callable[[], Awaitable[None]]) -> None:
        """`farewell` is what the server is told before."""
        if self._connected:
            await farewell()
            await self._connected.close()


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
