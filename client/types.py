"""What passes between the rooms of the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from client.errors import ClientError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Image = bytes | Path | str
"""Encoded image bytes, or the path of a file that holds them."""


@dataclass(frozen=True)
class Text:
    """One text among others, as it came, and what errors and rows call it."""

    content: str | bytes
    """bytes are UTF-8."""
    where: str
    """Such as `texts[3]`, or FILE:LINE."""
    left_out: int = 0
    """Bytes of it that were not kept, since it is longer than any that is taken."""


Texts = list[str] | list[bytes] | list[str | bytes] | tuple[str | bytes, ...]
"""A list or tuple: a single text is a list of one, since a str by itself is an image's path."""
Item = Image | Text
AnyImage = TypeVar("AnyImage", bound=Item)


@dataclass(frozen=True)
class Prediction:
    class_id: int
    label: str
    """The model's label, or the class number where it has none."""
    probability: float


@dataclass(frozen=True)
class Detection:
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright picture."""
    label: str
    """The model's label, or the class number where it has none."""
    class_id: int
    score: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    mask: Array
    """uint8 [height, width]: each pixel's class."""
    labels: tuple[str, ...] = ()
    """By class number; none where the model does not tell."""


@dataclass(frozen=True)
class Classified(Generic[AnyImage]):
    """One image's outcome: predictions, or the error that it alone met."""

    image: AnyImage
    predictions: tuple[Prediction, ...] = ()
    error: ClientError | None = None


@dataclass(frozen=True)
class Outcome(Generic[AnyImage]):
    """What became of one file or text: its answer, which is its task's to say, or the error that it alone met."""

    image: AnyImage
    answer: Any = None
    error: ClientError | None = None


@dataclass(frozen=True)
class TextOutcome:
    """What became of one text: its vector or its classes, or the error that it alone met."""

    text: str | bytes
    answer: Any = None
    error: ClientError | None = None


@dataclass(frozen=True)
class TensorInfo:
    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 is any size."""


@dataclass(frozen=True)
class ModelInfo:
    name: str
    versions: tuple[str, ...]
    platform: str
    max_batch_size: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    steps: tuple[str, ...] = ()
    """The models that an ensemble passes a request through."""
    max_image_bytes: int | None = None
    """The largest encoded image taken, where the model tells."""
    max_text_bytes: int | None = None
    """The longest text taken, in bytes of UTF-8, where the model tells."""
    task: str | None = None
    """What it is for, such as `classification` or `tensors`; None where the model does not tell."""
    optional: tuple[str, ...] = ()
    """Inputs that may be left out."""
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    """What its config says beside."""

    def most_bytes(self, item: Item) -> int | None:
        """Of such an item, where the model tells."""
        return self.max_text_bytes if isinstance(item, Text) else self.max_image_bytes

    def batch(self, wanted: int) -> int:
        """As many images or texts a request as is wanted, or as the model takes."""
        if wanted < 1:
            raise ValueError("the batch size must be at least 1")
        return 1 if self.is_of_own_size else max(1, min(wanted, self.max_batch_size))

    @property
    def is_of_own_size(self) -> bool:
        """Whether an output is as large as each picture is, so that answers to several are no rows of one tensor."""
        return any(-1 in output.shape[1:] for output in self.outputs if output.datatype != "BYTES")


@dataclass(frozen=True)
class Spent:
    """How often something happened since the server started, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class BatchSpent:
    """Executions of one batch size."""

    size: int
    compute: Spent


@dataclass(frozen=True)
class ModelStatistics:
    """Counters of one version of a model since the server started (Triton's statistics extension)."""

    name: str
    version: str
    inferences: int
    """Images or other rows answered."""
    executions: int
    """Batches computed; fewer than inferences where the server batches."""
    success: Spent
    """Whole requests, queue included."""
    failure: Spent
    queue: Spent
    compute_input: Spent
    compute_infer: Spent
    compute_output: Spent
    batches: tuple[BatchSpent, ...] = ()


@dataclass(frozen=True)
class Tls:
    """What an encrypted connection is held to; the system's authorities where `ca` is not given."""

    ca: Path | None = None
    """PEM certificates of the authorities that the server's certificate must come from."""
    certificate: Path | None = None
    """PEM chain that this client shows, where the server asks for one."""
    key: Path | None = None
    """PEM key of that certificate."""


@dataclass(frozen=True)
class Tensor:
    """An input as it is sent."""

    name: str
    data: Array
    """An array of objects holds bytes: Triton's BYTES."""
    datatype: str = ""
    """Triton's; that of the array where empty. BF16 is held as its bits, in uint16."""
    region: str = ""
    """The shared memory that holds it, from `offset`; sent by value where empty."""
    offset: int = 0
    size: int = 0
    """Bytes in the region."""


@dataclass(frozen=True)
class Output:
    name: str
    class_count: int = 0
    """Above 0, Triton's classification extension: as many BYTES "probability:class:label"."""


@dataclass(frozen=True)
class Inference:
    model: str
    tensors: tuple[Tensor, ...]
    outputs: tuple[Output, ...]


class Answer(dict[str, Any]):
    """An inference's outputs by name: None for one that the model did not give."""

    version: str = ""
    """The model's that answered."""


@dataclass(frozen=True)
class Ask:
    """One call of tritonclient's, which names its methods alike for gRPC and HTTP."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
