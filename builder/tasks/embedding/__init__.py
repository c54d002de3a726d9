"""One encoded image to a vector: any network, as it is or up to one of its layers. The module is a `Task`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from builder.data.recipe import PreprocessRecipe
from builder.repository import layout
from builder.steps import STEPS
from builder.steps.staging import stage_step
from builder.tasks.embedding import comparison
from builder.tasks.embedding.limits import limits
from builder.tasks.embedding.spec import Embedding
from builder.tasks.embedding.study import head, study
from builder.tasks.images import photos
from builder.tasks.images.artifacts import require_embedder
from builder.tasks.images.entries import calibration, require_calibration, require_recipe
from builder.tasks.images.preprocessing import STEP
from builder.tasks.images.running import batch_sizes, held, outputs
from builder.tasks.spec import ModelSpec
from builder.tasks.task import Call, Entry, Example, Pipeline, Reference
from builder.triton.signature import EMBEDDING_OUTPUT, IMAGE_INPUT, Signature, TensorSpec
from builder.types import Predict, Verification

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = Embedding
HAS_STEPS = True
NORMALIZE = "normalize"


def require(entry: Entry) -> None:
    """Raise ManifestError for what can be told before anything is made."""
    spec: Embedding = entry.spec
    if entry.artifact:
        for key, said in (("layer", spec.layer), ("normalize", spec.normalize != "none")):
            if said:
                name = entry.artifact.path.name
                raise entry.error(f"{name} is served as it is; save it so, and leave {key} out", key)
        with entry.at("artifact"):
            require_embedder(entry.artifact)
    require_calibration(entry)
    require_recipe(entry)


def verify(entry: Entry, reference: Reference, predict: Predict) -> Verification:
    """Raises VerificationError where the artifact fails, or gives something else than such vectors."""
    sizes = batch_sizes(entry.spec.max_batch_size)
    (given,), (vectors,) = reference.signature.inputs, reference.signature.outputs
    what = f"{entry.name} as {entry.spec.format}"
    run = held(lambda batch: predict({given.name: batch})[vectors.name], vectors.shape[0], what)
    found = outputs(run, reference.details.images, sizes)
    names = [view.name for view in reference.details.images.views]
    return comparison.compare(reference.answers, found, sizes, names, entry.spec.precision)


def hold(entry: Entry, reference: Reference, verification: Verification, what: str) -> None:
    """Raise VerificationError, with the figures, unless they are within the limits."""
    del reference
    assert isinstance(verification, comparison.EmbeddingVerification)
    comparison.require(verification, limits(entry.spec.precision, entry.spec.tolerance), what)


def examples(entry: Entry, reference: Reference, predict: Predict) -> Iterator[Example]:
    """Photos of this package; one of the user's if the recipe refuses these."""
    import torch

    del entry
    recipe = reference.details.recipe
    ((given,), (vectors,)) = reference.signature.inputs, reference.signature.outputs
    for image in photos.accepted(recipe, reference.details.files):
        pixels = torch.as_tensor(STEPS[STEP].function(recipe)(image)).unsqueeze(0)
        yield Example({IMAGE_INPUT: image}, {EMBEDDING_OUTPUT: predict({given.name: pixels})[vectors.name].clone()})


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """Preprocessing, then the network: one ensemble."""
    recipe: PreprocessRecipe = reference.details.recipe
    step, network = STEPS[STEP], reference.signature
    (image,), (pixels,) = step.signature(recipe).inputs, step.signature(recipe).outputs
    ((given,), (vectors,)) = network.inputs, network.outputs
    photo = photos.warmup(recipe, reference.details.files)
    staged = stage_step(folder / STEP, step, recipe, photo, entry.cores)
    allowed = limits(entry.spec.precision, entry.spec.tolerance)
    return Pipeline(
        signature=Signature((image,), (TensorSpec(EMBEDDING_OUTPUT, "FP32", vectors.shape),)),
        calls=(
            Call({image.name: image.name}, {pixels.name: pixels.name}, staged),
            Call({given.name: pixels.name}, {vectors.name: EMBEDDING_OUTPUT}),
        ),
        parameters={NORMALIZE: entry.spec.normalize, layout.MAX_IMAGE_BYTES: str(recipe.max_bytes)},
        built_from={
            "preprocess": recipe.model_dump(mode="json"),
            "tolerance": allowed.model_dump(mode="json", exclude_none=True),
        },
    )
