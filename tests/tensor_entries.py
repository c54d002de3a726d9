"""Entries of `task: tensors`, read from YAML by the one way that knows lines, for tests of the task by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import nn

from builder.errors import ManifestError
from builder.networks.heads import as_tensors, in_order
from builder.tasks import tensors
from builder.tasks.task import Reference
from builder.tasks.tensors.comparison import TensorsVerification
from builder.tasks.tensors.spec import TensorsSpec
from builder.types import Network, Predict, Target, Tensors, WeightsSource
from builder.util.documents import Document, load


class File(BaseModel):
    models: dict[str, TensorsSpec]


RANDOM = WeightsSource("random", "random")


@dataclass(frozen=True)
class FakeEntry:
    """What a task sees of an entry."""

    name: str
    document: Document[File]
    card: None = None
    build_threads: int = 1
    cores: int = 1
    weights: WeightsSource = RANDOM

    @property
    def spec(self) -> TensorsSpec:
        return self.document.parsed.models[self.name]

    @property
    def base(self) -> Path:
        return self.document.path.parent

    @property
    def artifact(self) -> None:
        return None

    @property
    def needs_calibration(self) -> bool:
        return self.spec.precision == "int8"

    @property
    def exporter(self) -> Any:
        raise NotImplementedError  # the task asks nothing of the format

    @property
    def target(self) -> Target:
        return Target(self.spec.precision, max_batch_size=self.spec.max_batch_size)

    def error(self, message: str, *keys: str | int) -> ManifestError:
        return self.document.error(message, "models", self.name, *keys)

    @contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        try:
            yield
        except ManifestError as error:
            if error.has_place:
                raise
            raise self.error(str(error), *keys) from None


def entry_at(path: Path) -> FakeEntry:
    document = load(path, File, "", "models")
    (name,) = document.parsed.models
    return FakeEntry(name, document)


def entry_of(folder: Path, text: str = "", **samples: Any) -> FakeEntry:
    """An entry with these keys, a line each; `samples` are written to samples.npz and named."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if samples:
        np.savez(folder / "samples.npz", **samples)
        lines.append("samples: samples.npz")
    path = folder / "models.yaml"
    path.write_text("models:\n  net:\n" + "".join(f"    {line}\n" for line in ("task: tensors", *lines)))
    return entry_at(path)


def studied(entry: FakeEntry, module: nn.Module) -> tuple[nn.Module, Reference]:
    """As a build does it."""
    tensors.require(entry)
    network = Network(module.eval(), None, None, False, {"network": "of the test"})
    return tensors.study(entry, network, lambda _: None)


def running(head: nn.Module, reference: Reference, change: Callable[[str, Any], Any] = lambda _, t: t) -> Predict:
    """The head as an artifact, whose outputs are changed by (name, tensor)."""
    names = [spec.name for spec in reference.signature.inputs]

    def predict(batch: Tensors) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            given = head(*in_order(batch, names))
        found = as_tensors([spec.name for spec in reference.signature.outputs], given)
        return {name: change(name, tensor) for name, tensor in found.items()}

    return predict


def compared(
    entry: FakeEntry, module: nn.Module, change: Callable[[str, Any], Any] = lambda _, t: t
) -> TensorsVerification:
    """Study, verify and hold an artifact that is the network itself with `change`."""
    head, reference = studied(entry, module)
    found = tensors.verify(entry, reference, running(head, reference, change))
    tensors.hold(entry, reference, found, "net as torchscript")
    return found
