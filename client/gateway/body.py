"""A request's body -> the encoded image, or texts. Nothing beyond the limits is held, however it is sent."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from email.message import Message
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, create_form_parser
from starlette.requests import Request

from client.gateway.problems import Problem, too_large

# Around the image: a multipart form's boundaries and headers, or JSON's braces and other keys.
WRAPPING_BYTES = 64 * 1024
FIELD = "image"
TEXTS = "texts"
PLAIN = "text/plain"
MOST_TEXTS = 1000
"""In a request, which may take as long as others together."""
RAW = ("application/octet-stream", "image/")
OF_IMAGES = 'send JSON {"image": base64}, a multipart form with a file, or the image itself as image/*'
OF_TEXTS = 'send JSON {"texts": [...]}, or one text as text/plain'
OF_BOTH = f"{OF_IMAGES}; or, to models of texts, {OF_TEXTS}"
Given = bytes | str | list[str]
"""An encoded image, one text, or a list of texts."""


@dataclass(frozen=True)
class Takes:
    """What a route takes."""

    max_bytes: int
    """Of an image, or of all texts together."""
    seconds: float
    """That the body may take to arrive."""
    texts: bool = False

    @property
    def accepted(self) -> str:
        return OF_BOTH if self.texts else OF_IMAGES


async def given_in(request: Request, takes: Takes) -> Given:
    """Raises Problem: 400, 408, 413, 415."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    most = takes.max_bytes
    given: Given
    if kind == "application/json":
        given = from_json(await _received(request, most * 4 // 3 + WRAPPING_BYTES, takes), takes.texts)
    elif kind == "multipart/form-data":
        body = await _received(request, most + WRAPPING_BYTES, takes)
        given = from_form(request.headers["content-type"], body)
    elif kind.startswith(RAW):
        given = await _received(request, most, takes)
    elif kind == PLAIN and takes.texts:
        given = from_plain(request.headers["content-type"], await _received(request, most, takes))
    else:
        told = kind or "a body without a Content-Type"
        raise Problem(415, "UnsupportedMediaType", f"{told} is not taken; {takes.accepted}")
    if size(given) > most:
        raise too_large(most)
    if given in (b"", ""):
        raise Problem(400, "InvalidInput", f"there is nothing in the request; {takes.accepted}")
    return given


def size(given: Given) -> int:
    """In bytes; of texts in UTF-8, where half a pair, which is refused later, counts as well."""
    if isinstance(given, bytes):
        return len(given)
    return sum(len(text.encode(errors="surrogatepass")) for text in ([given] if isinstance(given, str) else given))


def from_plain(kind: str, body: bytes) -> str:
    charset = Message()
    charset["content-type"] = kind
    told = str(charset.get_param("charset", "utf-8")).lower()
    if told not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(415, "UnsupportedMediaType", f"texts are taken in UTF-8, not in {told}")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, "InvalidInput", f"the text is no UTF-8 from byte {error.start} on") from None


def from_json(body: bytes, texts: bool = False) -> bytes | list[str]:
    """{"image": base64}, where a data: URL is taken too, or {"texts": [...]}, where the route takes that."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "InvalidInput", "the body is not valid JSON") from None
    if texts and isinstance(value, dict) and TEXTS in value:
        return _texts(value)
    text = value.get(FIELD) if isinstance(value, dict) else None
    if not isinstance(text, str):
        if texts:
            message = 'the JSON has neither a text "image", which is the image in base64, nor "texts", a list'
            raise Problem(400, "InvalidInput", message)
        raise Problem(400, "InvalidInput", 'the JSON has no text "image", which is the image in base64')
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text.translate(WHITESPACE), validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "InvalidInput", '"image" is not valid base64') from None


def _texts(value: dict[str, Any]) -> list[str]:
    given = value[TEXTS]
    if FIELD in value:
        raise Problem(400, "InvalidInput", 'the JSON has both "image" and "texts"; send one')
    if not isinstance(given, list) or not given:
        raise Problem(400, "InvalidInput", '"texts" is no list of texts, or an empty one')
    if len(given) > MOST_TEXTS:
        raise Problem(413, "TooLarge", f"there are {len(given)} texts; at most {MOST_TEXTS} are accepted in a request")
    for number, text in enumerate(given):
        if not isinstance(text, str):
            raise Problem(400, "InvalidInput", f"texts[{number}] is no text")
    return given


WHITESPACE = dict.fromkeys(map(ord, " \t\r\n"))


async def _received(request: Request, limit: int, takes: Takes) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(takes.max_bytes)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(takes.seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large(takes.max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        message = f"the body did not arrive within {takes.seconds:g} s"
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
