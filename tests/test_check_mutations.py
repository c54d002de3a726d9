"""check's verdict on models that are broken by chance, held to the real server's; other ones each week.

`python tests/mutating.py --help` shows where they differ.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import mutating
import pytest
import stand_ins
from mutation_seeds import HERE, SEEDS, Part
from mutations import Mutation, mutated

from builder.check.config import schema
from builder.check.load import Verdict, judged
from builder.check.run import CheckOptions, check_repository
from builder.check.target import EMBEDDED

SEED = int(os.environ.get("BUILD_REPO_MUTATIONS_SEED") or mutating.this_week())
COUNT = 2000
AGREEMENT = 0.995
MANY = 5000
MORE = 6
"""Seeds of so many, when time does not matter; the first are this week's."""


def _hold(seed: int, count: int, folder: Path, tell: Callable[[str], None]) -> None:
    outcome = mutating.run(seed, count, folder, stand_ins.backends(folder / "backends"))
    tell(outcome.summary())
    assert not outcome.false_refusals, outcome.told()
    assert outcome.agreement >= AGREEMENT, outcome.told()


def test_mutations_are_told_as_the_server_tells_them(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """It takes half a minute of processor time: the server loads thousands of models."""
    _hold(SEED, COUNT, tmp_path, tell)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(MORE))
def test_many_mutations_are_told_as_the_server_tells_them(
    number: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    _hold(SEED + 1000 * number, MANY, tmp_path, tell)


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_mutated_loads(strict: bool, tmp_path: Path) -> None:
    """Or else a mutation would change nothing about the verdict."""
    for name, seed in SEEDS.items():
        mutating.write(Mutation(seed, (), ""), tmp_path / "models", name)
    names = sorted(folder.name for folder in (tmp_path / "models").iterdir())
    told = list(judged(tmp_path / "models", names, stand_ins.backends(tmp_path / "backends"), strict))
    assert told == [Verdict(name, "") for name in names]


def test_a_seed_stands_for_the_same_mutations() -> None:
    first, second = ([mutated(random.Random(seed), SEEDS["chain"]) for seed in range(20)] for _ in range(2))
    assert first == second
    assert len({each.told for each in first}) > 10


def test_all_fields_are_mutated() -> None:
    chance = random.Random(1)
    found = {where for _ in range(3000) for where in mutated(chance, chance.choice(list(SEEDS.values()))).where}
    config = set(schema().ModelConfig.DESCRIPTOR.fields_by_name)
    assert config | {"text", "versions", "dims", "model_name"} <= found


def test_a_disagreement_is_told_with_what_both_say() -> None:
    part = Part(f'name: "{HERE}"')
    mutation = Mutation({"": part}, ("name",), "model: name = 'x'")
    missed = mutating.Judged(mutation, "m1", False, part.text, (), Verdict("m1", "no such 'thing'"))
    fine = mutating.Judged(mutation, "m2", False, part.text, (), Verdict("m2", ""))
    outcome = mutating.Outcome(7, [missed, fine])
    assert outcome.agreement == 0.5
    assert not outcome.false_refusals
    assert "MISSED 1 times: no such _" in outcome.told()
    assert "server: no such 'thing'" in outcome.told()


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "pytorch", "tensorrt", "tensorflow", "python", "own"])
def test_names_too_long_for_a_file_are_told(backend: str, tmp_path: Path) -> None:
    """Python raises where it is asked for them, and the server does not."""
    long = "z" * 300
    text = f'backend: "{backend}" default_model_filename: "{long}" '
    text += f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{long}" }} }} '
    seed = {"": Part(text), "r": Part(f'{text} runtime: "{long}"')}
    mutating.write(Mutation(seed, (), ""), tmp_path / "models", "m")
    report = check_repository([tmp_path / "models"], CheckOptions(EMBEDDED))
    assert set(report.models) == {"m", "mr"}
    assert not [finding for finding in report.findings if "could not be judged" in finding.rule.summary]
