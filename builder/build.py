"""The story: a manifest's entries become verified, configured, published models."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING

from builder import __version__, networks, publish, stage, verify
from builder.errors import BuilderError, ExportError, ManifestError, VerificationError
from builder.networks.classifier import as_classifier
from builder.plan import Plan, plan, resolve_labels, resolve_recipe
from builder.preprocessors import PREPROCESSORS
from builder.reasons import reason
from builder.recipe import PreprocessRecipe
from builder.resources import granted_cores
from builder.types import BuiltModel, Check, Network, NetworkRequest, Report

if TYPE_CHECKING:
    import torch

__all__ = ["Failure", "Outcome", "Plan", "build_model", "build_repository", "plan"]

MIN_IMAGES = 8


@dataclass(frozen=True)
class Failure:
    name: str
    error: BuilderError


@dataclass
class Outcome:
    built: list[BuiltModel] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def build_repository(plans: Sequence[Plan], repository: Path, report: Report = lambda _: None) -> Outcome:
    """Build each plan; one that fails leaves the others and what is already served alone."""
    outcome = Outcome()
    for item in plans:
        try:
            outcome.built.append(build_model(item, repository, partial(_report_of, report, item.name)))
        except BuilderError as error:
            outcome.failed.append(Failure(item.name, error))
        _return_memory()
    return outcome


def _report_of(report: Report, name: str, step: str) -> None:
    report(f"{name}: {step}")


def build_model(plan: Plan, repository: Path, report: Report = lambda _: None) -> BuiltModel:
    """Network -> artifact -> checked -> configured -> published. Raises BuilderError; then nothing changed."""
    started = time.perf_counter()
    with publish.staging(repository) as staged:
        report("making the network")
        network = make_network(plan)
        recipe = resolve_recipe(plan, network)
        report("preprocessing the evaluation images")
        files, images = evaluation_images(plan, recipe)
        check_preprocessing(plan, recipe, files)
        report("running the network")
        module = as_classifier(network.module, plan.spec.activation)
        references = run_network(plan, module, images)
        labels = resolve_labels(plan, network, classes=references[0].shape[1])
        report(f"exporting to {plan.spec.format}")
        artifact = export_network(plan, module, images[:2], staged / "network")
        trained, provenance = network.trained, network.provenance
        # The artifact is loaded beside nothing else: the largest network decides the peak of memory.
        del network, module
        _return_memory()
        report("verifying")
        check = check_artifact(plan, artifact, images, references)
        report("publishing")
        size = sum(file.stat().st_size for file in artifact.parent.iterdir())
        provenance |= _build_facts(plan, artifact, trained, check)
        described = stage.Described(images[0], references[0].shape[1], labels, provenance)
        preprocess = stage.stage_preprocess(staged / "preprocess", recipe, files)
        published = publish.publish(
            repository,
            preprocess,
            stage.stage_network(plan, staged / "network", described),
            stage.stage_ensemble(plan, staged / "ensemble", preprocess.name, described),
        )
    return BuiltModel(
        name=plan.name,
        version=published.version,
        network_model=published.network,
        preprocess_model=preprocess.name,
        format=plan.spec.format,
        precision=plan.spec.precision,
        trained=trained,
        classes=described.classes,
        artifact_bytes=size,
        seconds=time.perf_counter() - started,
        check=check,
    )


def make_network(plan: Plan) -> Network:
    spec = plan.spec
    request = NetworkRequest(spec.network, plan.weights, spec.arguments, plan.manifest.path.parent)
    return networks.find(spec.network).make(request)


def evaluation_images(plan: Plan, recipe: PreprocessRecipe) -> tuple[list[Path], torch.Tensor]:
    """The files to verify with, and as many of them as the largest batch needs, preprocessed."""
    try:
        files = verify.image_files(plan.spec.images and plan.manifest.resolve(plan.spec.images))
        return files, verify.evaluation_tensors(files, recipe, max(MIN_IMAGES, plan.spec.max_batch_size))
    except ManifestError as error:
        raise plan.manifest.error(str(error), "models", plan.name, "images") from None


def check_preprocessing(plan: Plan, recipe: PreprocessRecipe, files: Sequence[Path]) -> None:
    """Hold the served step to the reference transform on the evaluation images. Raises BuilderError."""
    import numpy as np

    served = PREPROCESSORS[stage.PREPROCESSOR].function(recipe)
    reference = recipe.reference_transform()
    for file in files[:MIN_IMAGES]:
        try:
            tensor = served(file.read_bytes())
        except ValueError as error:
            message = f"the recipe refuses {file}: {error}"
            raise plan.manifest.error(message, "models", plan.name, "preprocess") from None
        if not np.array_equal(tensor, reference(recipe.decode(file)).numpy()):
            raise VerificationError(f"{plan.name}: the served preprocessing differs from torchvision's on {file}")


def run_network(plan: Plan, module: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The network's own probabilities, by batch size, to hold artifacts to. Raises BuilderError."""
    import torch

    torch.set_num_threads(granted_cores())
    shape = "x".join(map(str, images.shape[1:]))
    try:
        with torch.inference_mode():
            output = module(images[:1])
            if not isinstance(output, torch.Tensor) or output.ndim != 2:
                given = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
                raise ExportError(f"{plan.name}: a classifier gives scores [B, classes]; this gives {given}")
            references = verify.outputs(module, images, verify.batch_sizes(plan.spec.max_batch_size))
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        raise ExportError(f"{plan.name}: the network fails on {shape} images: {reason(error)}") from None
    for rows in references:
        verify.require_probabilities(rows, plan.name)
    return references


