"""docs/fleet.md: its blocks run, and print what it says they print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parent.parent / "docs" / "fleet.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_computes_what_it_says() -> None:
    names: dict[str, Any] = {}
    printed, told = [], []
    for number, (kind, text) in enumerate(BLOCK.findall(PAGE)):
        if kind == "text":
            told.append(text)
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(text, f"docs/fleet.md, block {number}", "exec"), names)
        if output.getvalue():
            printed.append("".join(f"{line.rstrip()}\n" for line in output.getvalue().splitlines()))
    assert len(told) >= 9
    assert printed == told


def test_figures_in_the_text_are_those_of_the_files() -> None:
    from builder.deploy import kubernetes, sizing

    assert f"ends within {kubernetes.WITHDRAWAL_SECONDS + sizing.STOP_SECONDS} s" in PAGE
    assert f"for {kubernetes.WITHDRAWAL_SECONDS} s, answers" in PAGE
    assert f"The {sizing.GPU_CPUS} cores that a GPU pod gets" in PAGE
    assert f"`--queue-ms {kubernetes.Scale().queue_ms}`" in PAGE
