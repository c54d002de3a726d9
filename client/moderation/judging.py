"""What the server thinks of a file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.errors import ClientError, DeadlineExceeded, InvalidInput, ServerError
from client.images import read_image
from client.moderation.rules import Rules, resolve
from client.moderation.watch import Found, look

if TYPE_CHECKING:
    from client.client import Client
    from client.types import ModelInfo

# An image that fails the server, or keeps it busy past the deadline, so often is not the server's fault.
ATTEMPTS = 3


@dataclass(frozen=True)
class Verdict:
    """`forbidden`, `clean`, or `unjudged` with the reason; `changed` if it has to be looked at again."""

    found: Found
    kind: str
    sha256: str = ""
    score: float = 0.0
    class_id: int | None = None
    label: str = ""
    reason: str = ""


class Outage(Exception):
    """The server cannot be asked now; says nothing about the file."""


class Judge:
    """Holds the rules as classes of the model that is served now."""

    def __init__(self, client: Client, model: str | None, forbidden: Sequence[str], threshold: float) -> None:
        self._client, self._name = client, model
        self._forbidden, self._threshold = forbidden, threshold
        self._model: ModelInfo | None = None
        self._rules = Rules({}, threshold)
        self._failures: dict[tuple[int, int, int], int] = {}

    @property
    def model(self) -> str:
        return self._model.name if self._model else ""

    @property
    def version(self) -> str:
        return ",".join(self._model.versions) if self._model else ""

    def prepare(self) -> None:
        """Look up what the forbidden classes are in the versions that are served. Raises ClientError."""
        current = self._client.classifier(self._model.name if self._model else self._name)
        if self._model is not None and self._client.model(current.name) == self._model:
            return
        count = current.outputs[0].shape[-1]
        answers = self._client.classify(_gray_picture(), current.name, max(count, 1))
        self._rules = resolve(self._forbidden, {answer.class_id: answer.label for answer in answers}, self._threshold)
        self._model = self._client.model(current.name)

    def judge(self, found: Found) -> Verdict:
        """Raises Outage."""
        assert self._model is not None  # prepare() was called
        try:
            data = read_image(found.path)
        except InvalidInput as error:
            return Verdict(found, "unjudged", reason=str(error)) if look(found.path) else Verdict(found, "changed")
        if look(found.path) != found or len(data) != found.size:
            return Verdict(found, "changed")
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            probabilities = self._client.probabilities([data], self._model.name)[0].tolist()
        except InvalidInput as error:
            return Verdict(found, "unjudged", sha256, reason=str(error))
        except ClientError as error:
            return self._failed(found, sha256, error)
        worst = self._rules.worst(probabilities)
        score = self._rules.score(probabilities)
        kind = "forbidden" if score >= self._threshold else "clean"
        return Verdict(found, kind, sha256, score, worst, self._rules.classes[worst])

    def _failed(self, found: Found, sha256: str, error: ClientError) -> Verdict:
        if isinstance(error, ServerError | DeadlineExceeded) and self._client.ready():
            failures = self._failures[found.identity] = self._failures.get(found.identity, 0) + 1
            if failures >= ATTEMPTS:
                del self._failures[found.identity]
                return Verdict(found, "unjudged", sha256, reason=f"failed {ATTEMPTS} times: {error}")
        raise Outage(str(error)) from None


def _gray_picture() -> bytes:
    """Something to classify, to be told all classes with their labels."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(file, "PNG")
    return file.getvalue()
