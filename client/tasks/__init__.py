"""What models are for, and how each kind is asked. A task is a module with the functions of `Task`.

A model says its task in its config. What passes the wire is Triton's named tensors, whatever the task: a request
becomes inferences, and their answers what the caller wants to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from client.errors import InvalidInput
from client.tasks import classification, detection, embedding, segmentation, tensors
from client.tasks.exchange import Columns, Exchange
from client.tasks.text import classes, vectors
from client.types import Inference, Item, ModelInfo


class Task(Protocol):
    PLURAL: str
    """What its models are called."""
    NAME: str
    """What their configs call the task; those of texts have several ways to be asked."""
    BY_VERSION: bool
    """Whether `decode` goes by what the config of the version that answered says, such as names of classes."""

    def takes(self, request: Any) -> bool:
        """Whether it is a request of this task."""

    def recognises(self, info: ModelInfo) -> bool:
        """Whether a model whose config does not say its task is of this one, as those built before it was said."""

    def refusal(self, info: ModelInfo) -> str:
        """Why a model cannot be asked so, whatever it says; empty where it can."""

    def check(self, info: ModelInfo, request: Any) -> None:
        """Raises InvalidOption for what no such request may say, whatever its files or texts hold."""

    def files(self, request: Any) -> Sequence[Item]:
        """What of a request is to be read before it is encoded: files, and texts."""

    def encode(self, info: ModelInfo, request: Any, contents: Sequence[bytes]) -> Sequence[Inference]:
        """What is sent, one after the other; `contents` are those of `files`. Raises InvalidInput."""

    def decode(self, info: ModelInfo, request: Any, exchanges: Sequence[Exchange]) -> Any:
        """The answer. Where a request is of files, it is a list with one item a file."""

    def columns(self, info: ModelInfo, request: Any) -> Columns:
        """How answers to such requests are kept in tables and JSON."""


TASKS: dict[str, Task] = {
    "classification": classification,
    "detection": detection,
    "segmentation": segmentation,
    "embedding": embedding,
    "text-vectors": vectors,
    "text-classes": classes,
    "tensors": tensors,
}


def named(request: Any) -> str:
    """The task that a request is of. Raises InvalidInput."""
    for name, task in TASKS.items():
        if task.takes(request):
            return name
    raise InvalidInput(f"a {type(request).__name__} is no request of a task; there are: {', '.join(TASKS)}")


def recognised(info: ModelInfo) -> str | None:
    """The task of a model that does not say it."""
    return next((name for name, task in TASKS.items() if task.recognises(info)), None)


def is_for(name: str, info: ModelInfo) -> bool:
    """Whether a model is what callers with this task are to ask."""
    return info.task == TASKS[name].NAME and not TASKS[name].refusal(info)
