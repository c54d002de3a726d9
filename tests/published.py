"""Models published by hand, for tests that need a repository and no network that computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from builder.repository import layout, publish, staging
from builder.triton import model_config

FACTS = {
    "network": "resnet18",
    "weights_sha256": "a" * 64,
    "format": "tensorrt",
    "precision": "fp16",
    "tensorrt_version": "10.16.1.11",
    "builder": "build-repo 1",
}
IMAGE = {"name": "IMAGE", "data_type": "TYPE_STRING", "dims": [1]}
PIXELS = {"name": "PIXELS", "data_type": "TYPE_FP32", "dims": [3, 32, 32]}
SCORES = {"name": "SCORES", "data_type": "TYPE_FP32", "dims": [-1]}
PROBABILITIES = {"name": "PROBABILITIES", "data_type": "TYPE_FP32", "dims": [-1]}
WARMUP_PIXELS = bytes(3 * 32 * 32 * 4)
STEPS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "preprocess": (layout.PREPROCESS, IMAGE, PIXELS),
    "scale": (layout.PREPROCESS, PIXELS, PIXELS),
    "postprocess": (layout.POSTPROCESS, SCORES, PROBABILITIES),
}
"""Role, input and output of a step, by what its name begins with."""


def publish_model(
    repository: Path,
    name: str = "m",
    *,
    files: Mapping[str, bytes | str] | None = None,
    backend: str = "tensorrt",
    platform: str = "",
    filename: str = layout.NO_PLAN,
    by_capability: dict[str, str] | None = None,
    labels: Sequence[str] | None = ("cat", "dog"),
    classes: int = 2,
    max_batch_size: int = 8,
    recipe: str = '{"crop": 32}',
    step: str = "preprocess_1",
    steps: Sequence[str] | None = None,
    alone: bool = False,
    device: str = "gpu",
    facts: dict[str, str] | None = None,
    asked_facts: dict[str, str] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> publish.Published:
    """One served model, by the one way into a repository that there is.

    An ensemble of `step` and the network; of `steps`, those that are called postprocess behind the network; or the
    network `alone`, under the model's own name. `asked_facts` are those of what clients ask, beside the `facts` of all;
    `inputs` what the lock says that a build has read.
    """
    facts = FACTS if facts is None else facts
    asked_facts = facts | (asked_facts or {})
    around = () if alone else (step,) if steps is None else tuple(steps)
    files = {path: text if isinstance(text, bytes) else text.encode() for path, text in (files or {}).items()}

    def render_network(own: str, version: int) -> str:
        role = layout.MODEL if alone else layout.NETWORK
        return _text(
            name=own,
            backend=backend,
            platform=platform,
            default_model_filename=filename,
            cc_model_filenames=by_capability or {},
            max_batch_size=max_batch_size,
            input=[PIXELS | {"name": "INPUT__0"}],
            output=[_output("OUTPUT__0", classes, labels, version)],
            version_policy={"specific": {"versions": [version]}},
            instance_group=[{"kind": f"KIND_{device.upper()}", "count": 1}],
            dynamic_batching={} if max_batch_size else None,
            model_warmup=[_warmup("INPUT__0", "TYPE_FP32", [3, 32, 32], "photo-1")],
            parameters=_parameters((asked_facts if alone else facts) | {layout.ROLE: role}),
        )

    def render_ensemble(own: str, version: int) -> str:
        calls, first, last = _calls(around, own, version)
        return _text(
            name=name,
            platform="ensemble",
            max_batch_size=max_batch_size,
            input=[first],
            output=[_output(last, classes, labels, version)],
            version_policy={"specific": {"versions": [version]}},
            ensemble_scheduling={"step": calls},
            parameters=_parameters(asked_facts | {layout.ROLE: layout.ENSEMBLE}),
        )

    with staging.staging(repository) as staged:
        _fill(staged / "network", labels, files)
        (staged / "network" / layout.WARMUP_FOLDER).mkdir()
        (staged / "network" / layout.WARMUP_FOLDER / "photo-1").write_bytes(WARMUP_PIXELS)
        origin: dict[str, Any] = {"facts": asked_facts} | ({"inputs": inputs} if inputs else {})
        if alone:
            network = staging.StagedNetwork(name, staged / "network", render_network, origin)
            return publish.publish(repository, (), network, None)
        _fill(staged / "ensemble", labels, {})
        return publish.publish(
            repository,
            [_step(staged / "steps" / each, each, recipe) for each in dict.fromkeys(around)],
            staging.StagedNetwork(f"{name}_{backend}", staged / "network", render_network),
            staging.StagedEnsemble(name, staged / "ensemble", render_ensemble, origin),
        )


def _text(**values: Any) -> str:
    given = {key: value for key, value in values.items() if value or value == {}}
    return model_config.to_text(json_format.ParseDict(given, model_config_pb2.ModelConfig()))


def _parameters(facts: dict[str, str]) -> dict[str, Any]:
    return {key: {"string_value": value} for key, value in facts.items()}


def _output(name: str, classes: int, labels: Sequence[str] | None, version: int) -> dict[str, Any]:
    named = {"label_filename": f"{version}/{layout.LABELS}"} if labels else {}
    return {"name": name, "data_type": "TYPE_FP32", "dims": [classes]} | named


def _warmup(tensor: str, data_type: str, dims: list[int], file: str) -> dict[str, Any]:
    inputs = {tensor: {"data_type": data_type, "dims": dims, "input_data_file": file}}
    return {"name": "photo-1", "batch_size": 1, "inputs": inputs}


def _calls(steps: Sequence[str], network: str, version: int) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Every model takes what the one before it gives; with the ensemble's input, and the name of its output."""
    kinds = [(step, 1, *STEPS[step.partition("_")[0]]) for step in steps]
    before = [kind for kind in kinds if kind[2] == layout.PREPROCESS]
    behind = [kind for kind in kinds if kind[2] == layout.POSTPROCESS]
    own = (network, version, layout.NETWORK, {"name": "INPUT__0"}, {"name": "OUTPUT__0"})
    chain = [*before, own, *behind]
    first, last = (before[0][3] if before else PIXELS), "PROBABILITIES"
    tensors = [str(first["name"]), *(f"BETWEEN_{place}" for place in range(1, len(chain))), last]
    calls = [
        {
            "model_name": model,
            "model_version": number,
            "input_map": {taken["name"]: tensors[place]},
            "output_map": {given["name"]: tensors[place + 1]},
        }
        for place, (model, number, _, taken, given) in enumerate(chain)
    ]
    return calls, first, last


