"""A request's body -> the encoded image. Nothing beyond the limits is held, however it is sent."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, create_form_parser
from starlette.requests import Request

from client.gateway.problems import Problem, too_large

# Around the image: a multipart form's boundaries and headers, or JSON's braces and other keys.
WRAPPING_BYTES = 64 * 1024
FIELD = "image"
RAW = ("application/octet-stream", "image/")
ACCEPTED = 'send JSON {"image": base64}, a multipart form with a file, or the image itself as image/*'


async def image_of(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Raises Problem: 400, 408, 413, 415."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        body = await _received(request, max_bytes * 4 // 3 + WRAPPING_BYTES, max_bytes, seconds)
        image = from_json(body)
    elif kind == "multipart/form-data":
        body = await _received(request, max_bytes + WRAPPING_BYTES, max_bytes, seconds)
        image = from_form(request.headers["content-type"], body)
    elif kind.startswith(RAW):
        image = await _received(request, max_bytes, max_bytes, seconds)
    else:
        raise Problem(
            415, "UnsupportedMediaType", f"{kind or 'a body without a Content-Type'} is not taken; {ACCEPTED}"
        )
    if len(image) > max_bytes:
        raise too_large(max_bytes)
    if not image:
        raise Problem(400, "InvalidInput", f"there is no image in the request; {ACCEPTED}")
    return image


def from_json(body: bytes) -> bytes:
    """The article's {"image": base64}; a data: URL is taken too."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "InvalidInput", "the body is not valid JSON") from None
    text = value.get(FIELD) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise Problem(400, "InvalidInput", 'the JSON has no text "image", which is the image in base64')
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text.translate(WHITESPACE), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "InvalidInput", '"image" is not valid base64') from None


WHITESPACE = dict.fromkeys(map(ord, " \t\r\n"))


async def _received(request: Request, limit: int, max_bytes: int, seconds: float) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(max_bytes)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large(max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        message = f"the body did not arrive within {seconds:g} s"
        raise Problem(408, "RequestTimeout", message, {"Connection": "close"}) from None
    return b"".join(chunks)


def from_form(kind: str, body: bytes) -> bytes:
    """The file in the field `image`, or the only one there is. `kind` is the Content-Type, boundary included."""
    files: list[File] = []
    # In memory, where the body is already.
    config: Any = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    try:
        parser = create_form_parser({"Content-Type": kind.encode()}, None, files.append, config=config)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise Problem(400, "InvalidInput", f"the form cannot be read: {error}") from None
    chosen = [file for file in files if file.field_name == FIELD.encode()] or files
    if len(chosen) != 1:
        raise Problem(400, "InvalidInput", f'the form has {len(chosen)} files; send one, in the field "{FIELD}"')
    chosen[0].file_object.seek(0)
    return chosen[0].file_object.read()