def export_network(plan: Plan, module: torch.nn.Module, example: torch.Tensor, folder: Path) -> Path:
    """The artifact's path, in the folder of the version to come. Raises ExportError."""
    artifact = folder / publish.VERSION_FOLDER / plan.exporter.FILENAME
    artifact.parent.mkdir(parents=True)
    try:
        plan.exporter.export(module, example, artifact)
    except ExportError as error:
        raise ExportError(f"{plan.name} cannot be exported to {plan.spec.format}: {error}") from None
    except OSError as error:
        raise ExportError(f"{plan.name}: {artifact} cannot be written: {error}") from None
    except Exception as error:  # exporters meet whatever a user's forward() does
        raise ExportError(f"{plan.name} cannot be exported to {plan.spec.format}: {reason(error)}") from error
    return artifact


def check_artifact(plan: Plan, artifact: Path, images: torch.Tensor, references: list[torch.Tensor]) -> Check:
    """Read the artifact back and compare. Raises VerificationError."""
    sizes = verify.batch_sizes(plan.spec.max_batch_size)
    what = f"{plan.name} as {plan.spec.format}"
    try:
        results = verify.outputs(plan.exporter.load(artifact, granted_cores()), images, sizes)
    except Exception as error:  # a runtime's own errors: the artifact is at fault whatever they are
        raise VerificationError(f"{what} fails at batch sizes {sizes}: {reason(error)}") from error
    check = verify.compare(references, results, sizes)
    verify.require(check, what)
    return check


def _build_facts(plan: Plan, artifact: Path, trained: bool, check: Check) -> dict[str, str]:
    """What the published config records of the build, beside the network's own provenance."""
    versions = {f"{name}_version": package_version(name) for name in plan.exporter.VERSIONED}
    return versions | {
        "builder": f"build-repo {__version__}",
        "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "format": plan.spec.format,
        "precision": plan.spec.precision,
        "trained": "true" if trained else "false",
        "artifact_sha256": networks.weights.file_sha256(artifact),
        "max_abs_error": f"{check.max_abs_error:.3e}",
    }


def _return_memory() -> None:
    """Freed weights back to the system, where the C library is one that can."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
