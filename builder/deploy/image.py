"""References of container images."""

from __future__ import annotations

from builder.errors import DeployError
from builder.triton import advisories
from builder.triton.advisories import Judgement
from builder.triton.releases import REFERENCE, of_reference

HINT = "name a tag that stays what it is, such as IMAGE:2026-05-04, or a digest, IMAGE@sha256:..."


def judged(reference: str, slim: bool) -> Judgement:
    """What is open in its server, as far as its name tells which that is; `slim`: whether it may be of that kind."""
    known = of_reference(reference)
    return advisories.of_image(known.triton if known else None, reference, "build-repo image --kind nvidia", slim)


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
