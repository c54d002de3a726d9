"""The story: a manifest's entries become verified, configured, published models."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING

from builder import __version__, networks
from builder.build import stage
from builder.build.entry import Plan, plan, resolve_labels, resolve_recipe
from builder.build.portable import built_from
from builder.data.images import Evaluation, Picture, Tensors, evaluation, find, true_classes, unlabelled
from builder.data.recipe import PreprocessRecipe
from builder.data.sets import ImageSet
from builder.errors import BuilderError, ExportError, ManifestError, VerificationError
from builder.exporters import alternatives
from builder.networks.card import require_own
from builder.networks.classifier import as_classifier
from builder.networks.making import is_lazy, settled
from builder.repository import publish
from builder.steps import PREPROCESSORS, proof
from builder.tasks import scores, truths, verify
from builder.types import BuiltModel, Check, ExportRequest, Network, NetworkRequest, Report
from builder.util.reasons import place_of
from builder.util.usercode import border, undone

if TYPE_CHECKING:
    import torch

__all__ = ["Failure", "Outcome", "Plan", "Reference", "attempt", "build_model", "build_repository", "plan"]

MIN_IMAGES = 8


@dataclass(frozen=True)
class Failure:
    name: str
    error: BuilderError


@dataclass
class Outcome:
    built: list[BuiltModel] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def add(self, name: str, result: BuiltModel | BuilderError) -> None:
        if isinstance(result, BuiltModel):
            self.built.append(result)
        else:
            self.failed.append(Failure(name, result))


def build_repository(plans: Sequence[Plan], repository: Path, report: Report = lambda _: None) -> Outcome:
    """Build each plan; one that fails leaves the others and what is already served alone."""
    outcome = Outcome()
    for item in plans:
        outcome.add(item.name, attempt(item, repository, report))
        return_memory()
    return outcome


def attempt(plan: Plan, repository: Path, report: Report = lambda _: None) -> BuiltModel | BuilderError:
    """What building the plan ends with; the report's lines begin with its name."""
    repository = repository.absolute()  # one's own code may change the working folder
    try:
        with undone():
            return build_model(plan, repository, lambda step: report(f"{plan.name}: {step}"))
    except BuilderError as error:
        return error


@dataclass(frozen=True)
class Reference:
    """What the network itself gives, for artifacts to be held to."""

    recipe: PreprocessRecipe
    pictures: list[Picture]
    images: Evaluation
    probabilities: list[torch.Tensor]
    """float32 [images, classes] for each of the batch sizes"""
    labels: tuple[str, ...] | None
    trained: bool
    provenance: dict[str, str]
    warnings: tuple[str, ...] = ()
    """What may be right, and more often is not."""

    @property
    def classes(self) -> int:
        return self.probabilities[0].shape[1]


def build_model(plan: Plan, repository: Path, report: Report = lambda _: None) -> BuiltModel:
    """Network -> artifact -> checked -> configured -> published. Raises BuilderError; then nothing changed."""
    started = time.perf_counter()
    require_possible(plan)
    with publish.staging(repository) as staged:
        # Asked again when it is published; here, so that nothing is computed in vain.
        publish.refuse_others(repository, plan.name, {"network": plan.network_model})
        module, reference = study(plan, report)
        report(f"exporting to {plan.spec.format}")
        artifact, facts = export_network(plan, module, reference, staged / "network")
        # The artifact is loaded beside nothing else: the largest network decides the peak of memory.
        del module
        return_memory()
        report("verifying")
        check = check_artifact(plan, artifact, reference)
        verify.require(check, plan.limits, f"{plan.name} as {plan.spec.format}", reference.labels)
        report("publishing")
        size = artifact_bytes(artifact)
        provenance = reference.provenance | _build_facts(plan, artifact, reference, check) | facts
        image = next(reference.images.batches(1))[0]
        origin = built_from(plan, reference.recipe, provenance)
        largest = reference.recipe.max_bytes
        described = stage.Described(image, reference.classes, reference.labels, provenance, largest, origin)
        preprocess = stage.stage_preprocess(staged / "preprocess", reference.recipe, reference.pictures, plan.cores)
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
        trained=reference.trained,
        classes=reference.classes,
        artifact_bytes=size,
        seconds=time.perf_counter() - started,
        check=check,
        notes=tuple(f"weights: {said}" for said in [reference.provenance.get(networks.weights.READ_AS)] if said),
        warnings=reference.warnings,
    )


def require_possible(plan: Plan) -> None:
    """Raise ExportError if this machine cannot build the plan's target."""
    refusal = plan.exporter.refusal(plan.target)
    if refusal:
        raise ExportError(
            f"{plan.name} cannot be built here as {plan.spec.format} in {plan.target}: {refusal}. "
            f"Possible here {alternatives(plan.target, plan.spec.format, here=True)}"
        )


