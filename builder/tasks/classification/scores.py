"""What a network itself gives: whether it is scores of each image, of that image alone, and the same every time.

Artifacts are held to the network, so that what is wrong with the network itself no comparison would show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.data.images import Evaluation
from builder.errors import ExportError, VerificationError
from builder.networks.outputs import require_scores
from builder.tasks.classification.comparison import LOG_FLOOR, LOG_NOISE
from builder.tasks.classification.spec import Classification
from builder.tasks.images.running import FEW, in_batches, outputs
from builder.util.usercode import border

if TYPE_CHECKING:
    import torch

    from builder.tasks.images.running import Rows

# How much of what the images themselves change an image's company may change. Kernels for other batch sizes add in
# another order, which was 1e-6 of it in torchvision's networks, and up to 4e-4 where images hardly differ; batch
# normalisation over the batch changes half of it. Scores of 8 to 11 bits are rounded more coarsely than that.
LIMIT = 0.02
HALF_LIMIT = 0.3
ROUNDINGS = 4
"""Steps of half precision that are rounding wherever they are."""
SUM_ERROR = 1e-5
HALF_SUM_ERROR = 2e-2
# What may stand between a network's last computation and its scores without changing them.
SHAPING = (
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Select",
    "Cat",
    "Stack",
    "ToCopy",
    "Clone",
)


def scores_of(module: torch.nn.Module, images: Evaluation, sizes: tuple[int, ...], name: str) -> list[torch.Tensor]:
    """A classifier's scores before its activation, float32 [images, classes], as `verify.outputs` arranges them.

    Raises ExportError where forward() fails or gives no row an image, and VerificationError where chance decides.
    """
    import torch

    predict = _without_activation(module, name)
    found = outputs(predict, images, sizes)
    again = in_batches(predict, torch.cat(list(images.batches(1, FEW))), sizes[0])
    difference = _difference(found[0][: len(again)], again, found[-1], _activation(module))
    if difference > _limit(found[-1]):
        raise VerificationError(
            f"{name}: the network gives other answers when it is run twice on the same images; they differ by "
            f"{_share(difference, found[-1])}. Chance must not decide in evaluation mode: give F.dropout "
            "training=self.training, and draw nothing with torch.rand and the like in forward()"
        )
    return found


def require_independence(module: torch.nn.Module, scores: list[torch.Tensor], name: str) -> None:
    """Raise VerificationError if an image's answer depends on the batch that it is in. `scores` are `scores_of`'s."""
    alone, *others = scores
    for other in others:
        count = min(len(alone), len(other))
        difference = _difference(alone[:count], other[:count], scores[-1], _activation(module))
        if difference > _limit(alone):
            raise VerificationError(
                f"{name}: the network's answer for an image depends on the other images of its batch, or on its "
                f"place among them; at other batch sizes it differs by {_share(difference, alone)}. The server forms "
                "batches of anybody's images. The usual causes are batch normalisation without running averages, "
                "attention over the batch (batch_first=False), a mean over dimension 0, and a branch on what is in the "
                "batch; mend forward(), or set "
                "`max_batch_size: 1`, with which each image is alone"
            )


def require_classes(classes: int, spec: Classification, name: str) -> None:
    """Raise VerificationError for a number of classes between which there is nothing to decide."""
    if classes > 1 or (classes and spec.is_multilabel):
        return
    what, two = (
        ("score", "[torch.zeros_like(score), score]") if spec.activation == "softmax" else ("number", "[1 - p, p]")
    )
    other = "`activation: sigmoid`" if spec.activation == "softmax" else "`multilabel: true`"
    raise VerificationError(
        f"{name}: the network gives {'one' if classes else 'no'} {what} an image, and with one class every image is "
        f"100 % of it: the softmax of one number is always 1. For the probability of a yes alone, set {other}; for two "
        f"classes, no and yes, give two from a callable of your own: torch.cat({two}, 1)"
        + ("; their softmax is the sigmoid of the score" if spec.activation == "softmax" else "")
    )


def remarks(module: torch.nn.Module, scores: torch.Tensor, image: torch.Tensor, trained: bool, name: str) -> list[str]:
    """What is odd about `scores` [images, classes] of a classifier with a softmax. `image` is [1, C, H, W].

    Raises VerificationError if they are probabilities already.
    """
    if _has_none(module) or scores.min() < 0 or scores.max() > 1:
        return []
    sums = (scores.sum(1) - 1).abs().max()
    if scores.shape[1] > 1 and sums <= (HALF_SUM_ERROR if _is_half(scores) else SUM_ERROR):
        raise VerificationError(
            f"{name}: the network gives probabilities itself (rows of 0 to 1 whose sum is 1), and a second "
            f"{_activation(module)} would flatten them: 0.99 of 1000 classes becomes 0.003. Set `activation: none`"
        )
    is_sigmoid = "igmoid" in _last_computation(module, image)
    if is_sigmoid and not _is_softmax(module):
        raise VerificationError(
            f"{name}: forward() ends with a sigmoid, and a second one would flatten its probabilities: 0.99 becomes "
            "0.73. Set `activation: none` and `multilabel: true`, or leave the sigmoid out of forward()"
        )
    if not is_sigmoid and not trained:
        return []  # random weights give whatever they give
    if not _is_softmax(module):
        return []  # scores near nothing, of any network that is not sure
    why = "forward() ends with a sigmoid" if is_sigmoid else "as behind a sigmoid"
    return [
        f"all scores of the network lie between 0 and 1 ({why}), and the softmax behind it flattens them: no "
        "probability can be far from the others. Leave the sigmoid out of forward(), or give probabilities that sum "
        "to 1 with `activation: none`; where several classes may be right at once, set `activation: sigmoid`"
    ]


def _without_activation(module: torch.nn.Module, name: str) -> Rows:
    """float32 scores, held to a row of them an image; whatever a user's forward() does is told of it."""

    def predict(batch: torch.Tensor) -> torch.Tensor:
        hint = "; it must take any number of images at once" if len(batch) > 1 else ""
        with border(ExportError, f"{name}: the network fails on {_described(batch)}", hint):
            given = module.network(batch)  # type: ignore[operator]
            require_scores(given, len(batch), name, ExportError)
        scores: torch.Tensor = given.float()
        return scores.clone()

    return predict


