"""Entries that bring an artifact along, checked against what its file tells, before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from builder import networks
from builder.errors import ManifestError, NetworkError
from builder.exporters import EXPORTERS
from builder.exporters.adopting import ADOPTERS, formats_of
from builder.exporters.interfaces import interface, is_artifact, read
from builder.tasks.spec import ModelSpec
from builder.triton.interface import Interface, ToldTensor, inputs_of
from builder.triton.signature import TensorSpec
from builder.types import Artifact

OF_NETWORKS = ("network", "weights", "arguments")
NUMPYS = ("onnx", "openvino")
"""Formats whose runtimes speak NumPy."""
DYNAMIC = "torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},), dynamo=True)"
WHOLE = "say `max_batch_size: 0`, with `task: tensors`, and requests hold whole tensors"


class Error(Protocol):
    def __call__(self, message: str, *keys: str | int) -> ManifestError:
        """One that names the file, the line and the key of the entry."""


def resolve(
    spec: ModelSpec, base: Path, says: Callable[[str], bool], error: Error
) -> tuple[ModelSpec, Artifact | None]:
    """The entry with the format and precision that its file is of; `says`: whether the entry itself gives a key.

    Raises ManifestError, and NetworkError for a file that is damaged or something else, both with the key's place.
    """
    if spec.artifact is None:
        if spec.reference is not None:
            raise error("only an `artifact:` is held to something; name one, or leave this out", "reference")
        return spec, None
    _require_alone(says, error)
    artifact = _read(base / Path(spec.artifact).expanduser(), error)
    if spec.reference is not None:
        _require_reference(spec.reference, artifact, base, error)
    if artifact.is_program:
        _require_program(spec, artifact, error)
        return _with_tensors(spec, artifact, error), artifact
    spec = _with_format(spec, artifact.path, says, error)
    spec = _with_precision(spec, artifact, says, error)
    _require_device(spec, artifact, says, error)
    _require_held(spec.format, artifact, error)
    require_batch(spec, artifact, error)
    return _with_tensors(spec, artifact, error), artifact


def possible(artifact: Artifact) -> list[tuple[str, str]]:
    """The formats that the file can be shipped as, each with the precisions that it can have there."""
    formats = formats_of(artifact.path.suffix.lower())
    return [(name, one) for name in formats for one in ADOPTERS[name].precisions(artifact.interface)]


def is_calibrated(artifact: Artifact, precision: str) -> bool:
    """Whether its int8 is yet to be made, of ranges that are learnt."""
    return precision == "int8" and artifact.interface.precision not in (None, "int8")


def _require_alone(says: Callable[[str], bool], error: Error) -> None:
    for key in OF_NETWORKS:
        if says(key):
            hint = "; what it is held to is named by `reference:`" if key == "network" else ""
            raise error(f"an artifact holds network and weights; leave out this, or artifact{hint}", key)


def _read(path: Path, error: Error) -> Artifact:
    try:
        return read(path)
    except NetworkError as problem:
        raise NetworkError(str(error(str(problem), "artifact"))) from None


def _require_reference(reference: str, artifact: Artifact, base: Path, error: Error) -> None:
    """Raise, at its key, for a reference that is no network's name and no artifact, or takes other inputs."""
    try:
        if is_artifact(reference):
            _require_alike(interface(base / Path(reference).expanduser()), reference, artifact, error)
        else:
            networks.find(reference)
    except NetworkError as problem:
        raise NetworkError(str(error(str(problem), "reference"))) from None


def _require_alike(other: Interface, reference: str, artifact: Artifact, error: Error) -> None:
    """Raise ManifestError for another number of inputs: they are given in their order."""
    ours, theirs = artifact.interface.inputs, other.inputs
    if ours is not None and theirs is not None and len(ours) != len(theirs):
        takes, wants = (", ".join(tensor.name for tensor in tensors) for tensors in (theirs, ours))
        message = f"{reference} takes {takes}, and {artifact.path.name}, which is to be held to it, takes {wants}"
        raise error(message, "reference")


def _require_program(spec: ModelSpec, artifact: Artifact, error: Error) -> None:
    if spec.reference is not None:
        raise error("a program of torch.export is a network, which what is built of it is held to", "reference")
    require_batch(spec, artifact, error)


def _with_format(spec: ModelSpec, path: Path, says: Callable[[str], bool], error: Error) -> ModelSpec:
    possible = formats_of(path.suffix.lower())
    if says("format") and spec.format not in possible:
        raise error(f"{path.name} can be shipped as {' or '.join(possible)}, not as {spec.format}", "format")
    return spec if says("format") else spec.model_copy(update={"format": possible[0]})


