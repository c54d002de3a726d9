"""Where the pods of a deployment get their repository from."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from builder.deploy.image import pinned
from builder.errors import DeployError

FETCH_IMAGE = "rclone/rclone:1.75.2"
MODELS = "/models"
"""Where the server finds it."""
CLAIMED = "/claim"
PORTS = {"http": 80, "https": 443}
SCHEMES = "s3://BUCKET/PATH, gs://BUCKET/PATH, as://ACCOUNT/CONTAINER/PATH, https://HOST/PATH"
DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Fetch:
    """A container that copies the repository into MODELS before the server starts."""

    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    image: str = FETCH_IMAGE
    command: tuple[str, ...] = ()
    """Empty: the image's own."""
    secret: str | None = None
    """Credentials, as variables of its environment."""
    port: int | None = None
    """That it connects to; None: none."""


@dataclass(frozen=True)
class Source:
    path: str = MODELS
    """The repository in the server's container."""
    fetch: Fetch | None = None
    """None: it is in the image."""
    claim: str | None = None
    """A volume to copy it from."""
    storage_uri: str | None = None
    """The same for KServe, which copies by itself."""


@dataclass(frozen=True)
class How:
    """A repository is fetched from object storage."""

    secret: str | None = None
    endpoint: str | None = None
    """Of a storage that speaks S3."""
    image: str = FETCH_IMAGE
    command: str | None = None
    """Instead of rclone's: words as a shell splits them, but run without one; {uri} and {folder} are replaced."""


def choose(uri: str | None, claim: str | None, is_baked: bool, how: How = How()) -> Source:
    """The one of three that is given. Raises DeployError."""
    if sum((uri is not None, claim is not None, is_baked)) != 1:
        raise DeployError(
            "say where the pods get their repository from: --repository-uri, --repository-claim or "
            "--repository-baked, one of them"
        )
    if uri is not None:
        return of_uri(uri, how)
    if how.secret or how.endpoint or how.command:
        raise DeployError("a secret, an endpoint and a command to fetch with are for --repository-uri")
    if claim is not None:
        name, _, path = claim.partition("/")
        return of_claim(name, path, how.image)
    return Source()


def of_claim(claim: str, path: str = "", image: str = FETCH_IMAGE) -> Source:
    """`path` is within the volume."""
    require_name(claim, "claim")
    folder = path.strip("/")
    if ".." in folder.split("/"):
        raise DeployError(f"{path} leaves the volume {claim}")
    copied = f"{CLAIMED}/{folder}".rstrip("/")
    storage = f"pvc://{claim}/{folder}".rstrip("/")
    return Source(fetch=Fetch(_copy(copied), image=pinned(image)), claim=claim, storage_uri=storage)


def of_uri(uri: str, how: How = How()) -> Source:
    """Object storage or a web server. Raises DeployError."""
    if how.secret is not None:
        require_name(how.secret, "Secret")
    fetch, storage = _fetch(uri, how.endpoint)
    fetch = replace(fetch, image=pinned(how.image), secret=how.secret)
    if how.command:
        words = [word.replace("{uri}", uri).replace("{folder}", MODELS) for word in _split(how.command)]
        fetch = replace(fetch, command=tuple(words), args=(), env={})
    return Source(fetch=fetch, storage_uri=storage)


def _fetch(uri: str, endpoint: str | None) -> tuple[Fetch, str]:
    """rclone's arguments, and the address that KServe knows the same by."""
    scheme, rest = _parts(uri)
    if endpoint is not None and scheme != "s3":
        raise DeployError(f"an endpoint is for s3:// addresses, and this is {uri}")
    first, _, folder = rest.partition("/")
    if scheme == "s3":
        env = {"RCLONE_S3_PROVIDER": "AWS", "RCLONE_S3_ENV_AUTH": "true"}
        if endpoint is not None:
            env |= {"RCLONE_S3_PROVIDER": "Other", "RCLONE_S3_ENDPOINT": endpoint, "RCLONE_S3_FORCE_PATH_STYLE": "true"}
        port = _port(endpoint) if endpoint is not None else 443
        return Fetch(_copy(f":s3:{rest}"), env, port=port), uri
    if scheme == "gs":
        env = {"RCLONE_GCS_ENV_AUTH": "true", "RCLONE_GCS_BUCKET_POLICY_ONLY": "true"}
        return Fetch(_copy(f":gcs:{rest}"), env, port=443), uri
    if scheme == "as":
        env = {"RCLONE_AZUREBLOB_ACCOUNT": first, "RCLONE_AZUREBLOB_ENV_AUTH": "true"}
        storage = f"https://{first}.blob.core.windows.net/{folder}"
        return Fetch(_copy(f":azureblob:{folder}"), env, port=443), storage
    return Fetch(_copy(":http:"), {"RCLONE_HTTP_URL": uri.rstrip("/") + "/"}, port=_port(uri)), uri


def _copy(source: str) -> tuple[str, ...]:
    """Whole files with their checksums; a pod that starts again fetches only what it lacks."""
    return ("copy", "--config", "/dev/null", "--transfers", "8", "--stats-one-line", "-v", source, MODELS)


def _parts(uri: str) -> tuple[str, str]:
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("s3", "gs", "as", "http", "https") or not rest.strip("/"):
        raise DeployError(f"{uri!r} is no address of a repository; give one of {SCHEMES}")
    if any(ord(character) < 32 or ord(character) == 127 for character in unquote(uri)):
        raise DeployError(f"{uri!r} has control characters")
    if scheme in PORTS:
        _require_no_secret(uri)
    if scheme == "as" and rest.strip("/").count("/") < 1:
        raise DeployError(f"{uri!r} lacks its container; give as://ACCOUNT/CONTAINER/PATH")
    return scheme, rest.strip("/")


def _require_no_secret(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DeployError(f"{uri!r} is no address: {error}") from None
    if not host or port == 0:
        raise DeployError(f"{uri!r} is no address: it names no server")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise DeployError(
            f"the address of {host} has a password or a key in it, which would be written into files; "
            "leave it out, and give credentials with --repository-secret"
        )


def _port(address: str) -> int:
    if urlsplit(address).scheme not in PORTS:
        raise DeployError(f"{address!r} is no endpoint; give it as https://HOST:PORT")
    _require_no_secret(address)
    parts = urlsplit(address)
    return parts.port or PORTS[parts.scheme]


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise DeployError(f"{command!r} cannot be split into words: {error}") from None


def require_name(name: str, what: str) -> None:
    """That of a Kubernetes object."""
    if not DNS_NAME.fullmatch(name):
        raise DeployError(f"{name!r} cannot be a {what}'s name: small letters, digits and - alone")
