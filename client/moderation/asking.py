"""How each kind of model is asked whether a picture is forbidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from client import tasks
from client.errors import ModelNotFound
from client.images import gray_picture
from client.moderation.rules import Decision, Objects, Rules, resolve, resolve_objects
from client.tasks import classification, detection, encoded

if TYPE_CHECKING:
    from client.client import Client
    from client.types import ModelInfo


class Kind(Protocol):
    def prepare(self, client: Client, info: ModelInfo, forbidden: Sequence[str], threshold: float) -> None:
        """Look up what is forbidden among the model's classes. Raises ClientError."""

    def ask(self, client: Client, data: bytes, model: str) -> Any:
        """The answer for one picture. Raises ClientError."""

    def decide(self, answer: Any) -> Decision: ...


class Classes:
    def __init__(self) -> None:
        self._rules = Rules({}, 0.0)

    def prepare(self, client: Client, info: ModelInfo, forbidden: Sequence[str], threshold: float) -> None:
        choice, several = classification.every_class(info), classification.gives_several(info)
        answers = client.classify(gray_picture(), info.name, choice.top, choice.threshold)
        labels = {answer.class_id: answer.label for answer in answers}
        self._rules = resolve(forbidden, labels, threshold, several)

    def ask(self, client: Client, data: bytes, model: str) -> Any:
        return client.probabilities([data], model)[0].tolist()

    def decide(self, answer: Any) -> Decision:
        return self._rules.decide(answer)


class Found:
    def __init__(self) -> None:
        self._rules = Objects({})

    def prepare(self, client: Client, info: ModelInfo, forbidden: Sequence[str], threshold: float) -> None:
        client.detect(gray_picture(), info.name)
        self._rules = resolve_objects(forbidden, encoded.labels(info), threshold)

    def ask(self, client: Client, data: bytes, model: str) -> Any:
        return client.detect(data, model)

    def decide(self, answer: Any) -> Decision:
        return self._rules.decide(answer)


KINDS: dict[str, type[Classes] | type[Found]] = {classification.NAME: Classes, detection.NAME: Found}


def chosen(client: Client, name: str | None) -> tuple[str, ModelInfo]:
    """The task and the model: a classifier; a detector where it is named, or where there is no classifier."""
    try:
        return classification.NAME, client.classifier(name)
    except ModelNotFound as refusal:
        if name is None and any(tasks.is_for(classification.NAME, model) for model in client.models()):
            raise  # which of them, is for the user to say
        try:
            return detection.NAME, client.chosen(detection.NAME, name)
        except ModelNotFound:
            raise refusal from None
