"""What each backend demands of its models: files by their names, data types, parameters, kinds of instances."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check import backends
from builder.check.backends import onnxruntime, others, parameters, place, python, pytorch
from builder.check.findings import Finding, Rule
from builder.check.model import Context, Model

RULES: tuple[Rule, ...] = tuple(
    rule
    for part in (place, parameters, onnxruntime, pytorch, python, others)
    for rule in part.RULES
    if rule.code < "TMR800"
)


def check(model: Model, context: Context) -> Iterator[Finding]:
    if backend := backends.of(model):
        yield from backend.demands(model, context)
