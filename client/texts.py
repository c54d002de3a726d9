"""Texts by the thousand, as both clients are asked about them; lists of them are for `embed` and `classify`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, closing

from client.asks import Asks, AsyncAsks
from client.errors import InvalidInput
from client.flows import Make
from client.tasks.text import classes, vectors
from client.types import Outcome, Text, TextOutcome

Given = Iterable[str | bytes]
AsyncGiven = AsyncIterable[str | bytes]


class Texts(Asks):
    def embed_texts_many(
        self, texts: Given, model: str | None = None, concurrency: int = 8, batch_size: int = 8
    ) -> Generator[TextOutcome, None, None]:
        """Outcomes in the order of `texts`, which may be endless: few are held at a time.

        An outcome's `answer` is the text's vector, float32 [D]. `concurrency` requests are in flight, of `batch_size`
        texts each, or fewer if the model takes fewer. A text that is refused is an outcome with an error. Raises
        ClientError only if the model cannot be found at all. Closing the iterator cancels what is in flight.
        """
        return self._each(texts, vectors.Request, model, concurrency, batch_size)

    def classify_texts_many(
        self,
        texts: Given,
        model: str | None = None,
        top: int | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
        threshold: float | None = None,
    ) -> Generator[TextOutcome, None, None]:
        """As `embed_texts_many`; an outcome's `answer` is the text's predictions, as `classify` gives them."""
        return self._each(texts, classes.making(top, threshold), model, concurrency, batch_size)

    def _each(
        self, texts: Given, make: Make, model: str | None, concurrency: int, batch_size: int
    ) -> Generator[TextOutcome, None, None]:
        _refuse_one(texts)
        outcomes = self.ask_each(_numbered(texts), make, model, concurrency, batch_size)

        def generate() -> Generator[TextOutcome, None, None]:
            with closing(outcomes):
                yield from map(_told, outcomes)

        return generate()


class AsyncTexts(AsyncAsks):
    """The names and arguments are those of `Texts`."""

    def embed_texts_many(
        self, texts: Given | AsyncGiven, model: str | None = None, concurrency: int = 8, batch_size: int = 8
    ) -> AsyncGenerator[TextOutcome, None]:
        return self._each(texts, vectors.Request, model, concurrency, batch_size)

    def classify_texts_many(
        self,
        texts: Given | AsyncGiven,
        model: str | None = None,
        top: int | None = None,
        concurrency: int = 8,
        batch_size: int = 8,
        threshold: float | None = None,
    ) -> AsyncGenerator[TextOutcome, None]:
        return self._each(texts, classes.making(top, threshold), model, concurrency, batch_size)

    async def _each(
        self, texts: Given | AsyncGiven, make: Make, model: str | None, concurrency: int, batch_size: int
    ) -> AsyncGenerator[TextOutcome, None]:
        """`aclose` cancels what is in flight."""
        _refuse_one(texts)
        items = _numbered_async(texts) if isinstance(texts, AsyncIterable) else _numbered(texts)
        outcomes = self.ask_each(items, make, model, concurrency, batch_size)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield _told(outcome)


def _refuse_one(texts: object) -> None:
    if isinstance(texts, (str, bytes)):
        raise InvalidInput("a single text is not many; give a list, or any iterable, of texts")


def _numbered(texts: Given) -> Iterator[Text]:
    return (Text(text, f"texts[{number}]") for number, text in enumerate(texts))


async def _numbered_async(texts: AsyncGiven) -> AsyncIterator[Text]:
    number = 0
    async for text in texts:
        yield Text(text, f"texts[{number}]")
        number += 1


def _told(outcome: Outcome[Text]) -> TextOutcome:
    return TextOutcome(outcome.image.content, outcome.answer, outcome.error)
