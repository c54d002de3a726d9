"""What the targets print."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from builder.commands.output import print_json, say

if TYPE_CHECKING:
    from builder.deploy.files import Outcome
    from builder.triton.advisories import Judgement


def report(outcome: Outcome, folder: Path, as_json: bool, judged: Judgement, following: str = "") -> None:
    """The files, one a line; to standard error, what is open to attack in what they run, what became of them, and the
    command that follows.
    """
    if judged.line:
        say(judged.line)
    if as_json:
        print_json({"folder": str(folder)} | asdict(outcome) | {"advisories": judged.names})
        return
    for name in sorted((*outcome.written, *outcome.unchanged)):
        print(folder / name)
    counts = {"written": outcome.written, "unchanged": outcome.unchanged, "removed": outcome.removed}
    told = ", ".join(f"{len(names)} {what}" for what, names in counts.items() if names or what == "written")
    say(f"{told}; then: {following}" if following else told)
