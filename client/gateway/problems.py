"""What is answered when something is wrong: one table from errors to statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

from client.errors import (
    Cancelled,
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    InvalidOption,
    ModelNotFound,
    NoMemory,
    NotAllowed,
    ServerError,
    ServerUnavailable,
)

RETRY_SECONDS = 1
STATUS: dict[type[ClientError], int] = {
    InvalidInput: 400,
    ModelNotFound: 404,
    ServerError: 502,
    NoMemory: 503,
    NotAllowed: 502,  # it is this gateway that Triton does not let in
    ServerUnavailable: 503,
    Cancelled: 503,
    DeadlineExceeded: 504,
}
# The preprocessing step's words for images beyond its recipe's limits.
TOO_LARGE = re.compile(r"at most \d+ (pixels )?are accepted")


@dataclass(eq=False)
class Problem(Exception):
    """A request that is answered with an error."""

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def of(error: ClientError) -> Problem:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    message = error.public or str(error)
    if status == 400 and TOO_LARGE.search(message):
        status = 413
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    kind = InvalidInput if isinstance(error, InvalidOption) else type(error)  # callers give no options
    return Problem(status, kind.__name__, message, headers)


def too_large(limit: int) -> Problem:
    return Problem(413, "TooLarge", f"it has more than {limit} bytes", {"Connection": "close"})


def answer(problem: Problem) -> JSONResponse:

    content: dict[str, Any] = {"error": {"type": problem.kind, "message": problem.message}}
    return JSONResponse(content, problem.status, dict(problem.headers))
