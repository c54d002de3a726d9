"""False alarms: repositories of the shapes of NVIDIA's own examples and tutorials, which no release refuses.

A case of tests/repositories/FINE has what tests/corpus.py says, "like" (whose shape it is), "targets", where fewer
releases than all have its backend, and "stand_in": false, where the real Python backend must fill in what the config
leaves out: it takes seconds, so that a stand-in loads the others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import corpus
import pytest
import stand_ins

from builder.check.run import check_repository
from builder.check.target import EMBEDDED, NEWEST, Target

CASES = [
    corpus.Case(file.parent, json.loads(file.read_text())) for file in sorted(corpus.FOLDER.glob("FINE/*/case.json"))
]
BACKENDS = (*stand_ins.NAMES, "fil", "identity", "repeat", "square", "stateful", "tensorrtllm", "vllm")


Courts = dict[bool, corpus.Court]


@pytest.fixture(scope="module")
def courts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courts]:
    """By whether a stand-in stands for the Python backend, too."""
    folder = tmp_path_factory.mktemp("fine")
    quick = stand_ins.backends(folder / "stand-ins", [*BACKENDS, "python"])
    real = stand_ins.backends(folder / "backends", BACKENDS)
    with corpus.court(folder / "quick", quick) as one, corpus.court(folder / "real", real) as other:
        yield {True: one, False: other}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_nothing_of_it_is_refused(case: corpus.Case) -> None:
    for release in case.told.get("targets") or [EMBEDDED.release, NEWEST.release]:
        options = dataclasses.replace(case.options, target=Target(release))
        refusals = [each for each in check_repository([case.folder], options).findings if each.is_refusal]
        assert not refusals, release


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_the_server_loads_it(case: corpus.Case, courts: Courts) -> None:
    assert case.server or case.told.get("why_not")
    court = courts[case.told.get("stand_in", True)]
    assert not [verdict for verdict in court.verdicts(case).values() if verdict.reason]
