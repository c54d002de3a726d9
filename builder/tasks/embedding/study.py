"""What the network itself gives for the evaluation images, once it is known to be vectors of single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.data.images import Evaluation, ImageFile
from builder.data.recipe import PreprocessRecipe
from builder.errors import ExportError, VerificationError
from builder.networks import layers
from builder.networks.artifact import alone
from builder.networks.heads import with_head
from builder.networks.making import settled
from builder.networks.outputs import described
from builder.tasks.embedding import comparison
from builder.tasks.embedding.spec import Embedding
from builder.tasks.images.entries import evaluated
from builder.tasks.images.preprocessing import resolve_recipe
from builder.tasks.images.running import FEW, batch_sizes, in_batches, outputs
from builder.tasks.images.samples import ImageSamples
from builder.tasks.task import Entry, Reference
from builder.triton.interface import own_names
from builder.triton.signature import NETWORK_INPUT, NETWORK_OUTPUT, Signature, TensorSpec
from builder.types import Network, Report
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch
    from torch import nn

CHANCE = (
    "the network gives other vectors when it is run twice on the same images. Chance must not decide in evaluation mode"
)
COMPANY = (
    "an image's vector depends on the other images of its batch, and the server forms batches of anybody's images. The "
    "usual causes are batch normalisation without running averages and attention over the batch (batch_first=False); "
    "mend forward(), or set `max_batch_size: 1`"
)
LIMIT = 0.02
HALF_LIMIT = 0.3
"""How much of what the images change a second run, or the company of an image, may change."""
ALIKE = 1e-4
"""Of the vectors' length: images that are no further apart are the same to the network."""


@dataclass(frozen=True)
class Details:
    """What the task keeps of its study for later."""

    recipe: PreprocessRecipe
    files: list[ImageFile]
    images: Evaluation


def study(entry: Entry, network: Network, report: Report) -> tuple[nn.Module, Reference]:
    """The network as it is served, and all that its artifacts are held to. Raises BuilderError."""
    recipe = resolve_recipe(entry, network)
    files, images = evaluated(entry, network, recipe, report)
    module = _head(entry, network, recipe)
    vectors = _vectors(entry, module, images)
    if entry.spec.layer and not entry.artifact:
        _hold_layer(entry, network, images, vectors[-1])
    signature = _signature(network, recipe, vectors[-1].shape[1])
    return module, Reference(
        signature=signature,
        samples=ImageSamples(images, signature.inputs[0].name),
        answers=vectors,
        trained=network.trained,
        provenance=dict(network.provenance),
        warnings=tuple(_remarks(vectors[-1])),
        is_widened=True,
        details=Details(recipe, files, images),
    )


def head(entry: Entry, network: Network, reference: Reference) -> nn.Module:
    return _head(entry, network, reference.details.recipe)


def _head(entry: Entry, network: Network, recipe: PreprocessRecipe) -> nn.Module:
    spec: Embedding = entry.spec
    if entry.artifact:
        module = alone(network.module)
    else:
        module = settled(network.module, recipe.shape, entry.weights.seed, spec.network)
        module = layers.ended(module, spec.layer, spec.network) if spec.layer else module
    return with_head(module, (NETWORK_INPUT,), _row, _unit() if spec.normalize == "l2" else None)


def _row(result: Any) -> tuple[torch.Tensor, ...]:
    """[B, D] or [B, D, 1, 1] as [B, D], float32. Raises VerificationError for what is no vector an image."""
    import torch

    if isinstance(result, torch.Tensor) and result.is_floating_point():
        if result.ndim == 2:
            return (result.float(),)
        if result.ndim == 4 and result.shape[2] == 1 and result.shape[3] == 1:
            return (result.flatten(1).float(),)
    raise VerificationError(
        f"an embedding is one vector an image, [B, D]; this gives {described(result)}{_way(result)}"
    )


def _way(result: Any) -> str:
    if getattr(result, "ndim", 0) == 4:
        return "; end the network behind its pooling, such as `layer: flatten` or `layer: avgpool`"
    if getattr(result, "ndim", 0) == 3:
        return "; give one of the tokens, or their mean, from a callable of your own"
    return "; name a layer that gives one, or a callable whose module does"


