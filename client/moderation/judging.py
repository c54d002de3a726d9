"""What the server thinks of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client import files
from client.errors import ClientError, DeadlineExceeded, InvalidInput, ServerError, ServerUnavailable
from client.formats import HEAD_BYTES, named
from client.images import gray_picture
from client.moderation.asking import KINDS, Kind, chosen
from client.moderation.watch import Found, look, seen
from client.sizes import refuse_beyond

if TYPE_CHECKING:
    from client.client import Client
    from client.types import ModelInfo

# A file that fails so often, asked about alone and after the server had answered for another, is itself to blame.
ATTEMPTS = 3


@dataclass(frozen=True)
class Verdict:
    """`forbidden`, `clean`, or `unjudged` with the reason; `changed` and `suspect` have to be looked at again."""

    found: Found
    kind: str
    sha256: str = ""
    score: float = 0.0
    class_id: int | None = None
    label: str = ""
    reason: str = ""
    harmful: bool = False
    """Whether it cost the server a worker, or the time of a whole call, again and again: never let through."""


class Outage(Exception):
    """The server cannot be asked now; says nothing about the file."""


class Judge:
    """Holds the rules as classes of the model that is served now."""

    def __init__(self, client: Client, model: str | None, forbidden: Sequence[str], threshold: float) -> None:
        self._client, self._name = client, model
        self._forbidden, self._threshold = forbidden, threshold
        self._model: ModelInfo | None = None
        self._kind: Kind | None = None
        self._failures: dict[tuple[int, ...], int] = {}
        """Of suspects: files that failed, whether through their own fault or not."""

    @property
    def model(self) -> str:
        return self._model.name if self._model else ""

    @property
    def version(self) -> str:
        return ",".join(self._model.versions) if self._model else ""

    def prepare(self) -> None:
        """Look up what the forbidden classes are in the versions that are served. Raises ClientError."""
        task, current = chosen(self._client, self._model.name if self._model else self._name)
        if self._model is not None and self._client.model(current.name) == self._model:
            return
        current = self._client.model(current.name)  # that which was chosen may have been told long ago
        kind: Kind = KINDS[task]()
        kind.prepare(self._client, current, self._forbidden, self._threshold)
        self._kind, self._model = kind, self._client.model(current.name)

    def judge(self, found: Found, touched: bool = False) -> Verdict:
        """Suspects are for `judge_alone`. Raises Outage.

        `touched` is of one that is not left alone: its times may change meanwhile, as long as inode and size do not.
        """
        if _identity(found, touched) in self._failures:
            return Verdict(found, "suspect")
        return self._judged(found, touched, alone=False)

    def judge_alone(self, found: Found, touched: bool = False) -> Verdict:
        """A suspect, with nothing else in flight, so that what happens to the server is its doing. Raises Outage."""
        self._raise_if_away()
        return self._judged(found, touched, alone=True)

    def _judged(self, found: Found, touched: bool, alone: bool) -> Verdict:
        assert self._model is not None  # prepare() was called
        assert self._kind is not None
        changed = Verdict(found, "changed")
        try:
            if self._model.max_image_bytes is not None:
                refuse_beyond(self._model.max_image_bytes, found.size, found.path)
            data = _read(found, touched)
        except InvalidInput as error:
            return Verdict(found, "unjudged", reason=_without(found.path, error)) if look(found.path) else changed
        if data is None:
            return changed
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            answer = self._kind.ask(self._client, data, self._model.name)
        except InvalidInput as error:
            self._raise_if_away()  # a server that refuses every image says nothing about this one
            return Verdict(found, "unjudged", sha256, reason=named(str(error), data[:HEAD_BYTES]))
        except ClientError as error:
            return self._failed(found, sha256, error, _identity(found, touched), alone)
        self._failures.pop(_identity(found, touched), None)
        told = self._kind.decide(answer)
        kind = "forbidden" if told.is_forbidden else "clean"
        return Verdict(found, kind, sha256, told.score, told.class_id, told.label)

    def _failed(self, found: Found, sha256: str, error: ClientError, identity: tuple[int, ...], alone: bool) -> Verdict:
        harmful = isinstance(error, DeadlineExceeded) or (isinstance(error, ServerUnavailable) and error.gone)
        if not harmful and not isinstance(error, ServerError):
            raise Outage(str(error)) from None
        failures = self._failures[identity] = self._failures.get(identity, 0) + alone
        if failures >= ATTEMPTS:
            del self._failures[identity]
            return Verdict(found, "unjudged", sha256, reason=f"failed {ATTEMPTS} times: {error}", harmful=harmful)
        if isinstance(error, ServerError):
            return Verdict(found, "suspect")
        raise Outage(str(error)) from None

    def _raise_if_away(self) -> None:
        """Unless it answers for a picture that was answered for before."""
        assert self._model is not None
        assert self._kind is not None
        try:
            self._kind.ask(self._client, gray_picture(), self._model.name)
        except ClientError as error:
            raise Outage(str(error)) from None


def _identity(found: Found, touched: bool) -> tuple[int, ...]:
    return found.identity[:2] if touched else found.identity


def _read(found: Found, touched: bool) -> bytes | None:
    """What is in this very file; None if it changes meanwhile, or is another. Raises UnreadableFile.

    Of one that is touched it may be a mixture of two contents; no move is made but of what has the same digest.
    """
    path = str(found.path)
    with files.opened(path, follow=False) as descriptor:
        before = seen(found.path, os.fstat(descriptor))
        data = files.content(descriptor, path)
        after = seen(found.path, os.fstat(descriptor))
    states = (before, after, look(found.path))
    is_same = all(found.is_same_but_for_times(state) if touched else found == state for state in states)
    return data if is_same and len(data) == found.size else None


def _without(path: Path, error: InvalidInput) -> str:
    """The reason alone: the record has the path."""
    return str(error).removeprefix(f"{path}: ")
