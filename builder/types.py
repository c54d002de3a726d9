"""The values that pass between the rooms of the house."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel

    from builder.data.recipe import PreprocessRecipe


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
class Network:
    """A PyTorch module in evaluation mode (float32 [B, C, H, W] -> [B, classes]), and its origin."""

    module: torch.nn.Module
    recipe: PreprocessRecipe | None
    labels: tuple[str, ...] | None
    trained: bool
    provenance: dict[str, str]
    arguments: dict[str, Any] = field(default_factory=dict)
    """What its weights ask of the constructor, beside what the manifest does."""


@dataclass(frozen=True)
class NetworkFacts:
    """One row of `build-repo networks`; published figures are those of the default weights."""

    name: str
    family: str
    year: int
    layers: int
    """Weighted layers (convolutions and linear layers) on the longest way from input to output."""
    parameters: int
    top1: float | None
    """Percent."""
    top5: float | None
    """Percent."""
    gflops: float | None
    """Billions of multiply-adds for one image, as torchvision counts them."""
    dataset: str | None

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


class Images(Protocol):
    """float32 [1, C, H, W] each, as often as they are asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[torch.Tensor]: ...


@dataclass(frozen=True)
class ExportRequest:
    """What an exporter makes an artifact of."""

    module: torch.nn.Module
    """A classifier with its softmax: float32 [B, C, H, W] -> probabilities. The exporter may change it."""
    example: torch.Tensor
    """float32 [2, C, H, W]"""
    path: Path
    """The artifact, in a folder that exists and holds nothing else."""
    target: Target
    calibration: Images | None = None
    """To calibrate int8 with."""


@dataclass(frozen=True)
class WorstImage:
    """One of the images that an artifact is furthest off on."""

    image: str
    error: float
    """Of its worst probability."""
    expected: int
    expected_probability: float
    """The network's class, and the network's probability of it."""
    found: int
    found_probability: float
    """The artifact's class, and the artifact's probability of it."""


@dataclass(frozen=True)
class Check:
    """How an artifact's probabilities differ from its network's, over all images and batch sizes."""

    batch_sizes: tuple[int, ...]
    images: int
    max_abs_error: float
    mean_abs_error: float
    relative_error: float
    """Largest error of a log-probability, over the largest spread that the images cause in one."""
    noise: float
    """Error of the log-probabilities, over what the images change in them (both root mean squares)."""
    top1_agreement: float
    """Share of images, 0..1, for which the network's answer is the artifact's, ties included."""
    top5_agreement: float
    """Share of images for which the network's answer is among the artifact's first five."""
    network_accuracy: float | None
    artifact_accuracy: float | None
    """Share of right answers, where the images are labelled."""
    worst: tuple[WorstImage, ...]


@dataclass(frozen=True)
class BuiltModel:
    """What a build of one manifest entry ended with."""

    name: str
    version: int
    network_model: str
    preprocess_model: str
    format: str
    precision: str
    trained: bool
    classes: int
    artifact_bytes: int
    seconds: float
    check: Check
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


Predict = Callable[["torch.Tensor"], "torch.Tensor"]
"""float32 [B, C, H, W] -> probabilities float32 [B, classes]."""

Report = Callable[[str], None]
"""Told what a build is doing now."""
