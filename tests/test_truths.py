"""When labelled images speak against the labels."""

import pytest

from builder.tasks.classification.truths import remarks

LABELS = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("answers", "truths", "classes"),
    [
        ([0, 1, 2] * 4, [0, 1, 2] * 4, 3),  # right
        ([0] * 12, [0, 1, 2] * 4, 3),  # guessing
        ([1, 2, 0], [0, 1, 2], 3),  # too few to tell
        ([7] * 8, list(range(100, 108)), 1000),  # none right, as by chance
        ([1] * 6 + [1] * 6 + [2] * 6, [0] * 6 + [1] * 6 + [2] * 6, 3),  # one class is never seen as such
        ([5, 5], [None, None], 10),  # not labelled
        ([5, 5], [], 10),
    ],
)
def test_nothing_to_say(answers: list[int], truths: list[int | None], classes: int) -> None:
    assert remarks(answers, truths, classes, None) == []


def test_worse_than_guessing() -> None:
    (remark,) = remarks([1] * 20, [0] * 20, 2, ("no", "yes"))
    assert "right on 0 of 20 labelled images, fewer than guessing would get." in remark
    assert remarks([1] * 6, [0] * 6, 2, None) == []  # of 64 that guess, one does so


def test_an_order_that_is_better_than_guessing() -> None:
    """Two of ten labels exchanged: 80 % are right, and every answer of the two is wrong."""
    truths = [number for number in range(10) for _ in range(4)]
    answers = [{3: 4, 4: 3}.get(number, number) for number in truths]
    (remark,) = remarks(answers, truths, 10, None)
    assert "right on 32 of 40 labelled images; class 3 is taken for class 4, class 4 is taken for class 3." in remark
    (remark,) = remarks([1, 2, 0] * 6, [0, 1, 2] * 6, 3, LABELS)
    assert "'red' is taken for 'green', 'green' is taken for 'blue'" in remark
