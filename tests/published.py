"""Models published by hand, for tests that need a repository and no network that computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.repository import layout, publish, staging
from builder.triton import model_config
from builder.triton.signature import TensorSpec

FACTS = {
    "network": "resnet18",
    "weights_sha256": "a" * 64,
    "format": "tensorrt",
    "precision": "fp16",
    "tensorrt_version": "10.16.1.11",
    "builder": "build-repo 1",
}


def publish_model(
    repository: Path,
    name: str = "m",
    *,
    files: dict[str, bytes] | None = None,
    backend: str = "tensorrt",
    platform: str = "",
    filename: str = layout.NO_PLAN,
    by_capability: dict[str, str] | None = None,
    labels: Sequence[str] | None = ("cat", "dog"),
    classes: int = 2,
    max_batch_size: int = 8,
    recipe: str = '{"crop": 32}',
    step: str = "preprocess_1",
    device: str = "gpu",
    facts: dict[str, str] | None = None,
) -> None:
    """One served model, by the templates and by the one way into a repository that there is."""
    facts = FACTS if facts is None else facts
    network, pixels = f"{name}_{backend}", TensorSpec("INPUT__0", "FP32", (3, 32, 32))
    shown: Any = model_config.QueuePolicy()

    def render_network(own: str, version: int) -> str:
        return model_config.render(
            "network",
            name=own,
            backend=backend,
            platform=platform,
            filename=filename,
            by_capability=by_capability or {},
            max_batch_size=max_batch_size,
            input=pixels,
            output=TensorSpec("OUTPUT__0", "FP32", (classes,)),
            labels=labels and f"{version}/labels.txt",
            versions=(version,),
            device=device,
            instances=1,
            queue=shown,
            warmup="photo-1",
            warmup_batches=[1],
            parameters=facts | {layout.ROLE: "network"},
        )

    def render_ensemble(own: str, version: int) -> str:
        return model_config.render(
            "ensemble",
            name=name,
            max_batch_size=max_batch_size,
            input=TensorSpec("IMAGE", "STRING", (1,)),
            output=TensorSpec("PROBABILITIES", "FP32", (classes,)),
            labels=labels and f"{version}/labels.txt",
            version=version,
            preprocess={"model": step, "version": 1, "input": "IMAGE", "output": "PIXELS"},
            network={"model": own, "version": version, "input": "INPUT__0", "output": "OUTPUT__0"},
            parameters=facts | {layout.ROLE: "ensemble"},
        )

    with staging.staging(repository) as staged:
        for role in ("network", "ensemble"):
            version = staged / role / layout.VERSION_FOLDER
            version.mkdir(parents=True)
            if labels:
                (version / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
        for file, content in (files or {}).items():
            (staged / "network" / layout.VERSION_FOLDER / file).write_bytes(content)
        (staged / "network" / layout.WARMUP_FOLDER).mkdir()
        (staged / "network" / layout.WARMUP_FOLDER / "photo-1").write_bytes(b"pixels")
        publish.publish(
            repository,
            _step(staged / "preprocess", step, recipe),
            staging.StagedNetwork(network, staged / "network", render_network),
            staging.StagedEnsemble(name, staged / "ensemble", render_ensemble),
        )


def _step(folder: Path, name: str, recipe: str) -> staging.StagedStep:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text("# preprocesses")
    text = model_config.render(
        "preprocess",
        name=name,
        max_batch_size=1024,
        input=TensorSpec("IMAGE", "STRING", (1,)),
        output=TensorSpec("PIXELS", "FP32", (3, 32, 32)),
        queue=model_config.QueuePolicy(),
        threads=1,
        warmup="photo",
        parameters={layout.ROLE: "preprocess", "recipe": recipe},
    )
    (folder / layout.CONFIG).write_text(text)
    return staging.StagedStep(name, folder)


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
