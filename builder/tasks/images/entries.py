"""What all tasks of encoded images ask of an entry, and make of its images."""

from __future__ import annotations

from builder.data.images import Evaluation, ImageFile, Tensors, evaluation, find
from builder.data.recipe import PreprocessRecipe
from builder.networks import callables
from builder.tasks.images.artifacts import require_size
from builder.tasks.images.preprocessing import MIN_IMAGES, hold_step, recipe_with
from builder.tasks.images.samples import ImageCalibration
from builder.tasks.task import Entry, Reference
from builder.types import Network, Report


def require_calibration(entry: Entry) -> None:
    """Raise ManifestError for int8 without images to learn from."""
    if entry.needs_calibration and entry.spec.calibration is None:
        raise entry.error(
            "int8 needs `calibration: {data: DIR, samples: 256}`: images like those to come, of which it learns the "
            "ranges of the activations, and not those of `images`",
            "precision",
        )


def require_recipe(entry: Entry) -> None:
    """Raise ManifestError where nothing will bring a recipe along, and the entry has no whole one."""
    is_bare = callables.matches(entry.spec.network) and not entry.card and not entry.weights.path
    if entry.artifact or is_bare:
        recipe_with(entry, None)


def evaluated(
    entry: Entry, network: Network, recipe: PreprocessRecipe, report: Report
) -> tuple[list[ImageFile], Evaluation]:
    """The images that the network is run on, which the served step is held to. Raises BuilderError."""
    if network.interface and entry.artifact:
        with entry.at("preprocess"):
            require_size(network.interface, recipe.shape, entry.artifact.path.name)
    if remark := recipe.remark():
        report(f"note: {remark}")
    report("preprocessing the evaluation images")
    with entry.at("images"):
        files = find(entry.spec.images, entry.base)
    hold_step(entry, recipe, files)
    images = evaluation(files, recipe, max(MIN_IMAGES, entry.spec.max_batch_size))
    report("running the network")
    return files, images


def calibrating(entry: Entry, recipe: PreprocessRecipe) -> Tensors | None:
    """The entry's images for int8, if it has some. Raises ManifestError."""
    if entry.spec.calibration is None:
        return None
    with entry.at("calibration"):
        return Tensors(find(entry.spec.calibration, entry.base), recipe)


def calibration(entry: Entry, reference: Reference) -> ImageCalibration | None:
    """The entry's images for int8, as the network's only input. Raises ManifestError."""
    images = calibrating(entry, reference.details.recipe)
    return ImageCalibration(images, reference.signature.inputs[0].name) if images is not None else None
