"""config.pbtxt: Jinja templates -> text -> parsed as Triton's own ModelConfig before it is written."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import ConfigError

FILENAME = "config.pbtxt"
TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class QueuePolicy:
    """How many requests wait for a model, and how long, before they are refused as UNAVAILABLE."""

    size: int = 512
    timeout_us: int = 30_000_000
    delay_us: int = 0
    """How long a batch waits for company. Under load batches form without it; idle it is latency."""


def render(template: str, **values: Any) -> str:
    """The text of a config.pbtxt. Raises ConfigError if a value is missing or Triton could not parse it."""
    import jinja2

    try:
        text: str = _environment().get_template(f"{template}.pbtxt.j2").render(**values)
    except jinja2.TemplateError as error:
        raise ConfigError(f"template {template}.pbtxt.j2: {error}") from None
    parse(text, f"{values.get('name', template)}/{FILENAME}")
    return text


def parse(text: str, where: str) -> Any:
    """The ModelConfig message that `text` spells. Raises ConfigError."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{where} is not a Triton model configuration: {error}") from None


def read(path: Path) -> Any:
    """The ModelConfig of a config.pbtxt on disk. Raises ConfigError, OSError."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from None
    return parse(text, str(path))


def to_text(model: Any) -> str:
    from google.protobuf import text_format

    return str(text_format.MessageToString(model, as_utf8=True))


@functools.cache
def _environment() -> Any:
    from builder.util.rendering import environment

    return environment(TEMPLATES, {"pb": _quoted})


def _quoted(text: str) -> str:
    """A protobuf text-format string literal."""
    from google.protobuf import text_encoding

    return f'"{text_encoding.CEscape(text, as_utf8=True)}"'
