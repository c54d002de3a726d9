"""Images to predictions, for threads. Knows the KServe v2 protocol and nothing of how models are built."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from client import endpoint
from client.endpoint import DEFAULT_URL
from client.errors import Cancelled, ClientError
from client.flows import Flow, Flows, Pause, Send, Step
from client.images import grouped, read_image
from client.transports import KINDS
from client.types import AnyImage, Classified, Image, ModelInfo, ModelStatistics, Prediction, Tls

if TYPE_CHECKING:
    from client.types import Array

Item = TypeVar("Item")
Result = TypeVar("Result")


class Client:
    """A connection to a Triton server. Threads may share one; `with` closes it.

    `url` is HOST:PORT of gRPC, or a URL of the schemes grpc, grpcs, http and https. `timeout` is seconds
    for a whole call, retries included. A call is retried only when the server was UNAVAILABLE (not there,
    stopping, or its queue full), at most `retries` times. `headers` go with every call. `shared_memory`
    carries large inputs to a server on the same host: None where it pays and is let; True, or NotAllowed or
    ServerError. `admin_key` is what a restricted server wants for its index, shared memory and settings.
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
        self._transport = KINDS[self.endpoint.scheme].connect(self.endpoint)
        self._calls = Calls()
        self._streams: set[Calls] = set()
        """Those of `classify_many`."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._calls.cancel()
        self._run(self._flows.close(), Calls())
        self._transport.close()

    def ready(self, model: str | None = None) -> bool:
        """Whether the server, or one model, can be asked. Raises ClientError if it says neither yes nor no."""
        return self._run(self._flows.ready(model))

    def models(self) -> list[ModelInfo]:
        """All models that are ready, by name."""
        return self._run(self._flows.models())

    def model(self, name: str) -> ModelInfo:
        """What one model takes and gives. Raises ModelNotFound."""
        return self._run(self._flows.model(name))

    def classifier(self, name: str | None = None) -> ModelInfo:
        """The named image classifier; without a name, the only one there is. Raises ModelNotFound."""
        return self._run(self._flows.classifier(name))

    def statistics(self, model: str | None = None) -> list[ModelStatistics]:
        """Counters since the server started, of one model or of all."""
        return self._run(self._flows.statistics(model))

    def classify(self, image: Image, model: str | None = None, top: int = 5) -> tuple[Prediction, ...]:
        """The `top` most probable classes of one image, the best first. Raises ClientError."""
        return self._run(self._flows.classify(image, model, top))

    def classify_batch(
        self, images: Sequence[Image], model: str | None = None, top: int = 5
    ) -> list[tuple[Prediction, ...]]:
        """As `classify`, for several images in one request; one bad image fails them all."""
        return self._run(self._flows.classify_batch(images, model, top))

    def probabilities(self, images: Sequence[Image], model: str | None = None) -> Array:
        """float32 [images, classes], unrounded, in one request. Raises ClientError."""
        return self._run(self._flows.probabilities(images, model))

    def infer(self, model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Any model's outputs by name, for inputs by name, of the dtypes and shapes that `model()` tells."""
        return self._run(self._flows.infer(model, inputs))

    def classify_many(
        self,
        images: Iterable[AnyImage],
        model: str | None = None,
        top: int = 5,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Iterator[Classified[AnyImage]]:
        """Outcomes in the order of `images`, which may be endless: few are held at a time.

        `concurrency` requests are in flight, of `batch_size` images each, or fewer if the model takes fewer. An
        image that is refused is an outcome with an error; so is one that the server could not answer. Raises
        ClientError only if the model cannot be found at all. Closing the iterator cancels what is in flight.
        """
        info = self.classifier(model)
        calls = Calls()

        def outcomes(group: Sequence[AnyImage]) -> list[Classified[AnyImage]]:
            return self._run(self._flows.classify_each(group, info.name, top), calls)

        def generate() -> Iterator[Classified[AnyImage]]:
            groups = grouped(images, info.batch(batch_size))
            self._streams.add(calls)
            try:
                with closing(map_bounded(outcomes, groups, concurrency, calls.cancel)) as found:
                    for group in found:
                        yield from group
            finally:
                self._streams.discard(calls)

        return generate()

    def cancel(self) -> None:
        """End the calls that other threads wait for; they raise Cancelled."""
        calls, self._calls = self._calls, Calls()
        for one in (calls, *self._streams):
            one.cancel()

    def _run(self, flow: Flow[Result], calls: Calls | None = None) -> Result:
        calls = calls or self._calls
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._take(step, calls)
                except ClientError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            flow.close()

    def _take(self, step: Step, calls: Calls) -> Any:
        if isinstance(step, Send):
            return calls.result(self._transport.start(step.call, step.seconds))
        if isinstance(step, Pause):
            return calls.pause(step.seconds)
        return read_image(step.image)


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
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * concurrency:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            cancel()