def _unit() -> nn.Module:
    from torch import nn

    class Unit(nn.Module):
        """Each row divided by its length, which is not nothing."""

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows / rows.square().sum(1, keepdim=True).sqrt()

    return Unit()


def _signature(network: Network, recipe: PreprocessRecipe, size: int) -> Signature:
    pixels = TensorSpec(NETWORK_INPUT, "FP32", recipe.shape)
    own = Signature((pixels,), (TensorSpec(NETWORK_OUTPUT, "FP32", (size,)),))
    return own_names(own, network.interface) if network.interface else own


def _vectors(entry: Entry, module: nn.Module, images: Evaluation) -> list[torch.Tensor]:
    """The network's vectors, float32 [images, D] by batch size. Raises BuilderError."""
    import torch

    def predict(batch: torch.Tensor) -> torch.Tensor:
        with border(ExportError, f"{entry.name}: the network fails on a batch of {len(batch)} images"):
            rows: torch.Tensor = module(batch)
        if len(rows) != len(batch):
            raise VerificationError(f"{entry.name}: the network gives {len(rows)} vectors for {len(batch)} images")
        return rows

    sizes = batch_sizes(entry.spec.max_batch_size)
    with entry.at("images"), torch.inference_mode():
        found = outputs(predict, images, sizes)
        _require_finite(entry.name, found, entry.spec.normalize)
        few = torch.cat(list(images.batches(1, FEW)))
        again = in_batches(predict, few, sizes[0])
    _require_same(found[0][: len(again)], again, found[-1], f"{entry.name}: {CHANCE}")
    for other in found[1:]:
        count = min(len(found[0]), len(other))
        _require_same(found[0][:count], other[:count], found[-1], f"{entry.name}: {COMPANY}")
    return found


def _require_finite(name: str, found: Sequence[torch.Tensor], normalize: str) -> None:
    import torch

    if all(torch.isfinite(rows).all() for rows in found):
        return
    zero = " A vector of zeros has no length to divide by: `normalize: none`." if normalize == "l2" else ""
    raise VerificationError(
        f"{name}: the network itself gives NaN or infinite numbers for real images; its weights are damaged, or the "
        f"recipe is not the one it was trained with.{zero}"
    )


def _require_same(first: torch.Tensor, second: torch.Tensor, whole: torch.Tensor, message: str) -> None:
    import torch

    is_half = any(torch.equal(whole.to(kind).float(), whole) for kind in (torch.float16, torch.bfloat16))
    difference = (first.double() - second.double()).norm(dim=1).max()
    share = (difference / _scale(whole)).item()
    if share > (HALF_LIMIT if is_half else LIMIT):
        raise VerificationError(f"{message}; they differ by {share:.2g} of what the images themselves change")


def _scale(vectors: torch.Tensor) -> torch.Tensor:
    """What the images change, and no less than what rounding does."""
    return comparison.spread(vectors).clamp_min(1e-5 * vectors.double().norm(dim=1).max())


def _hold_layer(entry: Entry, network: Network, images: Evaluation, vectors: torch.Tensor) -> None:
    """Hold the network that ends at the layer to what that module gives in the whole one. Raises VerificationError.

    A node of the graph that is no module is known to the graph alone.
    """
    import torch

    module, layer = network.module, entry.spec.layer
    if layer not in dict(module.named_modules()):
        return
    batch = next(images.batches(min(FEW, len(images))))
    with torch.inference_mode():
        whole = _row(layers.given(module, layer, batch))[0]
        whole = _unit()(whole) if entry.spec.normalize == "l2" else whole
    _require_same(vectors[: len(whole)], whole, vectors, f"{entry.name}: the network that ends at {layer} gives "
                  "something else than that layer does in the whole network")  # fmt: skip


def _remarks(vectors: torch.Tensor) -> list[str]:
    length = vectors.double().norm(dim=1).max()
    if len(vectors) > 1 and comparison.spread(vectors) <= ALIKE * length:
        return [
            "the network gives nearly the same vector for every picture; its weights may not be trained, or the "
            "recipe is not the one they were trained with"
        ]
    return []
