"""Files beside the config's place that were meant for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from builder.check.findings import Finding, Level, Rule
from builder.check.model import Context, Model
from builder.repository.layout import CONFIG

ALIKE = 0.8
"""How much of a name is the config's, so that it may have been meant."""

MISNAMED = Rule(
    "TMR910",
    "config-of-another-name",
    Level.WARNING,
    "A model without a config has a file whose name is nearly that of one.",
    f"The server reads {CONFIG} alone, to the letter; what another file says holds for nothing.",
    f"Rename the file to {CONFIG}.",
    "server: docs/user_guide/model_repository.md",
)
RULES = (MISNAMED,)


def check(model: Model, context: Context) -> Iterator[Finding]:
    if model.config.exists:
        return
    try:
        names = sorted(path.name for path in model.folder.iterdir())
    except OSError:
        return  # another rule tells of that
    for name in names:
        if difflib.SequenceMatcher(None, name.lower(), CONFIG).ratio() >= ALIKE:
            yield model.finding_at(
                MISNAMED, model.folder / name, f"{name!r} is not read; the config's name is {CONFIG}"
            )
