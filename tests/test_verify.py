"""The comparison itself, on figures made by hand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from builder.errors import VerificationError
from builder.tasks.classification.comparison import (
    LIMITS,
    TIE,
    ClassificationVerification,
    compare,
    limits,
    require,
    require_probabilities,
)
from builder.tasks.classification.limits import Tolerance
from builder.tasks.images.running import batch_sizes, held, outputs


@dataclass
class Images:
    """Stands for an Evaluation: rows of numbers for pictures."""

    rows: torch.Tensor
    classes: tuple[int | None, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, count: int | None = None) -> Iterator[torch.Tensor]:
        yield from torch.split(self.rows[:count].clone(), size)  # decoded anew, as pictures are

    @property
    def views(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=f"picture {i}") for i in range(len(self.rows))]


ROWS = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
SIZES = batch_sizes(4)


def network(batch: torch.Tensor) -> torch.Tensor:
    return torch.softmax(batch * 1e-2, 1)  # nearly the same for every image, as if untrained


def check_of(
    artifact: object, reference: object = network, classes: tuple[int | None, ...] = (), precision: str = "fp32"
) -> ClassificationVerification:
    images = Images(ROWS, classes)
    return compare(*(outputs(f, images, SIZES) for f in (reference, artifact)), SIZES, images, precision)  # type: ignore[arg-type]


def test_batch_sizes() -> None:
    assert [batch_sizes(n) for n in (1, 2, 3, 8)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 8)]


@pytest.mark.parametrize("precision", LIMITS)
def test_equal_passes(precision: str) -> None:
    check = check_of(network)
    assert (check.max_abs_error, check.relative_error, check.noise) == (0, 0, 0)
    assert (check.top1_agreement, check.top5_agreement) == (1, 1)
    assert check.samples == 12
    require(check, LIMITS[precision], "model")


@pytest.mark.parametrize("precision", LIMITS)
def test_ignoring_the_input_fails_though_the_probabilities_hardly_differ(precision: str) -> None:
    check = check_of(lambda batch: network(ROWS[:1].expand_as(batch)))
    assert check.noise > 0.9
    with pytest.raises(VerificationError, match="of what the images change"):
        require(check, LIMITS[precision], "model")


def test_one_wrong_image_of_many_fails() -> None:
    """Untrained, so that the probabilities themselves differ by less than the absolute limit allows."""
    wrong = ROWS[5] * 1e-3

    def artifact(batch: torch.Tensor) -> torch.Tensor:
        return network(torch.where((batch == ROWS[5]).all(1, keepdim=True), wrong, batch))

    with pytest.raises(VerificationError, match="the largest error, as a share of what the images change"):
        require(check_of(artifact), limits("fp32", Tolerance.model_validate({"top1_agreement": 0})), "model")


def test_an_error_above_the_limit_fails() -> None:
    error = torch.tensor([2e-5, -2e-5, 0, 0])
    with pytest.raises(VerificationError, match=r"differ by up to 2\.\d+e-05 \(limit 1e-05\)"):
        require(check_of(lambda batch: network(batch) + error), LIMITS["fp32"], "model")


@pytest.mark.parametrize("precision", LIMITS)
def test_nan_fails(precision: str) -> None:
    with pytest.raises(VerificationError):
        require(check_of(lambda batch: network(batch) * float("nan")), LIMITS[precision], "model")


def certain(batch: torch.Tensor) -> torch.Tensor:
    return torch.softmax(batch * 30, 1)


def mistaken(batch: torch.Tensor) -> torch.Tensor:
    """Right but for one image, whose first two classes are exchanged."""
    rows = certain(batch)
    order = ROWS[3].argsort(descending=True)[:2]
    is_it = (batch == ROWS[3]).all(1)
    rows[is_it] = rows[is_it].index_copy(1, order, rows[is_it][:, order.flip(0)])
    return rows


def test_agreement_counts_images() -> None:
    check = check_of(mistaken, certain)
    assert check.top1_agreement == pytest.approx(1 - 4 / (4 + 4 + 4 + 12))  # it is among the first at each size
    assert check.top5_agreement == 1  # with four classes each is among the first five
    assert check.worst[0].image == "picture 3"
    assert (check.worst[0].expected, check.worst[0].found) == tuple(ROWS[3].argsort(descending=True)[:2].tolist())


def test_ties_agree() -> None:
    def tied(gap: float) -> torch.Tensor:
        return torch.tensor([0.4 + gap, 0.4 - gap, 0.1, 0.1])

    for gap, precision, agreement in ((TIE / 4, "int8", 1), (TIE, "int8", 0), (TIE / 4, "fp32", 0)):
        reference, artifact = (lambda b, g=g: tied(g).expand(len(b), 4) for g in (gap, -gap))
        assert check_of(artifact, reference, precision=precision).top1_agreement == agreement


def test_accuracy_is_that_of_labelled_images() -> None:
    truths = certain(ROWS).argmax(1).tolist()
    check = check_of(mistaken, certain, (None, *truths[1:]))
    assert check.network_accuracy == 1
    assert check.artifact_accuracy == pytest.approx(10 / 11)
    allowed = Tolerance.model_validate({"accuracy_loss": 0.05})
    with pytest.raises(VerificationError, match=r"accuracy falls from 100\.00% to 90\.91%, by 9\.09% \(limit 5\.00%\)"):
        require(check, allowed, "model")
    require(check, Tolerance.model_validate({"accuracy_loss": 0.1}), "model")
    assert check_of(mistaken, certain).artifact_accuracy is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_abs_error", 0.01), ("mean_abs_error", 1e-4), ("relative_error", 0.01), ("noise", 0.01),
        ("top1_agreement", 0.99),
    ],
)  # fmt: skip
def test_each_limit_of_the_manifest_counts(key: str, value: float) -> None:
    check = check_of(mistaken, certain)
    loose = {"max_abs_error": 1, "mean_abs_error": 1, "relative_error": 9, "noise": 9, "top1_agreement": 0}
    require(check, limits("fp32", Tolerance.model_validate(loose)), "model")
    with pytest.raises(VerificationError):
        require(check, limits("fp32", Tolerance.model_validate(loose | {key: value})), "model")


def test_what_is_not_set_keeps_the_precisions_limit() -> None:
    changed = limits("int8", Tolerance.model_validate({"top1_agreement": 0.5}))
    assert changed.top1_agreement == 0.5
    assert changed.max_abs_error == LIMITS["int8"].max_abs_error


def test_worst_images_are_told_by_label() -> None:
    with pytest.raises(VerificationError) as caught:
        require(check_of(mistaken, certain), LIMITS["fp32"], "model", ("cat", "dog", "cow", "hen"))
    assert "picture 3: network " in str(caught.value)
    expected, found = (("cat", "dog", "cow", "hen")[i] for i in ROWS[3].argsort(descending=True)[:2].tolist())
    assert f"network {expected} " in str(caught.value)
    assert f"artifact {found} " in str(caught.value)


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        (lambda batch: network(batch).double(), r"gives float64 \[1, 4\] for a batch of 1 image"),
        (lambda batch: network(batch).bfloat16(), r"gives bfloat16 .* promise float32 \[1, 4\]"),
        (lambda batch: network(batch)[:, :3], r"gives float32 \[1, 3\] .* promise float32 \[1, 4\]"),
        (lambda _: network(ROWS[:2]), r"gives float32 \[2, 4\] for a batch of 1 image"),
        (lambda batch: network(batch[:2]), r"gives float32 \[2, 4\] for a batch of 3 .* with a batch of 2"),
        (lambda batch: network(batch.reshape(2, 4)), "fails on a batch of 1 image: "),
    ],
)  # fmt: skip
def test_an_artifact_is_held_to_its_config(artifact: object, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        outputs(held(artifact, 4, "model"), Images(ROWS), SIZES)  # type: ignore[arg-type]


def test_images_are_tried_in_another_order() -> None:
    seen: list[torch.Tensor] = []

    def watched(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return network(batch)

    rows = outputs(watched, Images(ROWS), SIZES)  # type: ignore[arg-type]
    assert all(torch.allclose(found, network(ROWS)[: len(found)]) for found in rows)
    (three,) = [batch for batch in seen if len(batch) == 3]
    assert torch.equal(three, ROWS[[3, 2, 1]])


def several(batch: torch.Tensor) -> torch.Tensor:
    """Three labels, each by itself."""
    return (batch[:, :3] * 2).sigmoid()


def of_labels(artifact: Callable[[torch.Tensor], torch.Tensor], classes: int = 3) -> ClassificationVerification:
    images = Images(ROWS)
    rows = (outputs(lambda batch, f=f: f(batch)[:, :classes], images, SIZES) for f in (several, artifact))
    return compare(*rows, SIZES, images, is_multilabel=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [1, 3])
def test_labels_by_themselves_are_compared_by_their_odds(classes: int) -> None:
    found = of_labels(several, classes)
    assert (found.max_abs_error, found.noise, found.top1_agreement) == (0, 0, 1)
    require(found, LIMITS["fp32"], "model")
    ignoring = of_labels(lambda batch: several(ROWS[:1].expand_as(batch)), classes)
    assert ignoring.noise > 0.9
    with pytest.raises(VerificationError):
        require(ignoring, LIMITS["int8"], "model")


def test_one_label_that_changes_sides_is_another_answer() -> None:
    """Where one class alone is right, only the best would count."""
    scores = several(ROWS)
    moved = scores.clone()
    least = (scores - 0.5).abs().argmin()
    moved.view(-1)[least] = 1 - moved.view(-1)[least]
    answers = dict(zip(map(tuple, ROWS.tolist()), moved, strict=True))
    found = of_labels(lambda batch: torch.stack([answers[tuple(row)] for row in batch.tolist()]))
    assert found.top1_agreement < 1


@pytest.mark.parametrize(
    ("rows", "is_multilabel", "message"),
    [
        ([[0.2, 0.9]], False, "`multilabel: true`"),
        ([[0.2, 1.9]], True, "must give probabilities itself"),
        ([[0.2, float("nan")]], True, "NaN"),
    ],
)
def test_what_is_no_probability_is_refused(rows: list[list[float]], is_multilabel: bool, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        require_probabilities(torch.tensor(rows), is_multilabel, "m")


def test_several_at_once_need_not_sum_to_one() -> None:
    require_probabilities(torch.tensor([[0.2, 0.9], [0.0, 0.1]]), True, "m")
