"""What people reported of broken repositories: a repository with the same fault for each, and the code that names it.

tests/reports/README.md is their table; each folder is a case as in tests/corpus.py, whose case.json has "report" (where
it stands), "fault" (in a sentence of ours), "model" (which of its models has it) and "code" (the right one) as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import corpus
import pytest
import stand_ins

from builder.check.rules import table
from builder.check.target import EMBEDDED

FOLDER = Path(__file__).parent / "reports"
CASES = [corpus.Case(file.parent, json.loads(file.read_text())) for file in sorted(FOLDER.glob("*/case.json"))]
ENOUGH = 0.95
SMALL_BYTES = 10_000


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[corpus.Court]:
    folder = tmp_path_factory.mktemp("reports")
    with corpus.court(folder, stand_ins.backends(folder / "backends")) as found:
        yield found


def is_diagnosed(case: corpus.Case, folder: Path) -> bool:
    findings = case.report(case.copied(folder / case.folder.name)).findings
    return case.told["code"] in corpus.by_model(findings).get(case.told["model"], ())


def test_reports_are_diagnosed_by_the_right_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missed = [case.told["report"] for case in CASES if not is_diagnosed(case, tmp_path)]
    share = 1 - len(missed) / len(CASES)
    with capsys.disabled():
        print(f"\n{len(CASES) - len(missed)} of {len(CASES)} reports are diagnosed by the right code ({share:.1%})")
    assert share >= ENOUGH, missed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
def test_the_server_says_of_it_what_check_says(case: corpus.Case, court: corpus.Court, tmp_path: Path) -> None:
    """As far as its core judges it; the backends' own rules are not at hand."""
    assert case.server or case.told.get("why_not")
    report = case.report(case.copied(tmp_path / "case"))
    if case.options.target == EMBEDDED:
        for model, verdict in court.verdicts(case).items():
            assert case.server[model] in verdict.reason, verdict
            if report.refuses(model):
                assert verdict.reason, report.findings


def test_the_table_has_every_report_once() -> None:
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| [")]
    told = [case.told for case in CASES]
    assert rows == [row(case) for case in CASES]
    assert len({each["report"] for each in told}) == len(told) >= 45
    assert {each["code"] for each in told} <= set(table())


def row(case: corpus.Case) -> str:
    told = case.told
    where = told["report"].replace("#", "/issues/")
    return f"| [{told['report']}](https://github.com/{where}) | {told['fault']} | {told['code']} |"


def test_they_are_small() -> None:
    assert all(file.stat().st_size < SMALL_BYTES for file in FOLDER.glob("*/**/*") if file.is_file())
