"""What can go wrong between a client and a server, one exit code a class.

    ClientError              1
    ├── ServerUnavailable    3   no server at the address, it stayed too busy, or a worker of it is dead
    ├── DeadlineExceeded     4   no answer within the timeout
    ├── ModelNotFound        5   the server has no such model, or none that can be asked so
    ├── InvalidInput         6   the server refused what was sent
    │   ├── InvalidOption    2   not what is asked about, but how: a threshold of 7
    │   ├── UnreadableFile   7   a local file cannot be read
    │   └── TooLarge         6   an image or a text is larger than the model takes, and was not sent
    ├── ServerError          8   the server failed
    │   └── NoMemory         8   it had no shared memory for a batch of images, and had none when it was asked again
    ├── NotAllowed           9   the server, or a proxy before it, asks for a key or a certificate
    ├── Cancelled           10   the caller ended the call
    ├── UnwritableFile      11   a result or a record cannot be kept
    ├── CannotListen        12   the address to listen on is taken, or not this machine's
    ├── ForbiddenContent    13   `moderate --once` found some
    └── Forked              14   what a process began before a fork was gone on with in the child

2 is the command line's own (unknown option, missing argument); 130 is Ctrl-C, 143 SIGTERM (see docs/signals.md).
"""

from __future__ import annotations

from typing import Self


class ClientError(Exception):
    exit_code = 1
    public = ""
    """What callers of a service are told in place of the message, where that has addresses for whoever runs it."""

    def without_address(self, message: str) -> Self:
        """This error, with what callers of a service are told."""
        self.public = message
        return self


class ServerUnavailable(ClientError):
    exit_code = 3

    def __init__(self, message: str, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        """Whether who was to answer is no longer there, rather than too busy or not there yet."""


class DeadlineExceeded(ClientError):
    exit_code = 4


class ModelNotFound(ClientError):
    exit_code = 5


class InvalidInput(ClientError):
    exit_code = 6


class InvalidOption(InvalidInput):
    """What the command line itself refuses has the same exit code."""

    exit_code = 2


class UnreadableFile(InvalidInput):
    exit_code = 7


class TooLarge(InvalidInput):
    """Not an exit code of its own: servers that do not tell their limit refuse the same image themselves."""


class ServerError(ClientError):
    exit_code = 8


class NoMemory(ServerError):
    """Perhaps for want of company: alone, or later, the same image may find a place."""


class NotAllowed(ClientError):
    exit_code = 9

    def __init__(self, message: str, restricted: bool = False) -> None:
        super().__init__(message)
        self.restricted = restricted
        """Whether it was an endpoint that the server keeps to its administrator."""


class Cancelled(ClientError):
    exit_code = 10


class UnwritableFile(ClientError):
    exit_code = 11


class CannotListen(ClientError):
    exit_code = 12


class ForbiddenContent(ClientError):
    exit_code = 13


class Forked(ClientError):
    exit_code = 14


# gRPC's status names, as tritonclient spells them, and what they mean to a caller.
BY_STATUS: dict[str, type[ClientError]] = {
    "OK": ServerError,
    "CANCELLED": Cancelled,
    "UNKNOWN": ServerError,
    "INVALID_ARGUMENT": InvalidInput,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": ModelNotFound,
    "ALREADY_EXISTS": ServerError,
    "PERMISSION_DENIED": NotAllowed,
    "RESOURCE_EXHAUSTED": InvalidInput,  # a message larger than the server takes
    "FAILED_PRECONDITION": ServerError,
    "ABORTED": ServerError,
    "OUT_OF_RANGE": InvalidInput,
    "UNIMPLEMENTED": ServerError,
    "INTERNAL": ServerError,
    "UNAVAILABLE": ServerUnavailable,
    "DATA_LOSS": ServerError,
    "UNAUTHENTICATED": NotAllowed,
}

# The HTTP statuses of Triton's front end, and of the proxies that stand before it.
BY_HTTP_STATUS: dict[str, type[ClientError]] = {
    "400": InvalidInput,
    "401": NotAllowed,
    "403": NotAllowed,
    "404": ModelNotFound,
    "408": DeadlineExceeded,
    "413": InvalidInput,
    "429": ServerUnavailable,
    "499": Cancelled,
    "502": ServerUnavailable,
    "503": ServerUnavailable,
    "504": DeadlineExceeded,
}


def from_status(status: str | None, message: str) -> ClientError:
    """The error for a status such as "StatusCode.UNAVAILABLE" or "503"."""
    name = (status or "").removeprefix("StatusCode.")
    return (BY_STATUS | BY_HTTP_STATUS).get(name, ServerError)(message)
