"""What is done to an image before the network sees it: the recipe, resolved, and the served step held to it."""

from __future__ import annotations

from collections.abc import Sequence

from builder.data.images import ImageFile
from builder.data.recipe import PreprocessRecipe, resolved
from builder.errors import VerificationError
from builder.steps import STEPS, proof
from builder.tasks.images.labels import contradiction
from builder.tasks.task import Entry
from builder.types import Network

STEP = "pillow"
MIN_IMAGES = 8
# Keys of the recipe that say what the server accepts, not what the network sees.
SERVERS_OWN = {"max_bytes", "max_pixels", "frames"}


def resolve_recipe(entry: Entry, network: Network) -> PreprocessRecipe:
    """The weights' recipe with the entry's changes. Raises ManifestError.

    A card that is older than a key says nothing of it: the entry may.
    """
    overrides = entry.spec.preprocess
    trained = entry.card.recipe if entry.card else None
    for key in (overrides.model_fields_set - SERVERS_OWN) & trained.model_fields_set if trained else ():
        if getattr(overrides, key) != getattr(trained, key):
            raise entry.error(contradiction(getattr(trained, key)), "preprocess", key)
    return recipe_with(entry, network.recipe, network.recipe_missing)


COMMON = {
    "": "ImageNet's is {channels: 3, resize: 256, crop: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
    "detection": "YOLO's is {channels: 3, letterbox: 640, mean: [0, 0, 0], std: [1, 1, 1]}",
    "segmentation": "torchvision's segmenters have {channels: 3, resize: [520, 520], mean: [0.485, 0.456, 0.406], "
    "std: [0.229, 0.224, 0.225]}",
}
"""By task, what many networks were trained with."""


def recipe_with(entry: Entry, own: PreprocessRecipe | None, why: str = "") -> PreprocessRecipe:
    """A network's own recipe, if it has one, with the entry's changes. `why` it has none, if that is known.

    Raises ManifestError.
    """
    overrides = entry.spec.preprocess
    if own is None and not overrides.model_fields_set:
        said = COMMON.get(entry.spec.task, COMMON[""])
        reason = why or "nothing else tells how your network was trained"
        raise entry.error(f"preprocess: is needed in full, since {reason}; {said}")
    try:
        return resolved(own, overrides)
    except ValueError as error:
        raise entry.error(f"{error}; {why}" if why and own is None else str(error), "preprocess") from None


def hold_step(entry: Entry, recipe: PreprocessRecipe, images: Sequence[ImageFile]) -> None:
    """Hold the served step to the reference transform, on the evaluation images. Raises BuilderError."""
    step = STEPS[STEP]
    served, reference = step.function(recipe), recipe.reference_transform()
    for image in images[:MIN_IMAGES]:
        try:
            with entry.at("images"):
                expected = reference(image.decode(recipe)).numpy()
            tensor = served(image.read())
        except ValueError as error:
            raise entry.error(f"the recipe refuses {image.name}: {error}", "preprocess") from None
        if not recipe.agrees(tensor, expected):
            raise VerificationError(
                f"{entry.name}: the served preprocessing differs from torchvision's on {image.name}"
            )
    if difference := proof.difference(recipe, step):
        raise VerificationError(f"{entry.name}: {difference}")