def study(plan: Plan, report: Report) -> tuple[torch.nn.Module, Reference]:
    """The network as a classifier, and all that its artifacts are held to. Raises BuilderError."""
    report("making the network")
    network = make_network(plan)
    recipe = resolve_recipe(plan, network)
    if remark := recipe.remark():
        report(f"note: {remark}")
    report("preprocessing the evaluation images")
    found = _pictures(plan, "images", plan.spec.images)
    check_preprocessing(plan, recipe, found)
    images = evaluation(found, recipe, max(MIN_IMAGES, plan.spec.max_batch_size))
    report("running the network")
    module = as_classifier(network.module, plan.spec.activation)
    scored = run_network(plan, module, images)
    probabilities = as_probabilities(plan, module, scored)
    classes = probabilities[0].shape[1]
    labels = resolve_labels(plan, network, classes)
    images = replace(images, classes=_true_classes(plan, images, labels, classes))
    warnings = _remarks(plan, module, scored[-1], images, labels, network.trained)
    provenance = dict(network.provenance)
    return module, Reference(recipe, found, images, probabilities, labels, network.trained, provenance, warnings)


def make_network(plan: Plan) -> Network:
    spec = plan.spec
    request = NetworkRequest(spec.network, plan.weights, spec.arguments, plan.manifest.path.parent)
    if plan.card and plan.weights.path:
        require_own(plan.card, plan.weights.path)
    network = networks.find(spec.network).make(request)
    if is_lazy(network.module):
        shape = resolve_recipe(plan, network).shape
        network = replace(network, module=settled(network.module, shape, plan.weights.seed, spec.network))
    if plan.card:
        scalars = {key: value for key, value in plan.card.metrics.items() if isinstance(value, int | float)}
        facts = {f"training_{key}": f"{value:.6g}" for key, value in scalars.items()}
        provenance = network.provenance | {"training_data": str(plan.card.data.get("name", ""))} | facts
        network = replace(network, recipe=plan.card.recipe, labels=plan.card.labels, provenance=provenance)
    return network


def _pictures(plan: Plan, key: str, images: ImageSet | None) -> list[Picture]:
    try:
        return find(images, plan.manifest.path.parent)
    except ManifestError as error:
        raise plan.manifest.error(str(error), "models", plan.name, key) from None


def _true_classes(
    plan: Plan, images: Evaluation, labels: tuple[str, ...] | None, classes: int
) -> tuple[int | None, ...]:
    try:
        return true_classes(images, labels, classes)
    except ManifestError as error:
        raise plan.manifest.error(str(error), "models", plan.name, "images") from None


def check_preprocessing(plan: Plan, recipe: PreprocessRecipe, found: Sequence[Picture]) -> None:
    """Hold the served step to the reference transform on the evaluation images. Raises BuilderError."""
    import numpy as np

    served = PREPROCESSORS[stage.PREPROCESSOR].function(recipe)
    reference = recipe.reference_transform()
    for picture in found[:MIN_IMAGES]:
        try:
            expected = reference(picture.decode(recipe)).numpy()
            tensor = served(picture.read())
        except ValueError as error:
            message = f"the recipe refuses {picture.name}: {error}"
            raise plan.manifest.error(message, "models", plan.name, "preprocess") from None
        except ManifestError as error:
            raise plan.manifest.error(str(error), "models", plan.name, "images") from None
        if not np.array_equal(tensor, expected):
            raise VerificationError(
                f"{plan.name}: the served preprocessing differs from torchvision's on {picture.name}"
            )
    if difference := proof.difference(recipe, PREPROCESSORS[stage.PREPROCESSOR]):
        raise VerificationError(f"{plan.name}: {difference}")


def run_network(plan: Plan, module: torch.nn.Module, images: Evaluation) -> list[torch.Tensor]:
    """The network's own scores, by batch size. Raises BuilderError."""
    import torch

    torch.set_num_threads(plan.build_threads)
    try:
        with torch.inference_mode():
            return scores.scores_of(module, images, verify.batch_sizes(plan.spec.max_batch_size), plan.name)
    except ManifestError as error:
        raise plan.manifest.error(str(error), "models", plan.name, "images") from None


def as_probabilities(plan: Plan, module: torch.nn.Module, scored: list[torch.Tensor]) -> list[torch.Tensor]:
    """What artifacts are held to, once it is known to be answers. Raises VerificationError."""
    scores.require_several(scored[0].shape[1], plan.spec.activation, plan.name)
    probabilities = [module.activation(rows) for rows in scored]  # type: ignore[operator]
    for rows in probabilities:
        verify.require_probabilities(rows, plan.name)
    scores.require_independence(module, scored, plan.name)
    return probabilities


