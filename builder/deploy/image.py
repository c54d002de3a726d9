"""References of container images."""

from __future__ import annotations

import re

from builder.errors import DeployError

# name[:tag][@digest]; a colon before the last slash is a registry's port.
REFERENCE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._/-]|:[0-9]+/)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
HINT = "name a tag that stays what it is, such as IMAGE:2026-05-04, or a digest, IMAGE@sha256:..."


def pinned(reference: str) -> str:
    """The reference, if it names one image for good, as far as can be told. Raises DeployError."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise DeployError(f"{reference!r} is not an image reference; give it as REGISTRY/NAME:TAG")
    if match["digest"]:
        return reference
    if not match["tag"]:
        raise DeployError(f"the image {reference} has no tag, which means latest; {HINT}")
    if match["tag"] == "latest":
        raise DeployError(f"the image {reference} is whatever was pushed last; {HINT}")
    return reference
