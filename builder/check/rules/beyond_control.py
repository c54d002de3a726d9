"""What files beside the models tell of how their server is started: whether just anybody may load models into it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from builder.check.files import NotRead, content
from builder.check.findings import Finding, Level, Rule, Span
from builder.check.model import Context, Model

OPEN = Rule(
    "TMR909",
    "model-control-for-everybody",
    Level.WARNING,
    "A file beside the models starts a server that lets everybody who reaches it load and unload models.",
    "A request to load may bring files of its own, and so code; --model-control-mode=explicit takes it from anybody.",
    "Add --http-restricted-api and --grpc-restricted-protocol for model-repository, or listen on 127.0.0.1 only.",
    "server: docs/customization_guide/deploy.md, inference_protocols.md",
)
RULES = (OPEN,)

IN_REPOSITORY = (".yml", ".yaml", ".sh")
BESIDE = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")
MOST_BYTES = 1 << 18
EXPLICIT = re.compile(r"""^[^#\n]*(--model-control-mode["',=\s-]+explicit\b)""", re.MULTILINE)
CLOSED = ("restricted", "127.0.0.1", "localhost", "--allow-http")
"""Words of whoever has thought of it, in one way or another."""


def check(model: Model, context: Context) -> Iterator[Finding]:
    """Once for all the repositories, with the first of their models."""
    if next(iter(context.models.values()), None) is not model:
        return
    for repository in sorted({other.folder.parent for other in context.models.values()}):
        for path in _files(repository):
            if span := _opened(path):
                yield Finding(OPEN, "", path, "whoever reaches the server's ports may load and unload models", span)


def _files(repository: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in repository.iterdir() if path.suffix in IN_REPOSITORY)
    except OSError:
        return
    yield from (path for name in BESIDE if (path := repository.parent / name).exists())


def _opened(path: Path) -> Span | None:
    try:
        text = content(path, MOST_BYTES).decode()
    except (OSError, NotRead, UnicodeDecodeError):
        return None
    found = EXPLICIT.search(text) if "tritonserver" in text else None
    if not found or any(word in text for word in CLOSED):
        return None
    start, end = found.span(1)
    line = text.count("\n", 0, start) + 1
    return Span(start, end, line, start - text.rfind("\n", 0, start))
