"""What both clients are asked about pictures beside their classes; `Client` and `AsyncClient` say how it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, overload

from client.asks import Asks, AsyncAsks
from client.tasks import detection, embedding, segmentation
from client.tasks.text import vectors
from client.types import AnyImage, Detection, Image, Outcome, Segmentation, Texts

if TYPE_CHECKING:
    from client.types import Array


class Pictures(Asks):
    def detect(self, image: Image, model: str | None = None, threshold: float | None = None) -> tuple[Detection, ...]:
        """The objects on one image, the surest first. Raises ClientError.

        `threshold` leaves out those with a lower score; those below the model's own are not given in any case.
        """
        return self.detect_batch([image], model, threshold)[0]

    def detect_batch(
        self, images: Sequence[Image], model: str | None = None, threshold: float | None = None
    ) -> list[tuple[Detection, ...]]:
        """As `detect`, for several images in one request; one bad image fails them all."""
        found: list[tuple[Detection, ...]] = self.ask(detection.Request(images, threshold), model)
        return found

    def detect_many(
        self,
        images: Iterable[AnyImage],
        model: str | None = None,
        threshold: float | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Generator[Outcome[AnyImage], None, None]:
        """As `classify_many`; an outcome's `answer` is what `detect` gives."""
        return self.ask_each(images, detection.making(threshold), model, concurrency, batch_size)

    def segment(self, image: Image, model: str | None = None) -> Segmentation:
        """The class of each of one image's pixels. Raises ClientError."""
        return self.segment_batch([image], model)[0]

    def segment_batch(self, images: Sequence[Image], model: str | None = None) -> list[Segmentation]:
        """As `segment`, for several; where masks are as large as their images, one request each."""
        found: list[Segmentation] = self.ask(segmentation.Request(images), model)
        return found

    def segment_many(
        self,
        images: Iterable[AnyImage],
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Generator[Outcome[AnyImage], None, None]:
        """As `classify_many`; an outcome's `answer` is what `segment` gives."""
        return self.ask_each(images, segmentation.Request, model, concurrency, batch_size)

    @overload
    def embed(self, image: Image, model: str | None = None) -> Array: ...

    @overload
    def embed(self, image: Texts, model: str | None = None) -> list[Array]: ...

    def embed(self, image: Image | Texts, model: str | None = None) -> Array | list[Array]:
        """One image as a vector, float32 [D]; of a list or tuple of texts, a vector for each. Raises ClientError.

        Texts beyond the model's largest batch are sent in several requests, each within the timeout; one bad text
        fails them all, and its error says which one it is.
        """
        if isinstance(image, (list, tuple)):
            found: list[Array] = self.ask(vectors.Request(image), model)
            return found
        return self.embed_batch([image], model)[0]

    def embed_batch(self, images: Sequence[Image], model: str | None = None) -> list[Array]:
        """As `embed`, for several images in one request; one bad image fails them all."""
        found: list[Array] = self.ask(embedding.Request(images), model)
        return found

    def embed_many(
        self,
        images: Iterable[AnyImage],
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Generator[Outcome[AnyImage], None, None]:
        """As `classify_many`; an outcome's `answer` is what `embed` gives."""
        return self.ask_each(images, embedding.Request, model, concurrency, batch_size)


class AsyncPictures(AsyncAsks):
    """The names and arguments are those of `Pictures`."""

    async def detect(
        self, image: Image, model: str | None = None, threshold: float | None = None
    ) -> tuple[Detection, ...]:
        return (await self.detect_batch([image], model, threshold))[0]

    async def detect_batch(
        self, images: Sequence[Image], model: str | None = None, threshold: float | None = None
    ) -> list[tuple[Detection, ...]]:
        found: list[tuple[Detection, ...]] = await self.ask(detection.Request(images, threshold), model)
        return found

    def detect_many(
        self,
        images: Iterable[AnyImage] | AsyncIterable[AnyImage],
        model: str | None = None,
        threshold: float | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Outcome[AnyImage], None]:
        return self.ask_each(images, detection.making(threshold), model, concurrency, batch_size)

    async def segment(self, image: Image, model: str | None = None) -> Segmentation:
        return (await self.segment_batch([image], model))[0]

    async def segment_batch(self, images: Sequence[Image], model: str | None = None) -> list[Segmentation]:
        found: list[Segmentation] = await self.ask(segmentation.Request(images), model)
        return found

    def segment_many(
        self,
        images: Iterable[AnyImage] | AsyncIterable[AnyImage],
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Outcome[AnyImage], None]:
        return self.ask_each(images, segmentation.Request, model, concurrency, batch_size)

    @overload
    async def embed(self, image: Image, model: str | None = None) -> Array: ...

    @overload
    async def embed(self, image: Texts, model: str | None = None) -> list[Array]: ...

    async def embed(self, image: Image | Texts, model: str | None = None) -> Array | list[Array]:
        if isinstance(image, (list, tuple)):
            found: list[Array] = await self.ask(vectors.Request(image), model)
            return found
        return (await self.embed_batch([image], model))[0]

    async def embed_batch(self, images: Sequence[Image], model: str | None = None) -> list[Array]:
        found: list[Array] = await self.ask(embedding.Request(images), model)
        return found

    def embed_many(
        self,
        images: Iterable[AnyImage] | AsyncIterable[AnyImage],
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Outcome[AnyImage], None]:
        return self.ask_each(images, embedding.Request, model, concurrency, batch_size)
