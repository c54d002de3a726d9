"""What either client is asked by, whatever the task; `Client` and `AsyncClient` say how it is sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from typing import Any

from client.flows import Make
from client.types import AnyImage, Outcome


class Asks(ABC):
    @abstractmethod
    def ask(self, request: Any, model: str | None = None) -> Any:
        """The answer to one request of a task. Raises ClientError."""

    @abstractmethod
    def ask_each(
        self,
        files: Iterable[AnyImage],
        make: Make,
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> Generator[Outcome[AnyImage], None, None]:
        """The answers to files or texts, as they come."""


class AsyncAsks(ABC):
    @abstractmethod
    async def ask(self, request: Any, model: str | None = None) -> Any:
        """The answer to one request of a task. Raises ClientError."""

    @abstractmethod
    def ask_each(
        self,
        files: Iterable[AnyImage] | AsyncIterable[AnyImage],
        make: Make,
        model: str | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
    ) -> AsyncGenerator[Outcome[AnyImage], None]:
        """The answers to files or texts, as they come."""
