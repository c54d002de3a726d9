"""What both clients are asked about pictures beside their classes; `Client` and `AsyncClient` say how it is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Sequence
from typing import Any

from client.flows import Make
from client.tasks import detection, segmentation
from client.types import AnyImage, Detection, Image, Outcome, Segmentation


class Pictures:
    def ask(self, request: Any, model: str | None = None) -> Any:
        raise NotImplementedError

    def ask_each(
        self,
        files: Iterable[AnyImage],
        make: Make,
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Generator[Outcome[AnyImage], None, None]:
        raise NotImplementedError

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


class AsyncPictures:
    """The names and arguments are those of `Pictures`."""

    async def ask(self, request: Any, model: str | None = None) -> Any:
        raise NotImplementedError

    def ask_each(
        self,
        files: Iterable[AnyImage] | AsyncIterable[AnyImage],
        make: Make,
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Outcome[AnyImage], None]:
        raise NotImplementedError

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
