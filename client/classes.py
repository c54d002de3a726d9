"""What both clients are asked about classes; `Client` and `AsyncClient` say how it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, overload

from client.asks import Asks, AsyncAsks
from client.tasks import classification
from client.tasks.text import classes
from client.types import AnyImage, Classified, Image, Prediction, Texts

if TYPE_CHECKING:
    from client.types import Array


class Classes(Asks):
    @overload
    def classify(
        self, image: Image, model: str | None = None, top: int | None = None, threshold: float | None = None
    ) -> tuple[Prediction, ...]: ...

    @overload
    def classify(
        self, image: Texts, model: str | None = None, top: int | None = None, threshold: float | None = None
    ) -> list[tuple[Prediction, ...]]: ...

    def classify(
        self, image: Image | Texts, model: str | None = None, top: int | None = None, threshold: float | None = None
    ) -> tuple[Prediction, ...] | list[tuple[Prediction, ...]]:
        """The most probable classes of one image, the best first; of a list or tuple of texts, those of each.

        They are the `top` best (5), and, where a threshold is given, only those at least so probable. A model with
        several labels at once (sigmoid) gives all at or above the threshold (0.5), at most `top` where that is given.
        Texts beyond the model's largest batch are sent in several requests, each within the timeout; one bad text
        fails them all, and its error says which one it is. Raises ClientError.
        """
        if isinstance(image, (list, tuple)):
            found: list[tuple[Prediction, ...]] = self.ask(classes.making(top, threshold)(image), model)
            return found
        return self.classify_batch([image], model, top, threshold)[0]

    def classify_batch(
        self,
        images: Sequence[Image],
        model: str | None = None,
        top: int | None = None,
        threshold: float | None = None,
    ) -> list[tuple[Prediction, ...]]:
        """As `classify`, for several images in one request; one bad image fails them all."""
        found: list[tuple[Prediction, ...]] = self.ask(classification.request(images, top, threshold), model)
        return found

    def probabilities(self, images: Sequence[Image], model: str | None = None) -> Array:
        """float32 [images, classes], unrounded, in one request. Raises ClientError."""
        found: Array = self.ask(classification.Request(images, None), model)
        return found

    def classify_many(
        self,
        images: Iterable[AnyImage],
        model: str | None = None,
        top: int | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
        threshold: float | None = None,
    ) -> Iterator[Classified[AnyImage]]:
        """Outcomes in the order of `images`, which may be endless: few are held at a time.

        `concurrency` requests are in flight, of `batch_size` images each, or fewer if the model takes fewer. An
        image that is refused is an outcome with an error; so is one that the server could not answer. Raises
        ClientError only if the model cannot be found at all, or takes no such request. Closing the iterator cancels
        what is in flight.
        """
        outcomes = self.ask_each(images, classification.making(top, threshold), model, concurrency, batch_size)

        def generate() -> Iterator[Classified[AnyImage]]:
            with closing(outcomes):
                yield from map(classification.classified, outcomes)

        return generate()


class AsyncClasses(AsyncAsks):
    """The names and arguments are those of `Classes`."""

    @overload
    async def classify(
        self, image: Image, model: str | None = None, top: int | None = None, threshold: float | None = None
    ) -> tuple[Prediction, ...]: ...

    @overload
    async def classify(
        self, image: Texts, model: str | None = None, top: int | None = None, threshold: float | None = None
    ) -> list[tuple[Prediction, ...]]: ...

    async def classify(
        self, image: Image | Texts, model: str | None = None, top: int | None = None, threshold: float | None = None
    ) -> tuple[Prediction, ...] | list[tuple[Prediction, ...]]:
        if isinstance(image, (list, tuple)):
            found: list[tuple[Prediction, ...]] = await self.ask(classes.making(top, threshold)(image), model)
            return found
        return (await self.classify_batch([image], model, top, threshold))[0]

    async def classify_batch(
        self,
        images: Sequence[Image],
        model: str | None = None,
        top: int | None = None,
        threshold: float | None = None,
    ) -> list[tuple[Prediction, ...]]:
        found: list[tuple[Prediction, ...]] = await self.ask(classification.request(images, top, threshold), model)
        return found

    async def probabilities(self, images: Sequence[Image], model: str | None = None) -> Array:
        found: Array = await self.ask(classification.Request(images, None), model)
        return found

    async def classify_many(
        self,
        images: Iterable[AnyImage] | AsyncIterable[AnyImage],
        model: str | None = None,
        top: int | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
        threshold: float | None = None,
    ) -> AsyncGenerator[Classified[AnyImage], None]:
        """As Client.classify_many; `aclose` cancels what is in flight."""
        outcomes = self.ask_each(images, classification.making(top, threshold), model, concurrency, batch_size)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield classification.classified(outcome)
