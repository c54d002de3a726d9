"""The Python packages of an image: pinned to what is installed here, which is what was verified."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from builder.errors import ImageError
from builder.util.hashing import sha256

PLATFORM = "x86_64"
GLIBC_MINOR = 36
"""Of the oldest base image that is meant, Debian 12's; the embedded server asks for 2.35."""
# pip takes each tag by itself, not those that it includes.
MANYLINUX = [f"manylinux_2_{minor}" for minor in range(GLIBC_MINOR, 4, -1)]
MANYLINUX += ["manylinux2014", "manylinux2010", "manylinux1"]
TOLD_LINES = 5
ALONE = ("tokenizers",)
"""What steps ask for and use without what it declares: a hub's client, which a tokenizer.json beside a step spares."""


def pinned(roots: Iterable[str], alone: Iterable[str] = ()) -> dict[str, str]:
    """name -> version of the packages and all that they need, as installed here; of `alone` not what they need.

    A root may have a version of its own: `pillow==13.0.0`. Raises ImageError for what is not installed.
    """
    found: dict[str, str] = {}
    waiting = [_parsed(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found[name] = _exact(requirement) or _installed(name)
        if name not in (*alone, *ALONE):
            waiting += [one for one in _requirements(name) if _is_wanted(one, requirement.extras)]
    return dict(sorted(found.items()))


def _parsed(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement:
        raise ImageError(f"{text!r}, which a step asks for, is not the name of a package") from None


def _is_wanted(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _exact(requirement: Requirement) -> str | None:
    pins = [one.version for one in requirement.specifier if one.operator == "=="]
    return pins[0] if pins else None


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        raise ImageError(f"the version of {name} is not known, since it is not here; run: pip install {name}") from None


def _requirements(name: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in importlib.metadata.requires(name) or ()]
    except importlib.metadata.PackageNotFoundError:
        return []  # pinned by the repository, and not installed here


def download(packages: Mapping[str, str], folder: Path, python: str) -> None:
    """The wheels of the packages, for Linux on x86-64 and a Python such as 3.12, by this environment's pip.

    Raises ImageError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"--dest={folder}", f"--python-version={python}", "--implementation=cp"]
    command += [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
    command += [f"--platform={tag}_{PLATFORM}" for tag in MANYLINUX]
    command += [f"{name}=={version}" for name, version in packages.items()]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise ImageError("the image's packages cannot be downloaded; pip said:\n" + "\n".join(said[-TOLD_LINES:]))


def gather(packages: dict[str, str], folder: Path, python: str) -> str:
    """A build context's wheels/, requirements.txt with their hashes, and pip itself; the name of pip's wheel.

    Raises ImageError.
    """
    download(packages | {"pip": importlib.metadata.version("pip")}, folder / "wheels", python)
    pip = next((folder / "wheels").glob("pip-*.whl"))
    pip.rename(folder / pip.name)
    (folder / "requirements.txt").write_text(hashed(folder / "wheels"), encoding="utf-8")
    return pip.name


def hashed(folder: Path) -> str:
    """requirements.txt for the wheels of a folder, each with its SHA-256."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        lines.append(f"{name}=={version} --hash=sha256:{sha256(wheel)}\n")
    return "".join(lines)
