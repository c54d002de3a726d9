"""What can go wrong between a client and a server, one exit code a class.

    ClientError              1
    ├── ServerUnavailable    3   no server at the address, or it stayed too busy
    ├── DeadlineExceeded     4   no answer within the timeout
    ├── ModelNotFound        5   the server has no such model, or none that takes images
    ├── InvalidInput         6   the server refused what was sent
    │   └── UnreadableFile   7   a local file cannot be read
    └── ServerError          8   the server failed

2 is the command line's own (unknown option, missing argument); 130 is Ctrl-C.
"""

from __future__ import annotations


class ClientError(Exception):
    exit_code = 1


class ServerUnavailable(ClientError):
    exit_code = 3


class DeadlineExceeded(ClientError):
    exit_code = 4


class ModelNotFound(ClientError):
    exit_code = 5


class InvalidInput(ClientError):
    exit_code = 6


class UnreadableFile(InvalidInput):
    exit_code = 7


class ServerError(ClientError):
    exit_code = 8


# gRPC's status names, as tritonclient spells them, and what they mean to a caller.
BY_STATUS: dict[str, type[ClientError]] = {
    "OK": ServerError,
    "CANCELLED": ServerError,
    "UNKNOWN": ServerError,
    "INVALID_ARGUMENT": InvalidInput,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": ModelNotFound,
    "ALREADY_EXISTS": ServerError,
    "PERMISSION_DENIED": ServerError,
    "RESOURCE_EXHAUSTED": InvalidInput,  # a message larger than the server takes
    "FAILED_PRECONDITION": ServerError,
    "ABORTED": ServerError,
    "OUT_OF_RANGE": InvalidInput,
    "UNIMPLEMENTED": ServerError,
    "INTERNAL": ServerError,
    "UNAVAILABLE": ServerUnavailable,
    "DATA_LOSS": ServerError,
    "UNAUTHENTICATED": ServerError,
}


def from_status(status: str | None, message: str) -> ClientError:
    """The error for a status such as "StatusCode.UNAVAILABLE"."""
    name = (status or "").removeprefix("StatusCode.")
    return BY_STATUS.get(name, ServerError)(message)
