"""What check says of hand-written repositories, a rule each, and what the real server says of the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import corpus
import pytest
import stand_ins

from builder.check.rules import table
from builder.check.target import EMBEDDED

CASES = corpus.cases()
NOT_WRITTEN = {
    "TMR699",  # a fault of a rule itself: tests/test_check_ensembles.py makes one
    "TMR990",  # of servers that were asked: tests/test_check_loading.py
    "TMR991",
}
"""Codes that no repository has by itself."""


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[corpus.Court]:
    folder = tmp_path_factory.mktemp("corpus")
    with corpus.court(folder, stand_ins.backends(folder / "backends")) as found:
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_told_as_the_server_tells_it(case: corpus.Case, court: corpus.Court, tmp_path: Path) -> None:
    report = case.report(case.copied(tmp_path / "case"))
    assert case.found(report) == case.finds, [finding.message for finding in report.findings]
    if case.options.target != EMBEDDED:
        return  # the server at hand is another one
    for model, verdict in court.verdicts(case).items():
        said = [finding.server for finding in case.refusals(report, model)]
        assert bool(said) == bool(verdict.reason), verdict
        if verdict.is_crash and case.may_crash:
            continue
        assert case.server[model] in verdict.reason, verdict
        if verdict.reason:
            assert any(words and words in verdict.reason for words in said), (verdict, said)


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert {case.code for case in CASES} <= set(table())
    found = {code for case in CASES for codes in case.finds.values() for code in codes if code == case.code}
    assert set(table()) == found | NOT_WRITTEN


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_for_its_rule(case: corpus.Case) -> None:
    codes = {code for found in case.finds.values() for code in found}
    assert case.code in codes or case.is_fine
    if case.is_fine:
        assert not any(code in table() and table()[code].level == "error" for code in codes)
        assert not any(case.server.values())
    assert case.server or case.told.get("why_not"), "what the server says of it, or why it is not asked"


def test_no_case_is_lost() -> None:
    """A folder without a case.json would be skipped in silence."""
    folders = {folder for folder in corpus.FOLDER.glob("TMR*/*") if folder.is_dir()}
    assert folders == {case.folder for case in CASES}
