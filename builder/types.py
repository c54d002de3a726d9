"""The values that pass between the rooms of the house."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from builder.data.recipe import PreprocessRecipe
    from builder.triton.interface import Interface
    from builder.triton.signature import Signature, TensorSpec


@dataclass(frozen=True)
class WeightsSource:
    """Where a network's weights come from: `kind` is named, file, random or included."""

    kind: str
    name: str
    path: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class NetworkRequest:
    """What the manifest asks of a network family."""

    name: str
    weights: WeightsSource
    arguments: dict[str, Any] = field(default_factory=dict)
    base: Path = Path()


@dataclass(frozen=True)
class TextFacts:
    """What weights bring along beside a network that reads texts: as recipe and labels of one that sees pictures."""

    tokenizer: Path
    """A `tokenizer.json` of the tokenizers library."""
    max_length: int | None = None
    """Tokens, special ones included, that the network was made for."""
    pool: str | None = None
    """How a text becomes one vector: mean, cls, or none where the network does it itself; None: nothing tells."""
    normalize: bool = False
    """Whether vectors are made one long (L2)."""
    activation: str | None = None
    """Of a classifier's scores: softmax, sigmoid or none; None: it gives vectors."""


@dataclass(frozen=True)
class Network:
    """A PyTorch module in evaluation mode, and its origin."""

    module: torch.nn.Module
    recipe: PreprocessRecipe | None
    labels: tuple[str, ...] | None
    trained: bool
    provenance: dict[str, str]
    arguments: dict[str, Any] = field(default_factory=dict)
    """What its weights ask of the constructor, beside what the manifest does."""
    interface: Interface | None = None
    """What the file tells of which it is made: its own names, which its artifacts keep. None: it is made of code."""
    texts: TextFacts | None = None
    """Of a network that reads texts, where its weights tell."""
    recipe_missing: str = ""
    """Why there is no recipe, where its family knows."""
    task: str | None = None
    """What it is for as it was made, where its family knows: one without classes gives vectors."""


@dataclass(frozen=True)
class NetworkFacts:
    """One row of `build-repo networks`; published figures are those of the default weights."""

    name: str
    family: str
    year: int | None
    """None: nothing tells."""
    layers: int | None
    """Weighted layers (convolutions and linear layers) on the longest way from input to output; None: not counted."""
    parameters: int | None
    """None: it cannot be made without its weights."""
    top1: float | None
    """Percent."""
    top5: float | None
    """Percent."""
    gflops: float | None
    """Billions of multiply-adds for one image, as torchvision counts them."""
    dataset: str | None
    task: str = "classification"
    """What it is made for; embeddings are made of any of them."""
    box_map: float | None = None
    """Percent: a detector's mean average precision on COCO."""
    miou: float | None = None
    """Percent: a segmenter's mean intersection over union."""
    licence: str | None = None
    """Of the weights, as those who publish them say it."""

    @property
    def top5_error(self) -> float | None:
        """Percent, as the papers give it."""
        return None if self.top5 is None else round(100 - self.top5, 3)


@dataclass(frozen=True)
class Target:
    """How an artifact is to be run."""

    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    """CPU threads within an operator."""
    max_batch_size: int = 8
    options: BaseModel | None = None
    """The format's own keys of the entry, of the exporter's OPTIONS; None: the defaults."""

    def __str__(self) -> str:
        return f"{self.precision} on the {self.device.upper()}"


Tensors = Mapping[str, "torch.Tensor"]
"""By name. Where the network batches, the first axis of each is the batch."""

Predict = Callable[[Tensors], dict[str, "torch.Tensor"]]
"""What a network or its artifact computes, under the names of its `Signature`."""


class Samples(Protocol):
    """What a network is run on, to compare its artifacts with it; made anew each time it is asked for."""

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """What to call one of them in messages."""

    def batches(self, size: int, count: int | None = None) -> Iterator[Tensors]:
        """The first `count`, or all, `size` at a time; the last batch has what is left."""


class Calibration(Protocol):
    """What int8 learns its ranges of: batches of one each, as often as they are asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Tensors]: ...


@dataclass(frozen=True)
class ExportRequest:
    """What an exporter makes an artifact of."""

    module: torch.nn.Module
    """A head (see `networks.heads`): it takes the signature's inputs in their order, and gives its outputs in theirs, a
    tuple where there are several. The exporter may change it."""
    signature: Signature
    """Of the artifact, under the names that it is to have."""
    examples: Tensors
    """Of each input: a batch of 2, where the network batches."""
    path: Path
    """The artifact, in a folder that exists and holds nothing else."""
    target: Target
    calibration: Calibration | None = None
    """To calibrate int8 with."""
    largest: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By input, its largest shape without the batch, where the task knows one."""


@dataclass(frozen=True)
class Artifact:
    """A file of the user's, as an entry names it."""

    path: Path
    interface: Interface
    is_program: bool = False
    """Whether it is a program of torch.export, which no server runs: it is exported, as a network is."""


@dataclass(frozen=True)
class AdoptRequest:
    """What an exporter makes an artifact of, where there is one already."""

    source: Path
    interface: Interface
    """The source's."""
    path: Path
    """The artifact, in a folder that exists and holds nothing else."""
    target: Target
    activation: str = "none"
    """To put behind its one output, in float32: softmax, sigmoid or none."""
    is_widened: bool = False
    """Whether its one output is to be float32 without an activation, too."""
    calibration: Calibration | None = None
    """To calibrate int8 with, where the source is not."""
    outputs: tuple[TensorSpec, ...] = ()
    """What it gave of its samples, without the batch axis where the target batches: sizes that it may leave open."""

    @property
    def changes_precision(self) -> bool:
        return self.interface.precision not in (None, self.target.precision)


@dataclass(frozen=True)
class Verification:
    """How an artifact's answers differ from its network's, over all samples and batch sizes. Tasks add to it."""

    batch_sizes: tuple[int, ...]
    samples: int
    max_abs_error: float
    mean_abs_error: float

    def figures(self) -> dict[str, float]:
        """Those that are known, under the names that `tolerance` and the published config give them.

        The config has those whose names end in _agreement or _accuracy as shares, in four digits.
        """
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, float)}

    def with_names(self, rename: Callable[[str], str]) -> Verification:
        """The same with other names of its samples, where it names some."""
        del rename
        return self


@dataclass(frozen=True)
class BuiltModel:
    """What a build of one manifest entry ended with."""

    name: str
    version: int
    network_model: str
    preprocess_model: str | None
    """None: the network has no step before it."""
    format: str
    precision: str
    trained: bool
    classes: int | None
    """None: it does not classify."""
    artifact_bytes: int
    seconds: float
    verification: Verification
    notes: tuple[str, ...] = ()
    """What one should know of how it was made."""
    warnings: tuple[str, ...] = ()
    """What was published all the same, and is to be looked at."""


@dataclass(frozen=True)
class Endpoints:
    """Where a server on this machine answers: host:port, after grpcs:// with TLS, and a URL for the metrics."""

    grpc: str
    http: str
    metrics: str


Report = Callable[[str], None]
"""Told what a build is doing now."""
