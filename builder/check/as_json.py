"""What programs read. Keys are only ever added to it; docs/check.md describes them."""

from __future__ import annotations

from typing import Any

from builder.check.findings import Finding
from builder.check.outcome import Loading, Outcome, shown_path
from builder.check.sources import Sources


def record(outcome: Outcome, sources: Sources) -> dict[str, Any]:
    counts = outcome.counts()
    return {
        "target": outcome.options.target.release,
        "strict": outcome.options.strict,
        "models": [_model(name, outcome) for name in outcome.report.models],
        "findings": [
            *(_finding(finding, outcome, sources, fixed=True) for finding in outcome.mended),
            *(_finding(finding, outcome, sources) for _, found in outcome.by_model() for finding in found),
        ],
        "summary": {f"{level}s": number for level, number in counts.items()}
        | {"models": len(outcome.report.models), "fixed": len(outcome.mended), "text": outcome.summary()},
    }


def _model(name: str, outcome: Outcome) -> dict[str, Any]:
    return {"name": name, "refused": outcome.report.refuses(name)} | _loaded(outcome.loadings.get(name))


def _loaded(loading: Loading | None) -> dict[str, Any]:
    """Nothing where no server was asked; null where it could not say."""
    if loading is None:
        return {}
    return {"loaded": not loading.reason if loading.is_asked else None, "server": loading.reason}


def _finding(finding: Finding, outcome: Outcome, sources: Sources, fixed: bool = False) -> dict[str, Any]:
    span, path = finding.span, str(shown_path(finding.path))
    loading = outcome.loadings.get(finding.model)
    return {
        "code": finding.rule.code,
        "name": finding.rule.name,
        "level": str(finding.rule.level),
        "model": finding.model,
        "path": path,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "message": finding.message,
        "server": finding.server,
        "why": finding.rule.why,
        "mend": finding.mend or finding.rule.mend,
        "diff": "" if fixed else sources.diff(finding, path),
        "safe": finding.is_safe,
        "fixed": fixed,
        "loaded": None if loading is None or not loading.is_asked else not loading.reason,
    }
