"""What only a real server tells, where it was asked."""

from __future__ import annotations

from collections.abc import Iterator

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model

REFUSED = Rule(
    "TMR990",
    "refused-by-the-server",
    Level.ERROR,
    "The embedded server refuses to load the model, for a reason that no rule foresees.",
    "What runs while a model is loaded, such as its own code, is known to the server alone.",
    "Mend what the server names, and check again with --load.",
)
REFUSED_BY_OURS = Rule(
    "TMR991",
    "refused-by-our-backend",
    Level.WARNING,
    "The embedded server refuses to load the model with build-repo's own backend in place of the native one.",
    "The embedded server cannot serve it; NVIDIA's own backend may take what this one does not.",
    "Mend what the server names, or serve the model with NVIDIA's image.",
)
RULES = (REFUSED, REFUSED_BY_OURS)


def check(model: Model, context: Context) -> Iterator[Finding]:
    """Nothing: `--load` finds it."""
    del model, context
    yield from ()