def _remarks(
    plan: Plan,
    module: torch.nn.Module,
    scored: torch.Tensor,
    images: Evaluation,
    labels: tuple[str, ...] | None,
    trained: bool,
) -> tuple[str, ...]:
    """What to warn of. Raises VerificationError for what is certainly wrong."""
    found = scores.remarks(module, scored, next(images.batches(1)), trained, plan.name)
    found += unlabelled(images)
    if trained:  # random weights are right by chance
        found += truths.remarks(scored.argmax(1).tolist(), images.classes, scored.shape[1], labels)
    return tuple(found)


def export_network(
    plan: Plan, module: torch.nn.Module, reference: Reference, folder: Path
) -> tuple[Path, dict[str, str]]:
    """The artifact's path, in the folder of the version to come, and its facts. Raises ExportError."""
    artifact = folder / publish.VERSION_FOLDER / plan.exporter.FILENAME
    artifact.parent.mkdir(parents=True)
    example = next(reference.images.batches(2))
    request = ExportRequest(module, example, artifact, plan.target, _calibration(plan, reference.recipe))
    try:
        with border(ExportError, f"{plan.name} cannot be exported to {plan.spec.format}"):
            return artifact, _exported(plan, request)
    except ManifestError as error:
        raise plan.manifest.error(str(error), "models", plan.name, "calibration") from None


def _exported(plan: Plan, request: ExportRequest) -> dict[str, str]:
    try:
        return plan.exporter.export(request)
    except ExportError as error:
        raise ExportError(f"{plan.name} cannot be exported to {plan.spec.format}: {error}") from None
    except OSError as error:
        if place_of(error):  # forward() looks for a file
            raise
        raise ExportError(f"{plan.name}: {request.path} cannot be written: {error}") from None


def _calibration(plan: Plan, recipe: PreprocessRecipe) -> Tensors | None:
    if plan.spec.precision != "int8" or plan.spec.calibration is None:
        return None
    return Tensors(_pictures(plan, "calibration", plan.spec.calibration), recipe)


def check_artifact(plan: Plan, artifact: Path, reference: Reference) -> Check:
    """Read the artifact back and compare. Raises VerificationError."""
    sizes = verify.batch_sizes(plan.spec.max_batch_size)
    what = f"{plan.name} as {plan.spec.format}"
    try:
        with border(VerificationError, f"{what} cannot be read back"):  # by a runtime, with errors of its own
            predict = plan.exporter.load(artifact, plan.checked_target)
    except ExportError as error:  # trtexec runs what it has built
        raise VerificationError(f"{what} cannot be read back: {error}") from None
    results = verify.outputs(verify.held(predict, reference.classes, what), reference.images, sizes)
    return verify.compare(reference.probabilities, results, sizes, reference.images, plan.spec.precision)


def artifact_bytes(artifact: Path) -> int:
    return sum(file.stat().st_size for file in artifact.parent.iterdir())


def _build_facts(plan: Plan, artifact: Path, reference: Reference, check: Check) -> dict[str, str]:
    """What the published config records of the build, beside the network's own provenance."""
    versions = {f"{name}_version": package_version(name) for name in plan.exporter.VERSIONED}
    return (
        versions
        | {
            "builder": f"build-repo {__version__}",
            "built_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "format": plan.spec.format,
            "precision": plan.spec.precision,
            "trained": "true" if reference.trained else "false",
            "artifact_sha256": _digest(artifact),
        }
        | _figures(check)
    )


def _digest(artifact: Path) -> str:
    """SHA-256 of the file; of the list of files and theirs where the weights are in one of their own."""
    digests = {file.name: networks.weights.file_sha256(file) for file in sorted(artifact.parent.iterdir())}
    if len(digests) == 1:
        return digests[artifact.name]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()).hexdigest()


def _figures(check: Check) -> dict[str, str]:
    """What verification found, for whoever reads the config."""
    accuracy = {"network_accuracy": check.network_accuracy, "artifact_accuracy": check.artifact_accuracy}
    return {
        "evaluation_images": str(check.images),
        "max_abs_error": f"{check.max_abs_error:.3e}",
        "mean_abs_error": f"{check.mean_abs_error:.3e}",
        "noise": f"{check.noise:.3e}",
        "top1_agreement": f"{check.top1_agreement:.4f}",
        "top5_agreement": f"{check.top5_agreement:.4f}",
    } | {key: f"{value:.4f}" for key, value in accuracy.items() if value is not None}


def return_memory() -> None:
    """Freed weights back to the system, where the C library is one that can."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
