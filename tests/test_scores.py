"""What is asked of a network's own answers, on networks made by hand: rows of numbers for images."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_verify import ROWS, SIZES, Images
from torch import nn

from builder.errors import BuilderError, ExportError, VerificationError
from builder.tasks.classification import scores
from builder.tasks.classification.spec import Classification
from builder.tasks.classification.study import as_classifier

Forward = Callable[[torch.Tensor], torch.Tensor]


class Network(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.given = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.given(x)


def linear(x: torch.Tensor) -> torch.Tensor:
    return x @ torch.eye(4) * 3 - 1


def looked_at(forward: Forward, activation: str = "softmax", trained: bool = True) -> list[str]:
    module = as_classifier(Network(forward), activation)
    with torch.inference_mode():
        found = scores.scores_of(module, Images(ROWS), SIZES, "m")  # type: ignore[arg-type]
    scores.require_independence(module, found, "m")
    return scores.remarks(module, found[-1], ROWS[:1], trained, "m")


def alone_or_not(x: torch.Tensor) -> torch.Tensor:
    """Dividing by how many there are is another way to know of the others."""
    return linear(x) / len(x)


@pytest.mark.parametrize(
    ("forward", "kind", "message"),
    [
        (lambda x: linear(x).reshape(-1, 2), ExportError, r"gives \[2, 2\] for a batch of 1, .*x.flatten\(1\) is safe"),
        (lambda x: linear(x).squeeze(), ExportError, r"gives \[4\] for one image.*squeeze"),
        (lambda x: linear(x).reshape(1, -1), ExportError, r"gives \[1, 8\] for a batch of 2, where \[2, classes\]"),
        (lambda x: linear(x)[:2], ExportError, r"gives \[2, 4\] for a batch of 3"),
        (lambda x: linear(x).argmax(1, keepdim=True), ExportError, "floating-point numbers; this gives int64"),
        (lambda x: linear(x[[0, 1]]) if len(x) > 1 else linear(x), ExportError, "for a batch of 3"),
        (lambda x: x @ torch.eye(3), ExportError, "the network fails on 4 images: "),
        (lambda x: linear(x)[:1] + x.reshape(1, 4), ExportError, "a batch of 2 4 images, though not on one alone"),
        (lambda x: linear(x) * torch.rand(1), VerificationError, "run twice on the same images"),
        (lambda x: linear(x) - 0.2 * x.mean(0), VerificationError, "depends on the other images"),
        (lambda x: torch.cat([linear(x[:1]), linear(x[1:]) * 0.9]), VerificationError, "or on its place"),
        (alone_or_not, VerificationError, "`max_batch_size: 1`, with which each image is alone"),
        (lambda x: (x - x.mean(0)).bfloat16(), VerificationError, r"\(limit 0.3\)"),
        (lambda x: linear(x).softmax(1), VerificationError, "Set `activation: none`"),
        (lambda x: linear(x).softmax(1).bfloat16(), VerificationError, "Set `activation: none`"),
    ],
)
def test_refused(forward: Forward, kind: type[BuilderError], message: str) -> None:
    with pytest.raises(kind, match=message):
        looked_at(forward)


@pytest.mark.parametrize(
    "forward",
    [
        linear,
        lambda x: linear(x).bfloat16(),
        lambda x: linear(x).double(),
        lambda x: linear(x) + 1e-6 * len(x) * x,  # as kernels for other batch sizes round
        lambda x: linear(x) - linear(x).max(),  # the softmax does not see it
        lambda x: linear(x).log_softmax(1),
        lambda x: torch.cat([linear(x)[:, :3], torch.full((len(x), 1), -torch.inf)], 1),  # a class that is excluded
        lambda x: linear(x) * 0 + torch.arange(4),  # the same for every image
        lambda x: linear(x.mul_(2)),  # in place
    ],
)
def test_allowed_without_remark(forward: Forward) -> None:
    assert looked_at(forward) == []


def test_probabilities_are_right_without_softmax() -> None:
    assert looked_at(lambda x: linear(x).softmax(1), "none") == []
    with pytest.raises(VerificationError, match="depends on the other images"):
        looked_at(lambda x: (linear(x) - 0.2 * x.mean(0)).softmax(1), "none")


def test_sigmoids_are_told_by_what_computes_them() -> None:
    """Small scores of random weights lie between 0 and 1, too."""
    for trained in (True, False):
        (remark,) = looked_at(lambda x: linear(x).sigmoid().reshape(-1, 4), trained=trained)
        assert "forward() ends with a sigmoid" in remark
    (remark,) = looked_at(lambda x: x.mul_(2).sigmoid(), trained=False)
    assert "forward() ends with a sigmoid" in remark
    assert looked_at(lambda x: x / 2, trained=False) == []
    (remark,) = looked_at(lambda x: x / 2)
    assert "as behind a sigmoid" in remark


@pytest.mark.parametrize(
    ("classes", "keys", "way"),
    [
        (1, {}, "zeros_like"),
        (1, {"activation": "none"}, "1 - p"),
        (1, {"activation": "none"}, "`multilabel: true`"),
        (1, {}, "`activation: sigmoid`"),
        (0, {}, "no score"),
        (0, {"activation": "sigmoid"}, "no number"),
    ],
)
def test_one_class_is_none_between_which_to_choose(classes: int, keys: dict[str, Any], way: str) -> None:
    spec = Classification.model_validate(keys)
    with pytest.raises(VerificationError, match=way):
        scores.require_classes(classes, spec, "m")
    scores.require_classes(2, spec, "m")


@pytest.mark.parametrize("keys", [{"activation": "sigmoid"}, {"activation": "none", "multilabel": True}])
def test_one_class_may_be_right_or_not(keys: dict[str, Any]) -> None:
    scores.require_classes(1, Classification.model_validate(keys), "m")


def test_a_second_sigmoid_is_refused() -> None:
    with pytest.raises(VerificationError, match=r"second one would flatten.*`multilabel: true`"):
        looked_at(lambda x: linear(x).sigmoid(), activation="sigmoid")
    assert looked_at(linear, activation="sigmoid") == []


def test_the_advice_for_one_score_is_its_sigmoid() -> None:
    score = torch.randn(5, 1)
    assert torch.allclose(torch.cat([torch.zeros_like(score), score], 1).softmax(1)[:, 1:], score.sigmoid())
