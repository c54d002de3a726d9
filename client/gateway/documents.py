"""The page, and what OpenAPI says of the routes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from client.gateway.body import MOST_TEXTS, PLAIN, TEXTS

PAGE = Path(__file__).parent / "page"
TITLE = "Models of images and texts"
DESCRIPTION = (
    "Images or texts in; classes, boxes, masks or vectors out, as a model has them. A Triton server answers behind it."
)
TOP = "How many classes to give at most: 5, or, of a model with several labels at once, all that are probable enough."
THRESHOLD = "Give only classes that are at least so probable: 0.5 for a model with several labels at once."
SCORE = "Give only detections whose score is at least this; the model has a threshold of its own, which holds anyway."
MASK = "In JSON, also the mask: its PNG in base64."

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
    400: "Not an image or a text, or a request that makes no sense",
    401: "The API key is missing or wrong",
    404: "No such model",
    408: "The body arrived too slowly",
    413: "The image or a text is too large, or there are too many texts",
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
_BODY: dict[str, Any] = {
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
}


def _list(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return _object({name: {"type": "array", "items": item}})


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


_NUMBER, _COUNT, _TEXT = {"type": "number"}, {"type": "integer", "minimum": 0}, {"type": "string"}
_DETECTIONS = _list(
    "detections",
    _object(
        {
            "box": {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
            "label": _TEXT,
            "class": {"type": "integer"},
            "score": _NUMBER,
        }
    ),
)
_PIXELS = _object(
    {
        "width": _COUNT,
        "height": _COUNT,
        "classes": {
            "type": "array",
            "items": _object({"class": _COUNT, "label": _TEXT, "pixels": _COUNT, "color": _TEXT}),
        },
        "mask": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
    },
    "mask",
)


def _asking(answer: dict[str, Any], body: dict[str, Any] = _BODY) -> dict[str, Any]:
    errors = _errors(400, 401, 404, 408, 413, 415, 429, 502, 503, 504)
    return {"openapi_extra": body, "responses": {200: answer, **errors, 422: _json(_ERROR, "Not used")}}


def _of_both(one: dict[str, Any], description: str) -> dict[str, Any]:
    """For an image or a text, and for texts, one by one."""
    answer = {"oneOf": [one, _list("results", one)]}
    return _asking(_json(answer, f"{description}; of a list of texts, those of each, as results"), _BODY_OF_BOTH)


def _body_of_both() -> dict[str, Any]:
    content = dict(_BODY["requestBody"]["content"])
    texts = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MOST_TEXTS}
    content["application/json"] = {
        "schema": {"oneOf": [content["application/json"]["schema"], _object({TEXTS: texts})]}
    }
    content[PLAIN] = {"schema": _TEXT}
    return {"requestBody": {"required": True, "content": content}}


_BODY_OF_BOTH = _body_of_both()


def _segments() -> dict[str, Any]:
    answer = _json(_PIXELS, "A palette PNG whose indices are classes; where JSON is accepted, the pixels by class")
    return {**answer, "content": {"image/png": {"schema": _IMAGE}, **answer["content"]}}


CLASSIFY = _of_both(_PREDICTIONS, "The most probable classes, the best first; none where none is probable enough")
DETECT = _asking(
    _json(_DETECTIONS, "Boxes (x1, y1, x2, y2) in pixels of the upright picture, the highest score first; maybe none")
)
SEGMENT = _asking(_segments())
EMBED = _of_both(_list("embedding", _NUMBER), "The vector")
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
