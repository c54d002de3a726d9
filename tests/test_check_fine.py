"""False alarms: repositories of the shapes of NVIDIA's own examples and tutorials, which no release refuses.

A case of tests/repositories/FINE has what tests/corpus.py says, "like" (whose shape it is) and "targets", where fewer
releases than all have its backend.
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


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[corpus.Court]:
    folder = tmp_path_factory.mktemp("fine")
    with corpus.court(folder, stand_ins.backends(folder / "backends", BACKENDS)) as found:
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_nothing_of_it_is_refused(case: corpus.Case) -> None:
    for release in case.told.get("targets") or [EMBEDDED.release, NEWEST.release]:
        options = dataclasses.replace(case.options, target=Target(release))
        refusals = [each for each in check_repository([case.folder], options).findings if each.is_refusal]
        assert not refusals, release


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_the_server_loads_it(case: corpus.Case, court: corpus.Court) -> None:
    assert case.server or case.told.get("why_not")
    assert not [verdict for verdict in court.verdicts(case).values() if verdict.reason]
