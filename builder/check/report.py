"""What people read: findings by model, each with its place, the server's words, why, the mend, and the line itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from builder.check.findings import Finding, Span
from builder.check.outcome import Outcome, place, shown_path
from builder.check.rules.loading import RULES as LOADING
from builder.check.sources import Sources
from builder.util.shown import printable

MOST = 20
"""Findings of one rule in one model that are shown."""
WIDEST = 100
"""Characters of a source line that are shown around a place."""
BEFORE = 60
"""Of those, how many stand before it."""


def lines(outcome: Outcome, sources: Sources) -> Iterator[str]:
    """The whole report; nothing where nothing was found, mended or asked."""
    for finding in outcome.mended:
        yield f"{printable(place(finding))}: mended {_title(finding)}"
    if outcome.mended and outcome.report.findings:
        yield ""
    for model, found in outcome.by_model():
        yield from _model(found, sources)
        loading = outcome.loadings.get(model)
        if loading and loading.is_asked and not any(finding.rule in LOADING for finding in found):
            said = f"refused it: {printable(loading.reason)}" if loading.reason else "loaded it"
            yield f"{printable(model)}: the embedded server {said}"
        yield ""
    if silent := [printable(name) for name, loading in outcome.loadings.items() if not loading.is_asked]:
        yield f"the embedded server lacks the backends of {', '.join(silent)}"
    if outcome.report.findings:
        yield outcome.summary()


def _model(found: Sequence[Finding], sources: Sources) -> Iterator[str]:
    """One fault may be in a list thousands of times."""
    told: Counter[str] = Counter()
    for finding in found:
        told[finding.rule.code] += 1
        if told[finding.rule.code] <= MOST:
            yield from _finding(finding, sources)
    for code, count in told.items():
        if count > MOST:
            yield f"and {count - MOST} more of {code}; --json has them all"


def _finding(finding: Finding, sources: Sources) -> Iterator[str]:
    yield f"{printable(place(finding))}: {finding.rule.level} {_title(finding)}"
    if finding.server:
        yield f"    server: {printable(finding.server)}"
    yield f"    why: {finding.rule.why}"
    yield f"    mend: {printable(finding.mend or finding.rule.mend)}"
    if finding.span:
        yield from _quoted(finding, finding.span, sources)
    diff = sources.diff(finding, str(shown_path(finding.path)))
    lines = (line.rstrip("\r") for line in diff.split("\n") if line)
    yield from (f"    {printable(line)}" for line in lines)


def _title(finding: Finding) -> str:
    return f"{finding.rule.code} [{finding.rule.name}] {printable(finding.message)}"


def _quoted(finding: Finding, span: Span, sources: Sources) -> Iterator[str]:
    """The line, and carets under what is wrong in it."""
    text = sources.of(finding.path).line_at(span.start).replace("\t", " ")
    at = span.column - 1
    if not text.strip() or at > len(text):
        return
    begin = max(0, at - BEFORE) if len(text) > WIDEST else 0
    shown, marked = text[begin : begin + WIDEST], text[at : min(at + span.end - span.start, begin + WIDEST)]
    number = str(span.line)
    yield f"    {number} | {printable(shown)}"
    indent = " " * len(printable(text[begin:at]))
    yield f"    {' ' * len(number)} | {indent}{'^' * max(1, len(printable(marked)))}"
