"""Tables have columns for what the proof of a task says."""

import importlib

import pytest

from builder.commands import figures
from builder.tasks import TASKS


def test_only_what_a_row_has_is_a_column() -> None:
    rows: list[dict[str, float]] = [
        {"cosine": 0.9999, "max_abs_error": 1.0},
        {"found_agreement": 1.0, "artifact_map": 0.5, "network_map": 0.25},
    ]
    more = figures.columns(rows, figures.AGREEMENT + figures.QUALITY)
    assert [column.title for column in more] == ["FOUND", "COSINE", "MAP"]
    assert [figures.told(rows[0], column) for column in more] == [None, "0.999900", None]
    assert [figures.told(rows[1], column) for column in more] == ["100.00%", None, "0.5000"]
    assert figures.own(rows[1], more[2]) == "0.2500"
    assert figures.own(rows[1], more[0]) is None


PROVED_AS = {"text": ("embedding", "classification")}
"""Vectors and probabilities are, whatever they are of."""


@pytest.mark.parametrize("task", TASKS)
def test_every_tasks_proof_has_a_column(task: str) -> None:
    if task == "tensors":  # whose outputs are numbers of any kind: MAX ERROR tells of them
        return
    known = {column.figure for column in figures.AGREEMENT}
    for proved in PROVED_AS.get(task, (task,)):
        assert known & set(verification_of(proved).__annotations__)


def verification_of(task: str) -> type:
    module = importlib.import_module(f"builder.tasks.{task}.comparison")
    found: type = getattr(module, f"{task.title()}Verification")
    return found
