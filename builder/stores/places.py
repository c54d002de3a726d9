"""Addresses of far sides."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from builder.errors import StoreError
from builder.stores.bucket import Bucket
from builder.stores.far import Far
from builder.stores.folder import opened as folder_opened

DRIVERS = {
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
    "memory": ("fsspec", "build"),
}
"""By scheme the package that fsspec drives it with, and this project's extra that brings it. memory:// is for tests."""
KNOWN = "s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, file:///PATH"


@contextmanager
def opened(uri: str, writing: bool) -> Iterator[Far]:
    """The far side at an address. Raises StoreError for what is no address, or lacks its driver."""
    scheme, separator, rest = uri.partition("://")
    if not separator or not rest.strip("/") or any(ord(character) < 32 for character in uri):
        raise StoreError(f"{uri!r} is no address of a store; known are {KNOWN}")
    if scheme == "file":
        with folder_opened(_folder(uri, rest), uri, writing) as folder:
            yield folder
        return
    _require_driver(scheme, uri)
    _require_plain(scheme, rest, uri)
    yield Bucket.at(scheme, rest, uri)


def _folder(uri: str, rest: str) -> Path:
    if not rest.startswith("/"):
        raise StoreError(f"{uri} names a machine, and file:// is of this one; write file:///PATH, with three strokes")
    return Path(unquote(rest))


def _require_driver(scheme: str, uri: str) -> None:
    if scheme not in DRIVERS:
        raise StoreError(f"{scheme}:// of {uri} is not known; known are {KNOWN}")
    module, extra = DRIVERS[scheme]
    if importlib.util.find_spec(module) is None:
        raise StoreError(
            f"{scheme}:// needs the package {module}, which is not installed; run: pip install "
            f"'triton-build-repo[{extra}]'"
        )


def _require_plain(scheme: str, rest: str, uri: str) -> None:
    """Secrets in an address end up in process lists and logs; and Triton's form of an endpoint is not fsspec's."""
    first = rest.removeprefix("http://").removeprefix("https://").partition("/")[0]
    if "@" in first and scheme == "s3":
        raise StoreError(
            f"{scheme}:// addresses hold no keys or passwords; give them to the driver: see docs/stores.md"
        )
    if scheme == "s3" and (first != rest.partition("/")[0] or ":" in first):
        raise StoreError(
            f"{uri} has Triton's form with an endpoint; here that comes from AWS_ENDPOINT_URL or ~/.aws/config, and "
            "the address is s3://BUCKET/PATH"
        )