def _with_precision(spec: ModelSpec, artifact: Artifact, says: Callable[[str], bool], error: Error) -> ModelSpec:
    possible = ADOPTERS[spec.format].precisions(artifact.interface)
    if not says("precision"):
        own = artifact.interface.precision or "fp32"
        return spec.model_copy(update={"precision": own if own in possible else possible[0]})
    if spec.precision not in possible:
        raise error(
            f"{artifact.path.name} is {artifact.interface.precision or 'of unknown precision'}, and as {spec.format} "
            f"it can be shipped in {', '.join(possible)}; leave the key out, or export the file anew",
            "precision",
        )
    if is_calibrated(artifact, spec.precision) and getattr(spec, "calibration", spec) is None:  # a task may have no key
        raise error(f"{artifact.path.name} is to be quantised, and `calibration:` says with what", "precision")
    return spec


def _with_tensors(spec: ModelSpec, artifact: Artifact, error: Error) -> ModelSpec:
    """An entry of a task that declares its tensors, with what the file tells of them. Raises ManifestError."""
    if "inputs" not in type(spec).model_fields:
        return spec
    written = spec.model_dump(exclude_unset=True)
    declared = written.get("inputs") or {}
    _require_own_outputs(written.get("outputs"), artifact, error)
    told = artifact.interface.inputs
    if not told or not (declared or all(tensor.is_whole for tensor in told)):
        return spec  # the samples tell the rest
    given = [TensorSpec(name, value["dtype"], tuple(value["shape"])) for name, value in declared.items()]
    try:
        specs = inputs_of(artifact.interface, given, spec.max_batch_size > 0, artifact.path.name)
    except ManifestError as problem:
        raise error(str(problem), "inputs") from None
    whole = {one.name: declared.get(one.name, {}) | {"dtype": one.data_type, "shape": one.shape} for one in specs}
    form: Any = type(spec).model_fields["inputs"].annotation
    return spec.model_copy(update={"inputs": TypeAdapter(form).validate_python(whole)})


def _require_own_outputs(asked: Any, artifact: Artifact, error: Error) -> None:
    """Raise ManifestError for outputs that the file has not: a file's names are its own."""
    own = [tensor.name for tensor in artifact.interface.outputs or ()]
    if not own or artifact.is_program:
        return
    for name in asked or ():
        if name not in own or (isinstance(asked, dict) and asked[name] != name):
            raise error(f"{artifact.path.name} gives {', '.join(own)}, and is served under these names", "outputs")


def _require_device(spec: ModelSpec, artifact: Artifact, says: Callable[[str], bool], error: Error) -> None:
    """Raise ManifestError for machine code of another device."""
    told = artifact.interface.facts.get("aoti_device_key", "")
    wanted = "gpu" if EXPORTERS[spec.format].PER_GPU or told == "cuda" else "cpu" if told == "cpu" else spec.device
    if spec.device != wanted:
        key = "device" if says("device") else "artifact"
        raise error(f"{artifact.path.name} is compiled for the {wanted.upper()}; say `device: {wanted}`", key)


def _require_held(format_name: str, artifact: Artifact, error: Error) -> None:
    """Raise ManifestError for tensors that no Python here can hold, so that nothing could be compared."""
    told = artifact.interface
    for tensor in (*(told.inputs or ()), *(told.outputs or ())):
        if tensor.data_type == "STRING":
            message = f"{tensor.name} of {artifact.path.name} is text, which PyTorch has no tensors of; take it out"
            raise error(f"{message} of the file, and give its numbers, such as token ids", "artifact")
        if tensor.data_type == "BF16" and format_name in NUMPYS:
            message = f"{tensor.name} of {artifact.path.name} is BF16, which NumPy has not"
            raise error(f"{message}; save it with a cast to FP32, which loses nothing", "artifact")


def require_batch(spec: ModelSpec, artifact: Artifact, error: Error) -> None:
    """Raise ManifestError for a batch that the file does not take."""
    most = spec.max_batch_size
    fixed, scalar = artifact.interface.fixed_batch, artifact.interface.without_axes
    if most and scalar:
        raise error(
            f"{scalar.name} of {artifact.path.name} is a single number, without an axis for a batch; {WHOLE}",
            "max_batch_size",
        )
    if most and fixed and not (most == 1 == _size(fixed)):
        raise error(_fixed(fixed, most, artifact.path.name), "max_batch_size")


def _fixed(tensor: ToldTensor, most: int, file: str) -> str:
    size = _size(tensor)
    alone = "say `max_batch_size: 1`, or " if size == 1 else ""
    return (
        f"{tensor.name} of {file} is {list(tensor.shape or ())}: batches of {size} alone, and up to {most} are asked "
        f"for. Export it with a batch axis of any size, such as {DYNAMIC}; or {alone}{WHOLE}"
    )


def _size(tensor: ToldTensor) -> int:
    return (tensor.shape or (0,))[0]
