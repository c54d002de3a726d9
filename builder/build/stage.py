"""Lays out the Triton models of one served model, ready to be published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.build.artifact import signature_of
from builder.build.entry import Entry
from builder.repository import layout
from builder.repository.staging import StagedEnsemble, StagedNetwork, StagedStep
from builder.tasks.task import Call, Pipeline, Reference
from builder.triton import model_config
from builder.triton.signature import Signature, TensorSpec, raw_bytes
from builder.triton.warmup import WarmUp, WarmUpInput
from builder.types import Tensors

LABELS = "labels.txt"
TASK = "task"
"""Config parameter of what clients ask: the task that it does."""
STEP_VERSION = 1
IMAGE_AXES = 3
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Described:
    """What the configs say beside what the manifest says."""

    pipeline: Pipeline
    """Under the artifact's names of the network's tensors."""
    signature: Signature
    """The artifact's."""
    sample: Tensors
    """A batch of one, under the artifact's names, to warm up with."""
    facts: dict[str, str]
    """What the configs record of the build."""
    built_from: dict[str, Any] = field(default_factory=dict)
    """For the lock."""

    @property
    def is_alone(self) -> bool:
        """Whether clients ask the network's own model, without an ensemble."""
        return not self.pipeline.calls

    @property
    def steps(self) -> list[StagedStep]:
        return [call.step for call in self.pipeline.calls if call.step]


def as_served(entry: Entry, reference: Reference, pipeline: Pipeline) -> Pipeline:
    """The pipeline under the artifact's names: a network alone gets an ensemble where its format has no names."""
    own, artifacts = reference.signature, signature_of(entry, reference)
    if own == artifacts:
        return pipeline
    names = {ours.name: theirs.name for ours, theirs in zip(own, artifacts, strict=True)}
    calls = pipeline.calls or (_alone(own),)
    renamed = tuple(call if call.step else _renamed(call, names) for call in calls)
    return replace(pipeline, calls=renamed, labelled=frozenset(names.get(n, n) for n in pipeline.labelled))


def _alone(signature: Signature) -> Call:
    return Call({t.name: t.name for t in signature.inputs}, {t.name: t.name for t in signature.outputs})


def _renamed(call: Call, names: Mapping[str, str]) -> Call:
    inputs = {names[name]: tensor for name, tensor in call.inputs.items()}
    return Call(inputs, {names[name]: tensor for name, tensor in call.outputs.items()})


def stage_network(entry: Entry, folder: Path, described: Described) -> StagedNetwork:
    """`folder` holds the artifact already."""
    pipeline, spec = described.pipeline, entry.spec
    warmups = _write_warmups(folder / layout.WARMUP_FOLDER, described, spec.max_batch_size)
    _write_labels(folder, pipeline.labels)
    filename, by_capability = _artifact_names(entry, folder / layout.VERSION_FOLDER, described.facts)
    role = {layout.ROLE: layout.MODEL, TASK: spec.task} | pipeline.parameters if described.is_alone else {}
    parameters = described.facts | {layout.ROLE: layout.NETWORK} | role | entry.exporter.parameters(entry.target)

    def render(name: str, version: int) -> str:
        return model_config.render(
            "network",
            name=name,
            backend=entry.exporter.BACKEND,
            platform=entry.exporter.PLATFORM,
            filename=filename,
            by_capability=by_capability,
            max_batch_size=spec.max_batch_size,
            inputs=described.signature.inputs,
            outputs=described.signature.outputs,
            labels=_labels_of(pipeline, version),
            versions=(version,),
            device=spec.device,
            instances=spec.instances,
            queue=model_config.QueuePolicy(),
            nchw=_images(described.signature),
            optional=frozenset(),
            warmups=warmups,
            parameters=parameters,
        )

    name = entry.name if described.is_alone else entry.network_model
    return StagedNetwork(name, folder, render, described.built_from if described.is_alone else {})


def _labels_of(pipeline: Pipeline, version: int) -> dict[str, str]:
    """By output, the file that names its classes."""
    return dict.fromkeys(pipeline.labelled, f"{version}/{LABELS}") if pipeline.labels else {}


def _images(signature: Signature) -> frozenset[str]:
    """The inputs that are images, channels first."""
    shaped = [tensor for tensor in signature.inputs if len(tensor.shape) == IMAGE_AXES and signature.batched]
    return frozenset(tensor.name for tensor in shaped if tensor.shape[0] in CHANNELS)


def _write_warmups(folder: Path, described: Described, max_batch_size: int) -> list[WarmUp]:
    """Requests of one sample, alone and repeated to the largest batch, which the server makes before it is ready."""
    folder.mkdir()
    batched = described.signature.batched
    inputs = tuple(
        _written(folder, tensor, described.sample[tensor.name], batched) for tensor in described.signature.inputs
    )
    sizes = sorted({1, max_batch_size}) if max_batch_size else [1]
    return [WarmUp(f"sample-{size}", inputs, size) for size in sizes]


def _written(folder: Path, spec: TensorSpec, tensor: Any, batched: bool) -> WarmUpInput:
    """The sample's bytes in a file that is named by them."""
    one = tensor[0] if batched else tensor
    data = raw_bytes(one)
    file = f"sample-{hashlib.sha256(data).hexdigest()[:8]}"
    (folder / file).write_bytes(data)
    return WarmUpInput(spec.name, spec.data_type, tuple(one.shape), file)


def _artifact_names(entry: Entry, version: Path, facts: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The default file of the version, and those of single compute capabilities.

    A plan runs on one capability alone. Triton would try the default file on all others, so that is
    the name of no file: their server then says that it cannot be found, and nothing is served wrongly.
    """
    if not entry.exporter.PER_GPU:
        return entry.exporter.FILENAME, {}
    capability = facts["compute_capability"]
    filename = layout.plan_filename(capability)
    (version / entry.exporter.FILENAME).rename(version / filename)
    return layout.NO_PLAN, {capability: filename}


def stage_ensemble(entry: Entry, folder: Path, described: Described) -> StagedEnsemble:
    """The model that clients ask, which hands their tensors through the steps and the network."""
    pipeline = described.pipeline
    (folder / layout.VERSION_FOLDER).mkdir(parents=True)
    _write_labels(folder, pipeline.labels)
    parameters = described.facts | pipeline.parameters | {layout.ROLE: layout.ENSEMBLE, TASK: entry.spec.task}

    def render(network: str, version: int) -> str:
        return model_config.render(
            "ensemble",
            name=entry.name,
            max_batch_size=entry.spec.max_batch_size,
            inputs=pipeline.signature.inputs,
            outputs=pipeline.signature.outputs,
            labels=_labels_of(pipeline, version),
            version=version,
            steps=_steps(pipeline.calls, network, version),
            parameters=parameters,
        )

    return StagedEnsemble(entry.name, folder, render, described.built_from)


def _steps(calls: Sequence[Call], network: str, version: int) -> list[dict[str, Any]]:
    return [
        {
            "model": call.step.name if call.step else network,
            "version": STEP_VERSION if call.step else version,
            "inputs": call.inputs,
            "outputs": call.outputs,
        }
        for call in calls
    ]


def _write_labels(folder: Path, labels: tuple[str, ...] | None) -> None:
    if labels is not None:
        text = "".join(f"{label}\n" for label in labels)
        (folder / layout.VERSION_FOLDER / LABELS).write_text(text, encoding="utf-8")
