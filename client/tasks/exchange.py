"""What tasks give and take beside their own requests and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from client.types import Inference, ModelInfo

if TYPE_CHECKING:
    from client.types import Array


@dataclass(frozen=True)
class Exchange:
    """What was sent, and what came back by name: None for an output that the model did not give."""

    inference: Inference
    answer: Mapping[str, Array | None]
    told: ModelInfo | None = None
    """By the version that answered, where the task goes by that."""


@dataclass(frozen=True)
class Columns:
    """How answers are kept: as rows of text, as JSON, and as typed columns."""

    names: tuple[str, ...]
    rows: Callable[[Any], Sequence[Sequence[object]]]
    """An answer's cells, a row at a time: texts as they came, which whoever writes them makes harmless, and numbers."""
    record: Callable[[Any], dict[str, Any]]
    """The answer as JSON has it."""
    settings: Mapping[str, Any]
    """What of the request the answers depend on."""
    answer: Callable[[Mapping[str, Any]], Any] | None = None
    """The way back from `record`; None, as `fields`, where requests are of no files, and no table is kept of them."""
    fields: Callable[[], Sequence[tuple[str, Any]]] | None = None
    """The keys of `record` with their Arrow types."""
    labels: tuple[str, ...] = ()
    """Names of all classes by number, for tables that list them."""
    of_texts: bool = False
    """Whether rows are of texts, which they have themselves then."""
