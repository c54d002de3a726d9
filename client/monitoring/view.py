"""A frame as a person reads it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

from client.monitoring.frames import Frame, ModelFrame

if TYPE_CHECKING:
    from rich.console import RenderableType

GIB = 1024**3
COLUMNS: tuple[tuple[str, Callable[[ModelFrame], str]], ...] = (
    ("req/s", lambda m: _rate(m.requests_per_s)),
    ("img/s", lambda m: _rate(m.images_per_s)),
    ("fail/s", lambda m: _rate(m.failures_per_s)),
    ("queue\nms", lambda m: _number(m.queue_ms)),
    ("compute\nms", lambda m: _number(m.compute_ms)),
    ("p50\nms", lambda m: _number(m.p50_ms)),
    ("p99\nms", lambda m: _number(m.p99_ms)),
    ("batch", lambda m: _number(m.batch)),
)


def render(url: str, frame: Frame | None, trouble: str = "") -> RenderableType:
    """For rich. `trouble` says why there is no frame."""
    from rich.console import Group
    from rich.text import Text

    clock = datetime.datetime.now().strftime("%H:%M:%S")
    head = Text.assemble((url, "bold"), f"  {clock}  ", (machine_line(frame), "dim") if frame else "")
    if trouble:
        return Group(head, Text(trouble, style="bold red"))
    return Group(head, *([_table(frame)] if frame else [Text("measuring …", style="dim")]))


def _table(frame: Frame) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("model", overflow="fold")  # the only one that may wrap
    for name, _ in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for model in frame.models:
        cells = [Text(cell(model)) for _, cell in COLUMNS]
        if model.failures_per_s:
            cells[2].stylize("bold red")
        table.add_row(Text(_name(model)), *cells, style="" if model.requests_per_s else "dim")
    return table


def plain_lines(frame: Frame) -> list[str]:
    """For a log: a line a model that was asked for something."""
    asked = [model for model in frame.models if model.requests_per_s or model.failures_per_s]
    return [
        f"{_name(model)}: "
        + ", ".join(f"{name} {cell(model)}".replace("\n", " ") for name, cell in COLUMNS if cell(model) != "-")
        for model in asked
    ] or ["idle"]


def machine_line(frame: Frame) -> str:
    parts = []
    if frame.cpu is not None:
        parts.append(f"CPU {frame.cpu:.0%}")
    if frame.memory_used is not None and frame.memory_total:
        parts.append(f"memory {frame.memory_used / GIB:.1f}/{frame.memory_total / GIB:.1f} GiB")
    for gpu in frame.gpus:
        facts = [f"{gpu.utilization:.0%}"] if gpu.utilization is not None else []
        if gpu.memory_used is not None and gpu.memory_total:
            facts.append(f"{gpu.memory_used / GIB:.1f}/{gpu.memory_total / GIB:.1f} GiB")
        if gpu.power_watts is not None:
            facts.append(f"{gpu.power_watts:.0f} W")
        if gpu.celsius is not None:
            facts.append(f"{gpu.celsius} °C")
        parts.append(f"GPU {gpu.name} {' '.join(facts)}".strip())
    return "  ".join(parts)


def _name(model: ModelFrame) -> str:
    return f"{model.model} v{model.version}" if model.version not in ("", "1") else model.model


def _rate(value: float) -> str:
    return "-" if not value else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 1000 else f"{value:.1f}"
