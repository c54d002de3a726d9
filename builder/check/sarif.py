"""Findings in the format that code hosts show beside the lines: SARIF 2.1.0 with its errata, of OASIS."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from builder.check.findings import Edit, Finding, Rule, Span
from builder.check.outcome import Outcome, shown_path
from builder.check.sources import Sources
from builder.util.shown import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "%SRCROOT%"
"""What paths begin at: the current folder, which a code host takes for the checkout's."""
FINGERPRINT = "buildRepoFinding/v1"
PAGE = "reference/codes.html"
"""Of the docs' site, with an anchor for each code."""


def record(outcome: Outcome, sources: Sources, version: str, docs: str = "") -> dict[str, Any]:
    """The whole file; `docs` is the address of the docs' site, if it has one."""
    findings = [finding for _, found in outcome.by_model() for finding in found]
    rules = {finding.rule.code: finding.rule for finding in findings}
    driver = {
        "name": "build-repo check",
        "semanticVersion": version,
        "rules": [_rule(rules[code], docs) for code in sorted(rules)],
    } | ({"informationUri": f"{docs.rstrip('/')}/check.html"} if docs else {})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {ROOT: {"description": {"text": "The folder that build-repo ran in."}}},
                "invocations": [{"executionSuccessful": True, "exitCode": 1 if findings else 0}],
                "results": _results(findings, sorted(rules), outcome, sources),
                "properties": {"target": outcome.options.target.release, "strict": outcome.options.strict},
            }
        ],
    }


def _rule(rule: Rule, docs: str) -> dict[str, Any]:
    described = {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": f"{rule.summary} {rule.why}"},
        "help": {"text": rule.mend, "markdown": f"**{rule.summary}** {rule.why}\n\n{rule.mend}"},
        "defaultConfiguration": {"level": str(rule.level)},
    }
    return described | ({"helpUri": f"{docs.rstrip('/')}/{PAGE}#{rule.code.lower()}"} if docs else {})


def _results(
    findings: Sequence[Finding], codes: Sequence[str], outcome: Outcome, sources: Sources
) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    results = []
    for finding in findings:
        same = "\0".join((finding.rule.code, finding.model, _uri(finding.path)["uri"], finding.message))
        seen[same] = seen.get(same, 0) + 1
        result = _result(finding, sources) | {"ruleIndex": codes.index(finding.rule.code)}
        # Lines move, and the finding is still the same one.
        result["partialFingerprints"] = {FINGERPRINT: _digest(f"{same}\0{seen[same]}")}
        if loading := outcome.loadings.get(finding.model):
            result["properties"]["loaded"] = not loading.reason if loading.is_asked else None
            result["properties"]["loadReason"] = printable(loading.reason)
        results.append(result)
    return results


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _result(finding: Finding, sources: Sources) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": _uri(finding.path)}
    if finding.span:
        physical["region"] = _region(finding.path, finding.span, sources)
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.model:
        location["logicalLocations"] = [{"name": printable(finding.model), "kind": "module"}]
    found: dict[str, Any] = {
        "ruleId": finding.rule.code,
        "level": str(finding.rule.level),
        "message": {"text": _message(finding)},
        "locations": [location],
        "properties": {"server": printable(finding.server), "mend": printable(finding.mend or finding.rule.mend)},
    }
    return found | ({"fixes": [_fix(finding, finding.span, sources)]} if finding.edits and finding.span else {})


def _message(finding: Finding) -> str:
    said = f" The server says: {printable(finding.server)}" if finding.server else ""
    return f"{printable(finding.message)}.{said}"


def _region(path: Path, span: Span, sources: Sources) -> dict[str, int]:
    text = sources.of(path)
    region = {"startLine": span.line, "startColumn": span.column}
    if not text.text or span.end > len(text.text):
        return region
    line, column = text.place(span.end, span)
    return region | {"endLine": line, "endColumn": column}


def _fix(finding: Finding, span: Span, sources: Sources) -> dict[str, Any]:
    text = sources.of(finding.path)

    def replaced(edit: Edit) -> dict[str, Any]:
        (line, column), (last, end) = text.place(edit.start, span), text.place(edit.end, span)
        region = {"startLine": line, "startColumn": column, "endLine": last, "endColumn": end}
        return {"deletedRegion": region, "insertedContent": {"text": edit.text}}

    changes = {"artifactLocation": _uri(finding.path), "replacements": [replaced(edit) for edit in finding.edits]}
    return {
        "description": {"text": printable(finding.mend or finding.rule.mend)},
        "artifactChanges": [changes],
    }


def _uri(path: Path) -> dict[str, str]:
    """From the current folder; in full for what lies elsewhere. Bytes that are no ASCII are escaped."""
    shown = shown_path(path)
    if not shown.is_absolute() and ".." not in shown.parts:
        return {"uri": _escaped(shown), "uriBaseId": ROOT}
    return {"uri": f"file://{_escaped(Path(os.path.abspath(path)))}"}  # noqa: PTH100  links stay what they are


def _escaped(path: Path) -> str:
    return quote_from_bytes(os.fsencode(path.as_posix()))
