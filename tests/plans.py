"""A small project whose every part can be edited, published without being built, and what is planned for it then."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from published import publish_model

from builder.build.changes import Plan, plans
from builder.build.entry import Entry, resolve
from builder.build.inputs import Reading
from builder.manifest.models import load_manifest
from builder.util.remembered import Digests

NETWORK = "from blocks import block\n\n\ndef make():\n    return block()\n"
BLOCKS = "from torch import nn\n\n\ndef block():\n    return nn.Linear(3, {})\n"
LONG_AGO = 1_500_000_000


@dataclass
class Project:
    """What the manifest and the files beside it say; `content` is all that a build depends on, and no more."""

    folder: Path
    content: dict[str, Any] = field(
        default_factory=lambda: {
            "weights": b"weights 1",
            "preprocess": 32,
            "labels": "cat\ndog\n",
            "code": 3,
            "images": 1,
            "precision": "fp32",
            "instances": 1,
        }
    )

    @property
    def repository(self) -> Path:
        return self.folder / "models"

    def written(self, notes: str = "") -> Project:
        """Every file anew, with new times, whether its content is another or not."""
        (self.folder / "photos" / "cat").mkdir(parents=True, exist_ok=True)
        says = self.content
        (self.folder / "w.pth").write_bytes(says["weights"])
        (self.folder / "labels.txt").write_text(says["labels"])
        (self.folder / "net.py").write_text(NETWORK)
        (self.folder / "blocks.py").write_text(BLOCKS.format(says["code"]))
        photo = self.folder / "photos" / "cat" / "1.png"
        photo.write_bytes(picture(says["images"]))
        os.utime(photo, (LONG_AGO, LONG_AGO))  # another of the same size and time
        (self.folder / "models.yaml").write_text(f"# {notes}\nmodels:\n  m:\n{self._keys()}")
        return self

    def _keys(self) -> str:
        says = self.content
        keys = {
            "network": "net.py:make",
            "weights": "w.pth",
            "format": "onnx",
            "precision": says["precision"],
            "instances": says["instances"],
            "labels": "labels.txt",
            "images": "photos",
            "preprocess": f"{{channels: 3, resize: 40, crop: {says['preprocess']}, mean: [0, 0, 0], std: [1, 1, 1]}}",
        }
        return "".join(f"    {key}: {value}\n" for key, value in keys.items())

    def entry(self) -> Entry:
        (entry,) = resolve(load_manifest(self.folder / "models.yaml"))
        return entry

    def publish(self) -> int:
        """As a build of it would, without the network."""
        inputs = Reading(Digests()).of(self.entry())
        return publish_model(self.repository, backend="onnxruntime", filename="model.onnx", inputs=inputs).version

    def plan(self) -> Plan:
        (found,) = plans([self.entry()], self.repository)
        return found


def picture(shade: int) -> bytes:
    """A PNG of one grey pixel; as many bytes for every shade."""
    data = zlib.compress(bytes([0, shade]), 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


EDITS: dict[str, tuple[Any, Any]] = {
    "weights": (b"weights 1", b"weights 2"),
    "preprocess": (32, 36),
    "labels": ("cat\ndog\n", "cow\ndog\n"),
    "code": (3, 4),
    "images": (1, 2),
    "precision": ("fp32", "fp16"),
    "instances": (1, 2),
}
"""By what a plan calls it, two values of each part."""

Edit = Callable[[Project], Project]
