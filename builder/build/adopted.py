"""An entry's own artifact: run in this process as a network, and published in place of one that is made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import networks
from builder.errors import ExportError, NetworkError, full_or
from builder.exporters import EXPORTERS
from builder.exporters.adopting import ADOPTERS, running
from builder.exporters.interfaces import is_artifact, read
from builder.networks import artifact as files
from builder.types import AdoptRequest, Artifact, Network, NetworkRequest, Target, WeightsSource
from builder.util.usercode import border

if TYPE_CHECKING:
    from torch import nn


def network(artifact: Artifact, reference: str | None, base: Path, target: Target) -> Network:
    """What the artifact is held to, under its names: the reference, or the file itself, run in this process.

    Raises NetworkError, WeightsError, ExportError.
    """
    if artifact.is_program:
        module = networks.making.evaluated(running.of_program(artifact.path))
        return files.network(artifact, networks.making.frozen(module))
    if reference is None:
        return files.network(artifact, module_of(artifact, target))
    module, name = _reference(reference, base, target)
    return files.network(artifact, files.named_as(module, artifact.interface, reference), name)


def module_of(artifact: Artifact, target: Target) -> nn.Module:
    """The file as a module, as it stands: not in the precision that it is to be shipped in."""
    plain = replace(target, precision=artifact.interface.precision or "fp32")
    run = running.positional(artifact, plain)
    if run is None:
        names = [tensor.name for tensor in artifact.interface.inputs or ()]
        run = files.by_position(running.named(artifact, plain), names)
    return files.as_module(run)


def _reference(name: str, base: Path, target: Target) -> tuple[nn.Module, str]:
    if not is_artifact(name):
        family = networks.find(name)
        request = NetworkRequest(name, _weights_of(name, family), {}, base)
        return family.make(request).module, f"network {name}"
    other = read(base / Path(name).expanduser())
    if other.is_program:
        return networks.making.evaluated(running.of_program(other.path)), f"artifact {other.path.name}"
    return module_of(other, replace(target, device="cpu")), f"artifact {other.path.name}"


def _weights_of(name: str, family: Any) -> WeightsSource:
    if networks.callables.matches(name):
        return WeightsSource("included", "included")
    if family.DEFAULT_WEIGHTS is None:
        raise NetworkError(f"{name} comes without weights; name a callable of your own, which loads them")
    return WeightsSource("named", family.DEFAULT_WEIGHTS)


def refusal(format_name: str, target: Target) -> str:
    """Why this machine cannot try the artifact, and what would help; empty if it can."""
    return EXPORTERS[format_name].refusal(target) if ADOPTERS[format_name].RUNS_WHERE_BUILT else ""


def adopt(name: str, format_name: str, request: AdoptRequest) -> dict[str, str]:
    """Write the artifact that is published for the entry `name`; what to record of it. Raises ExportError."""
    what = f"{name}: {request.source.name} cannot be shipped as {format_name}"
    with border(ExportError, what):
        try:
            return ADOPTERS[format_name].adopt(request)
        except ExportError as error:
            raise ExportError(f"{what}: {error}") from None
        except OSError as error:
            raise full_or(ExportError, error)(f"{name}: {request.path} cannot be written: {error}") from None


def files_of(artifact: Artifact) -> tuple[Path, ...]:
    """All that the artifact consists of, for executors that take it elsewhere."""
    return (artifact.path, *(artifact.path.parent / name for name in artifact.interface.beside))
