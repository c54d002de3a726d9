"""In which form an answer is given."""

from __future__ import annotations

import base64
from typing import Any

from client.gateway.asking import Mask

JSON, PNG = "application/json", ("image/png", "image/*")


def accepts_json(accept: str) -> bool:
    """Whether an Accept header asks for JSON rather than for a PNG; one that takes anything does not."""
    weights = dict(map(_weighed, accept.lower().split(",")))
    wanted = weights.get(JSON, 0.0)
    return wanted > 0 and wanted > max(weights.get(kind, 0.0) for kind in PNG)


def _weighed(item: str) -> tuple[str, float]:
    kind, *parameters = (part.strip() for part in item.split(";"))
    given = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
    try:
        return kind, float(given)
    except ValueError:
        return kind, 0.0


def as_mask(mask: Mask, with_png: bool) -> dict[str, Any]:
    told = {"width": mask.width, "height": mask.height, "classes": mask.classes}
    return told | {"mask": base64.b64encode(mask.png).decode()} if with_png else told