def _fill(folder: Path, labels: Sequence[str] | None, files: Mapping[str, bytes]) -> None:
    version = folder / layout.VERSION_FOLDER
    version.mkdir(parents=True)
    if labels:
        (version / layout.LABELS).write_text("".join(f"{label}\n" for label in labels))
    for file, content in files.items():
        (version / file).write_bytes(content)


CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def _step(folder: Path, name: str, recipe: str) -> staging.StagedStep:
    role, taken, given = STEPS[name.partition("_")[0]]
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(CODE)
    (folder / layout.WARMUP_FOLDER).mkdir()
    (folder / layout.WARMUP_FOLDER / "photo").write_bytes(b"photo")
    text = _text(
        name=name,
        backend="python",
        max_batch_size=1024,
        input=[taken],
        output=[given],
        version_policy={"specific": {"versions": [1]}},
        instance_group=[{"kind": "KIND_CPU", "count": 1}],
        dynamic_batching={},
        model_warmup=[_warmup(taken["name"], taken["data_type"], [abs(side) for side in taken["dims"]], "photo")],
        parameters=_parameters({layout.ROLE: role, "recipe": recipe}),
    )
    (folder / layout.CONFIG).write_text(text)
    return staging.StagedStep(name, folder, role)


def publish_plan(
    repository: Path,
    name: str = "m",
    gpu: str = "NVIDIA H100",
    capability: str = "9.0",
    plan: bytes | None = None,
    facts: dict[str, str] | None = None,
    **changes: Any,
) -> None:
    """A TensorRT model as a machine with that GPU builds it."""
    content = plan if plan is not None else f"plan for {gpu}".encode()
    of_gpu = {"gpu": gpu, "compute_capability": capability, "driver": f"driver of {gpu}"}
    filename = layout.plan_filename(capability)
    publish_model(
        repository,
        name,
        files={filename: content},
        by_capability={capability: filename},
        facts=FACTS | of_gpu | (facts or {}),
        **changes,
    )
