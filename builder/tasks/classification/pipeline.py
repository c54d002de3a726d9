"""What stands around a classifier on the server: an encoded image goes in, probabilities come out."""

from __future__ import annotations

from pathlib import Path

from builder.data.recipe import PreprocessRecipe
from builder.repository import layout
from builder.steps import STEPS
from builder.steps.staging import stage_step
from builder.tasks.classification.comparison import limits
from builder.tasks.images import photos
from builder.tasks.images.preprocessing import STEP
from builder.tasks.task import Call, Entry, Pipeline, Reference
from builder.triton.signature import PROBABILITIES_OUTPUT, Signature, TensorSpec


def pipeline(entry: Entry, reference: Reference, folder: Path) -> Pipeline:
    """Preprocessing, then the network: one ensemble."""
    recipe: PreprocessRecipe = reference.details.recipe
    step, network = STEPS[STEP], reference.signature
    (image,), (pixels,) = step.signature(recipe).inputs, step.signature(recipe).outputs
    ((given,), (scores,)) = network.inputs, network.outputs
    staged = stage_step(folder / STEP, step, recipe, photos.warmup(recipe, reference.details.files), entry.cores)
    return Pipeline(
        signature=Signature((image,), (TensorSpec(PROBABILITIES_OUTPUT, "FP32", scores.shape),)),
        calls=(
            Call({image.name: image.name}, {pixels.name: pixels.name}, staged),
            Call({given.name: pixels.name}, {scores.name: PROBABILITIES_OUTPUT}),
        ),
        labels=reference.labels,
        labelled=frozenset({scores.name, PROBABILITIES_OUTPUT}),
        parameters=_for_clients(entry, reference, recipe),
        built_from={"preprocess": recipe.model_dump(mode="json"), "tolerance": _tolerance(entry)},
    )


def _tolerance(entry: Entry) -> dict[str, float]:
    allowed = limits(entry.spec.precision, entry.spec.tolerance)
    found: dict[str, float] = allowed.model_dump(mode="json", exclude_none=True)
    return found


def _for_clients(entry: Entry, reference: Reference, recipe: PreprocessRecipe) -> dict[str, str]:
    """`activation` says what the probabilities are, wherever they are computed: sigmoid if several may be right."""
    kind = "sigmoid" if reference.details.is_multilabel else entry.spec.activation
    return {layout.ACTIVATION: kind, layout.MAX_IMAGE_BYTES: str(recipe.max_bytes)}
