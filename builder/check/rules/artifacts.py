"""Artifacts held to their configs, as far as they can be read without the libraries that run them."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check import backends
from builder.check.backends import agreement, openvino, others, place, python, pytorch, tensorrt
from builder.check.findings import Finding, Rule
from builder.check.model import Context, Model

RULES: tuple[Rule, ...] = tuple(
    rule
    for part in (place, agreement, openvino, pytorch, python, tensorrt, others)
    for rule in part.RULES
    if rule.code > "TMR800"
)


def check(model: Model, context: Context) -> Iterator[Finding]:
    backend = backends.of(model)
    try:
        if backend:
            yield from backend.artifacts(model, context)
    except OSError:
        # Whether the server may read it is for others to say.
        return
