"""NVIDIA's image, with exactly what the steps need, and a first process that drains the server."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder import __version__
from builder.containers import choice, packages
from builder.containers.order import Order
from builder.repository.served import Served, requirements

ENTRYPOINT = ("/opt/nvidia/nvidia_entrypoint.sh",)
"""Of NVIDIA's images: lays out the CUDA libraries for older drivers, then becomes its arguments."""
PACKAGE = Path(__file__).parent.parent
OF_LAUNCHERS = ("care", "hidden", "mirror", "regions", "sharing", "snapshot", "wanted", "workers")
FIRST_PROCESS = (
    PACKAGE / "runtimes" / "container" / "entry.py",
    PACKAGE / "runtimes" / "container" / "command_line.py",
    PACKAGE / "triton" / "control.py",
    *(PACKAGE / "launchers" / f"{name}.py" for name in OF_LAUNCHERS),
)
"""What drains the server: the file to start, and those that it imports, all beside it in one folder of the image."""


def refusal(models: Sequence[Served]) -> str:
    del models
    return ""


def base(models: Sequence[Served]) -> str:
    return choice.choose(models).release.reference()


def fingerprint(base_id: str, models: Sequence[Served]) -> str:
    """What an image that was built before is to be of, to be taken again."""
    parts = [base_id, __version__, *requirements(models), *(file.read_text("utf-8") for file in FIRST_PROCESS)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def write(order: Order, folder: Path) -> dict[str, Any]:
    wanted = packages.pinned(order.requirements)
    pip = packages.gather(wanted, folder, order.python)
    (folder / "first").mkdir()
    for file in FIRST_PROCESS:
        shutil.copy(file, folder / "first" / file.name)
    return {"pip": pip, "entrypoint": order.entrypoint if order.entrypoint is not None else ENTRYPOINT}
