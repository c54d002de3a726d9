"""Any network, with any named inputs and outputs, and no steps around it. The module is a `Task`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.data import arrays
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Entry, Example, Pipeline, Reference
from builder.tasks.tensors import inputs, names
from builder.tasks.tensors.drawing import require_drawable
from builder.tasks.tensors.samples import FEW, SampleSet
from builder.tasks.tensors.spec import TensorsSpec
from builder.tasks.tensors.study import calibration_error, head, study
from builder.tasks.tensors.verify import hold, verify
from builder.types import Calibration, Predict, Tensors

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = TensorsSpec
HAS_STEPS = False


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec = entry.spec
    inputs.require_names(entry, "inputs", spec.inputs)
    inputs.require_names(entry, "outputs", spec.output_names)
    if isinstance(spec.outputs, tuple) and (twice := names.repeated(spec.outputs)):
        raise entry.error(f"two outputs are called {twice!r}; give one another name", "outputs")
    if entry.needs_calibration and spec.calibration is None:
        raise calibration_error(entry)
    for key in ("samples", "calibration"):
        if (wanted := getattr(spec, key)) is not None:
            with entry.at(key):
                arrays.require(wanted, entry.base)
    if spec.samples is None:
        require_drawable(entry)


def calibration(entry: Entry, reference: Reference) -> Calibration | None:
    """The samples of `calibration`, held to the network's inputs. Raises ManifestError."""
    wanted = entry.spec.calibration
    if wanted is None:
        return None
    with entry.at("calibration"):
        found = arrays.read(wanted, entry.base, entry.spec.is_batched)
    inputs.require_fit(entry, found, reference.signature.inputs, "calibration")
    return Singly(SampleSet(tuple(found), entry.spec.is_batched))


@dataclass(frozen=True)
class Singly:
    """Batches of one. It is the `Calibration` of `builder.types`."""

    samples: SampleSet

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Tensors]:
        return iter(self.samples.batches(1))


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """The first samples, which the model is warmed up with, too."""
    del entry
    return (
        Example(sample, {name: tensor.clone() for name, tensor in predict(sample).items()})
        for sample in reference.samples.batches(1, FEW)
    )


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """No steps: the network is served by itself, behind its names where its format has none."""
    del entry, folder
    return Pipeline(reference.signature)
