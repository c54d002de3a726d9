"""The photos and their classes as one page, which needs nothing beside it."""

from __future__ import annotations

import base64
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import photo_sets

if TYPE_CHECKING:
    from parts.photos import Answer, Asked

HERE = Path(__file__).parent


def render(asked: list[Asked], same: int, total: int) -> str:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    sides = zip(*map(answers, asked), strict=True)
    medians = [statistics.median(answer.milliseconds for answer in side) for side in sides]
    return templates.get_template("page.html.j2").render(
        cards=[card(one) for one in asked], same=same, total=total, fp32_ms=medians[0], int8_ms=medians[1]
    )


def answers(one: Asked) -> tuple[Answer, Answer]:
    return one.fp32, one.int8


def card(one: Asked) -> dict[str, Any]:
    """A photo, and a row for each class that one of the two has among its first."""
    shares = [{p.label: p.probability for p in answer.predictions} for answer in answers(one)]
    labels = dict.fromkeys(p.label for answer in answers(one) for p in answer.best)
    rows = [(label, *(share.get(label, 0) for share in shares)) for label in labels]
    return {
        "name": one.photo.name,
        "source": "data:image/jpeg;base64," + base64.b64encode(one.photo.read_bytes()).decode(),
        "credit": photo_sets.CREDITS[one.photo.name],
        "first": one.fp32.best[0].label,
        "rows": sorted(rows, key=lambda row: -row[1]),
        "fp32_ms": one.fp32.milliseconds,
        "int8_ms": one.int8.milliseconds,
    }
