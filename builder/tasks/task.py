"""What a task is: the contract of the modules in this room, and what passes through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from builder.errors import ManifestError
from builder.exporters import Exporter
from builder.networks.card import Card
from builder.repository.staging import StagedStep
from builder.tasks.spec import ModelSpec
from builder.triton.signature import Signature
from builder.types import (
    Artifact,
    Calibration,
    Network,
    Predict,
    Report,
    Samples,
    Target,
    Verification,
    WeightsSource,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


class Entry(Protocol):
    """What a task sees of an entry of the manifest, once it is resolved."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> Any:
        """Of the task's own SPEC."""

    @property
    def weights(self) -> WeightsSource: ...

    @property
    def card(self) -> Card | None: ...

    @property
    def artifact(self) -> Artifact | None:
        """The user's own, in place of a network. `network.module` then gives a mapping by the file's names
        (`networks.artifact.alone` takes a single one out), and the reference's signature has to be
        `own_names(signature, network.interface)`. A task that wants none of it refuses this in `require`. The entry's
        key `activation`, where the task has one, is put behind the file."""

    @property
    def needs_calibration(self) -> bool:
        """Whether int8 is made here, of ranges that are learnt."""

    @property
    def base(self) -> Path:
        """The manifest's folder, which paths are relative to."""

    @property
    def exporter(self) -> Exporter: ...

    @property
    def target(self) -> Target: ...

    @property
    def build_threads(self) -> int: ...

    @property
    def cores(self) -> int:
        """Of the server's machine."""

    def error(self, message: str, *keys: str | int) -> ManifestError:
        """One that names the file, the line and the key of this entry."""

    def at(self, *keys: str | int) -> AbstractContextManager[None]:
        """Within it, a ManifestError without a place is given that of this entry's key."""


@dataclass(frozen=True)
class Reference:
    """What the network itself gives, for artifacts to be held to."""

    signature: Signature
    """Of the network behind its steps."""
    samples: Samples
    answers: Any
    """What it gives for the samples, as the task arranges it for `verify`."""
    trained: bool
    provenance: dict[str, str]
    warnings: tuple[str, ...] = ()
    """What may be right, and more often is not."""
    labels: tuple[str, ...] | None = None
    """One a class, where there are classes."""
    largest: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By input, the largest sizes of its axes of any size, where something tells; without the batch."""
    is_widened: bool = False
    """Whether a file of the user's is to give float32 whatever it computes in."""
    details: Any = None
    """The task's own. It is pickled for the processes that time artifacts, so it holds no modules."""


@dataclass(frozen=True)
class Call:
    """One model that the ensemble asks: the network, where `step` is None."""

    inputs: Mapping[str, str]
    """By the model's own names of its inputs, the ensemble's tensors."""
    outputs: Mapping[str, str]
    """By the model's own names of its outputs, the ensemble's tensors."""
    step: StagedStep | None = None


@dataclass(frozen=True)
class Pipeline:
    """What stands around the network on the server: the calls of one ensemble, or nothing at all."""

    signature: Signature
    """What clients see."""
    calls: tuple[Call, ...] = ()
    """In order, the network's among them; none: the network is served by itself, under the entry's name, and behind an
    ensemble that the build makes where the format has no names for tensors."""
    labels: tuple[str, ...] | None = None
    labelled: frozenset[str] = frozenset()
    """The outputs, the network's and the ensemble's, whose classes the labels name."""
    parameters: dict[str, str] = field(default_factory=dict)
    """For clients, in the config of what they ask."""
    built_from: dict[str, Any] = field(default_factory=dict)
    """For the lock, beside the entry."""


@dataclass(frozen=True)
class Example:
    """One request as a client sends it, and its answer: tensors with a batch of one, where the model batches."""

    inputs: Mapping[str, bytes | torch.Tensor]
    """By the names that clients see; bytes are one element of a STRING."""
    outputs: Mapping[str, bytes | torch.Tensor]


class Task(Protocol):
    """A module, or an object, that says what a network is for."""

    SPEC: type[ModelSpec]
    """The keys of its entries. One called `calibration` is known to `compare --calibration` and to the JSON Schema; a
    task without it has the ranges of int8 from elsewhere, or refuses int8 in `require`."""

    HAS_STEPS: bool
    """Whether there are steps around its networks, so that clients ask an ensemble in every format."""

    def require(self, entry: Entry) -> None:
        """Raise ManifestError for what can be told before anything is made."""

    def study(self, entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
        """The network with its head, and all that its artifacts are held to. Raises BuilderError.

        `network.module` may wait for its first input: `networks.making.settled` has it made. What the module does is
        foreign code, which runs within `util.usercode.border`. Answers that are not finite, that change from run to
        run or that depend on the rest of the batch are refused here, since no artifact could be held to them.
        """

    def head(self, entry: Entry, network: Network, reference: Reference) -> nn.Module:
        """The network with its head again, of an entry that was studied, perhaps for another format.

        `network` is made anew: lazy modules are settled again, of the same seed.
        """

    def calibration(self, entry: Entry, reference: Reference) -> Calibration | None:
        """What int8 learns its ranges of; None: nothing says. Raises ManifestError."""

    def verify(self, entry: Entry, reference: Reference, predict: Predict) -> Verification:
        """How the artifact's answers differ. Raises VerificationError where it gives none, or none of the signature.

        It is run at several batch sizes, 1 and the largest among them. Runtimes use the memory of what they give again:
        clone it.
        """

    def hold(self, entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
        """Raise VerificationError, with the figures, unless they are within the limits of `entry.spec.precision`.

        That is one of the exporters' PRECISIONS; one that a task does not know has the widest limits.
        """

    def examples(self, entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
        """A few requests, through all steps, with the artifact's answers, which servers are held to.

        They are published with the model, so they are no images of the user's where others do as well.
        """

    def pipeline(self, entry: Entry, reference: Reference, folder: Path) -> Pipeline:
        """What stands around the network; its steps are staged in `folder`, which does not exist yet."""