def _described(batch: torch.Tensor) -> str:
    shape = "x".join(map(str, batch.shape[1:]))
    return f"{shape} images" if len(batch) == 1 else f"a batch of {len(batch)} {shape} images, though not on one alone"


def _is_softmax(module: torch.nn.Module) -> bool:
    from torch import nn

    return isinstance(module.activation, nn.Softmax)


def _activation(module: torch.nn.Module) -> str:
    return type(module.activation).__name__.lower()


def _has_none(module: torch.nn.Module) -> bool:
    return _activation(module) == "identity"


def _difference(one: torch.Tensor, other: torch.Tensor, every: torch.Tensor, activation: str) -> float:
    """Largest difference between two runs on the same images, over the largest that images make; noise left out."""
    logs = _logarithms(every, activation)
    spread = (logs.amax(0) - logs.amin(0)).nan_to_num(nan=0, posinf=0).max()
    # Scores of minus infinity, which exclude a class, are equal.
    errors = (
        (_logarithms(one, activation) - _logarithms(other, activation)).abs().nan_to_num(nan=0, posinf=float("inf"))
    )
    error = (errors.max() - _noise(every)).clamp_min(0)
    return 0.0 if error == 0 else (error / spread).item()


def _logarithms(scores: torch.Tensor, activation: str) -> torch.Tensor:
    """Of the probabilities, from before they are rounded; what is added to a whole row does not count.

    Behind a sigmoid the scores are the logarithms of the odds already.
    """
    rows = scores.double()
    if activation == "sigmoid":
        return rows.nan_to_num()  # minus infinity excludes a class
    return rows.log_softmax(1) if activation == "softmax" else rows.clamp_min(LOG_FLOOR).log()


def _noise(scores: torch.Tensor) -> float:
    import torch

    size = scores.abs().nan_to_num(posinf=0).max().item()
    rounding = ROUNDINGS * torch.finfo(_half(scores) or torch.float32).eps
    return max(LOG_NOISE * max(1, size), rounding * size)


def _half(scores: torch.Tensor) -> torch.dtype | None:
    """The half precision that the scores were computed in, as far as their values tell."""
    import torch

    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(scores.to(dtype).to(scores.dtype), scores):
            return dtype
    return None


def _is_half(scores: torch.Tensor) -> bool:
    return _half(scores) is not None


def _limit(scores: torch.Tensor) -> float:
    return HALF_LIMIT if _is_half(scores) else LIMIT


def _share(difference: float, scores: torch.Tensor) -> str:
    return f"{difference:.2g} of what the images themselves change (limit {_limit(scores)})"


def _last_computation(module: torch.nn.Module, image: torch.Tensor) -> str:
    """autograd's name of what gave the scores, such as SigmoidBackward0; empty where it does not say."""
    import torch

    try:
        with border(ExportError, ""), torch.inference_mode(False), torch.enable_grad():
            changeable = image.clone().requires_grad_() + 0  # a leaf could not be changed in place
            given: Any = module.network(changeable)  # type: ignore[operator]
    except ExportError:  # what runs without gradients need not run with them
        return ""
    step: Any = given.grad_fn
    while step is not None and step.name().startswith(SHAPING):
        step = step.next_functions[0][0] if step.next_functions else None
    return str(step.name()) if step is not None else ""
