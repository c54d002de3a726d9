"""What drivers raise, told as what is wrong, where, and how to mend it. They are known by their names, not imported."""

from __future__ import annotations

from builder.errors import BuilderError, CredentialsError, NoSpace, StoreError
from builder.errors import is_full as is_disk_full
from builder.util.reasons import chain
from builder.util.reasons import told as in_words

NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
}
REFUSED = ("SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "ExpiredToken", "(403)", "(401)", "Forbidden")
FULL = ("XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity", "no space left", "(507)")
NO_BUCKET = ("NoSuchBucket", "bucket does not exist", "ContainerNotFound")
PASSING = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "HTTPClientError",
    "IncompleteReadError",
    "ResponseStreamingError",
    "FSTimeoutError",
    "ClientConnectionError",
    "ClientConnectorError",
    "ServerDisconnectedError",
    "ClientPayloadError",
    "IncompleteRead",
    "ServiceRequestError",
}
AWAY = ("SlowDown", "ServiceUnavailable", "InternalError", "(500)", "(502)", "(503)", "(504)")
BY_SCHEME = {
    "s3": "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE), ~/.aws, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the machine's service account",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or _SAS_TOKEN, or the machine's identity",
}
"""Where the drivers look for credentials."""


def may_pass(error: BaseException) -> bool:
    """Whether the same may succeed in a moment."""
    if is_full(error) or is_refused(error):
        return False
    return any(
        isinstance(one, ConnectionError | TimeoutError) or _is(one, PASSING) or _says(one, AWAY) for one in chain(error)
    )


def is_full(error: BaseException) -> bool:
    return any(is_disk_full(one) or _says(one, FULL) for one in chain(error))


def is_refused(error: BaseException) -> bool:
    return any(
        isinstance(one, PermissionError) or _is(one, NO_CREDENTIALS) or _says(one, REFUSED) for one in chain(error)
    )


def is_no_bucket(error: BaseException) -> bool:
    return any(_says(one, NO_BUCKET) for one in chain(error))


def told(uri: str, doing: str, error: BaseException) -> BuilderError:
    """`doing` says what failed, as in `cannot be listed`."""
    if isinstance(error, BuilderError):
        return error
    scheme = uri.partition("://")[0]
    if is_full(error):
        return full(uri, in_words(error))
    if is_no_bucket(error):
        return StoreError(f"{uri}: there is no such bucket; make it, or correct the address ({in_words(error)})")
    if scheme == "file":
        return StoreError(f"{uri} {doing}: {in_words(error)}; mend that, and run the same command again")
    if is_refused(error):
        return CredentialsError(f"{uri} {doing}: {_who(error)}. They are taken from {_where(scheme)}")
    return StoreError(
        f"{uri} {doing}: {in_words(error)}; see that the store can be reached from here{_endpoint(scheme)}, and run "
        "the same command again, which goes on where this one stopped"
    )


def full(where: str, reason: str) -> NoSpace:
    return NoSpace(
        f"there is no room left at {where} ({reason}); make some, and run the same command again, which goes on where "
        "this one stopped. What was there before is whole"
    )


def _who(error: BaseException) -> str:
    if any(_is(one, NO_CREDENTIALS) for one in chain(error)):
        return f"there are no credentials that serve ({in_words(error)})"
    return f"the store refuses these credentials, or does not let them do this ({in_words(error)})"


def _where(scheme: str) -> str:
    return BY_SCHEME.get(scheme, "the driver's own places")


def _endpoint(scheme: str) -> str:
    return " (AWS_ENDPOINT_URL names it, if it is not Amazon's)" if scheme == "s3" else ""


def _is(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(word.lower() in text for word in words)
