"""The page, and what OpenAPI says of the routes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parent / "page"
TITLE = "Image classification"
DESCRIPTION = "Images in, the most probable classes out. Classified by a Triton server behind this gateway."
TOP = "How many classes to give at most: 5, or, of a model with several labels at once, all that are probable enough."
THRESHOLD = "Give only classes that are at least so probable: 0.5 for a model with several labels at once."

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_PREDICTIONS = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["class", "label", "probability"],
                "properties": {
                    "class": {"type": "integer"},
                    "label": {"type": "string"},
                    "probability": {"type": "number", "minimum": 0, "maximum": 1},
                },
            },
        }
    },
}
_REASONS = {
    400: "Not an image, or a request that makes no sense",
    401: "The API key is missing or wrong",
    404: "No such model",
    408: "The body arrived too slowly",
    413: "The image is too large",
    415: "A body of this type is not taken",
    429: "Too many requests are under way",
    502: "Triton failed",
    503: "Triton is not there, or too busy",
    504: "Triton did not answer in time",
}


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _json(_ERROR, _REASONS[status]) for status in statuses}


_IMAGE = {"type": "string", "format": "binary"}
CLASSIFY: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {"image": {"type": "string", "contentEncoding": "base64"}},
                    }
                },
                "multipart/form-data": {
                    "schema": {"type": "object", "required": ["image"], "properties": {"image": _IMAGE}}
                },
                "image/*": {"schema": _IMAGE},
                "application/octet-stream": {"schema": _IMAGE},
            },
        }
    },
    "responses": {
        200: _json(_PREDICTIONS, "The most probable classes, the best first; none where none is probable enough"),
        **_errors(400, 401, 404, 408, 413, 415, 429, 502, 503, 504),
        422: _json(_ERROR, "Not used"),
    },
}
MODELS: dict[str, Any] = {"responses": _errors(401, 502, 503, 504)}
READY: dict[str, Any] = {"responses": {503: {"description": "Not now"}}}
TEXT: dict[str, Any] = {"responses": {200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}}}


def add_pages(app: FastAPI) -> None:
    """The page at /, and /docs; all they need comes from here."""

    def page(name: str) -> Callable[[], Coroutine[Any, Any, Response]]:
        async def answer() -> Response:
            return FileResponse(PAGE / name, headers={"Cache-Control": "no-cache"})

        return answer

    for path, name in {"/": "index.html", "/docs": "docs.html"}.items():
        app.get(path, include_in_schema=False, response_model=None)(page(name))
    app.mount("/static", StaticFiles(directory=PAGE), name="static")
