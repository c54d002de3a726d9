"""Requests to answers, for threads. Knows the KServe v2 protocol and nothing of how models are built."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from client import endpoint
from client.classes import Classes
from client.endpoint import DEFAULT_URL, Endpoint
from client.errors import Cancelled, ClientError
from client.flows import Flow, Flows, Make, Pause, Send, Step
from client.images import grouped
from client.pictures import Pictures
from client.processes import OfProcess, here, refuse_copy
from client.sizes import read_within
from client.tasks import tensors
from client.texts import Texts
from client.transports import KINDS, Transport
from client.types import AnyImage, ModelInfo, ModelStatistics, Outcome, Tls

if TYPE_CHECKING:
    from client.types import Array

Item = TypeVar("Item")
Result = TypeVar("Result")
THIS = "this iteration"


class Client(Classes, Pictures, Texts):
    """A connection to a Triton server. Threads may share one; `with` closes it.

    `url` is HOST:PORT of gRPC, or a URL of the schemes grpc, grpcs, http and https. `timeout` is seconds
    for a whole call, retries included. A call is retried only when the server was UNAVAILABLE (not there,
    stopping, or its queue full), at most `retries` times. `headers` go with every call. `shared_memory`
    carries large inputs to a server on the same host: None where it pays and is let; True, or NotAllowed or
    ServerError. `admin_key` is what a restricted server wants for its index, shared memory and settings.

    A process that is forked has, in its copy of a client, one with a connection, threads and shared memory of its
    own; closing it leaves the parent's alone. An iterator of `classify_many` that the parent began raises Forked
    there. Where gRPC was loaded before the fork, calls by gRPC go through a further process, which gRPC needs then.
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

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        own = self._held.get()
        own.calls.cancel()
        self._closed = True
        own.close(lambda: self._steps(own.flows.close(), own, Calls()))

    def ready(self, model: str | None = None) -> bool:
        """Whether the server, or one model, can be asked. Raises ClientError if it says neither yes nor no."""
        return self._run(lambda flows: flows.ready(model))

    def models(self) -> list[ModelInfo]:
        """All models that are ready, by name."""
        return self._run(lambda flows: flows.models())

    def model(self, name: str) -> ModelInfo:
        """What one model takes and gives. Raises ModelNotFound."""
        return self._run(lambda flows: flows.model(name))

    def classifier(self, name: str | None = None) -> ModelInfo:
        """The named image classifier; without a name, the only one there is. Raises ModelNotFound."""
        return self.chosen("classification", name)

    def chosen(self, task: str, name: str | None = None) -> ModelInfo:
        """The named model, if it can be asked so; without a name, the only one for the task. Raises ModelNotFound."""
        return self._run(lambda flows: flows.chosen(task, name))

    def statistics(self, model: str | None = None) -> list[ModelStatistics]:
        """Counters since the server started, of one model or of all."""
        return self._run(lambda flows: flows.statistics(model))

    def ask(self, request: Any, model: str | None = None) -> Any:
        """The answer to a request of any task, such as `client.tasks.classification.Request`. Raises ClientError."""
        return self._run(lambda flows: flows.ask(request, model))

    def infer(
        self, model: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None, split: bool = False
    ) -> dict[str, Array]:
        """Any model's outputs by name, all or those chosen, for inputs by name. Raises ClientError.

        Inputs are arrays, or lists of numbers that the model's type holds exactly. Names, types, shapes and the batch
        size are held to what `model()` tells: InvalidInput is raised before anything is sent. `split` asks for more
        rows than the model's largest batch in parts, each within the timeout.
        """
        request = tensors.Request(inputs, outputs, split)
        found: dict[str, Array] = self._run(lambda flows: flows.ask_anew(request, model))
        return found

    def ask_each(
        self,
        files: Iterable[AnyImage],
        make: Make,
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Generator[Outcome[AnyImage], None, None]:
        """As `classify_many`, for any task of files or texts: `make` gives the task's request for some of them."""
        info = self._run(lambda flows: flows.chosen_for(make([]), model))
        calls = Calls()

        def outcomes(group: Sequence[AnyImage]) -> list[Outcome[AnyImage]]:
            return self._run(lambda flows: flows.ask_each(group, make, info.name), calls)

        def generate() -> Generator[Outcome[AnyImage], None, None]:
            groups, own = grouped(files, info.batch(batch_size)), self._held.get()
            own.streams.add(calls)
            try:
                with closing(map_bounded(outcomes, groups, concurrency, calls.cancel)) as found:
                    for group in found:
                        yield from group
            finally:
                own.streams.discard(calls)

        return generate()

    def cancel(self) -> None:
        """End the calls that other threads wait for; they raise Cancelled."""
        own = self._held.get()
        calls, own.calls = own.calls, Calls()
        for one in (calls, *own.streams):
            one.cancel()

    def _run(self, flow: Callable[[Flows], Flow[Result]], calls: Calls | None = None) -> Result:
        own = self._held.get()
        if self._closed:
            raise Cancelled("the client was closed")
        return self._steps(flow(own.flows), own, calls or own.calls)

    def _steps(self, flow: Flow[Result], own: Own, calls: Calls) -> Result:
        try:
            step = next(flow)
            while True:
                try:
                    answer = own.take(step, calls)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            flow.close()


class Own:
    """What one process has of a client. It connects at the first call."""

    def __init__(self, place: Endpoint, flows: Flows) -> None:
        self.flows, self.calls = flows, Calls()
        self.streams: set[Calls] = set()
        """Those of `classify_many`."""
        self._endpoint = place
        self._lock = threading.Lock()
        self._connected: Transport | None = None

    def take(self, step: Step, calls: Calls) -> Any:
        if isinstance(step, Send):
            return calls.result(self._transport().start(step.call, step.seconds))
        if isinstance(step, Pause):
            return calls.pause(step.seconds)
        return read_within(step.item, step.most)

    def _transport(self) -> Transport:
        with self._lock:
            if self._connected is None:
                self._connected = KINDS[self._endpoint.scheme].connect(self._endpoint)
            return self._connected

    def close(self, farewell: Callable[[], None]) -> None:
        """`farewell` is what the server is told before."""
        if self._connected:
            farewell()
            self._connected.close()


class Calls:
    """Calls in flight that can be ended together; those that come later end at once."""

    def __init__(self) -> None:
        self._futures: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def result(self, future: Future[Any]) -> Any:
        with self._lock:
            self._futures.add(future)
        if self._cancelled.is_set():
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            raise Cancelled("the call was cancelled") from None
        finally:
            future.cancel()  # on Ctrl-C, while it was waited for
            with self._lock:
                self._futures.discard(future)

    def pause(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise Cancelled("the call was cancelled")

    def cancel(self) -> None:
        self._cancelled.set()
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()


def map_bounded(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    concurrency: int,
    cancel: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Ordered results of `function` on threads, with at most 2 * `concurrency` items taken ahead.

    `cancel` is called when the rest is no longer wanted.
    """
    if concurrency < 1:
        raise ValueError("concurrency must be at least 1")
    owner, pool = here(), ThreadPoolExecutor(concurrency)
    pending: deque[Future[Result]] = deque()

    def first() -> Result:
        return pending.popleft().result()

    try:
        for item in items:
            refuse_copy(owner, THIS)
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * concurrency:
                yield first()
                refuse_copy(owner, THIS)
        while pending:
            yield first()
            refuse_copy(owner, THIS)
    finally:
        if here() == owner:  # a child has none of the threads, and perhaps their locks
            for future in pending:
                future.cancel()
            cancel()
            pool.shutdown()
