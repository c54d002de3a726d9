"""Repositories for `build-repo check`: one that is fine, and one in which every server refuses a model."""

from __future__ import annotations

from pathlib import Path

FINE = """backend: "identity"
max_batch_size: 4
input [{ name: "x" data_type: TYPE_FP32 dims: [ 3 ] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [ 3 ] }]
"""
BROKEN = f"{FINE}dynamic_batching {{ preferred_batch_size: [ 8 ] }}\n"
PLACE = "5:"
"""Line of what is wrong in it."""
CODE = "TMR4"
"""What its code begins with."""


def model(folder: Path, config: str) -> Path:
    """`folder`, as a model with one version."""
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model").write_text("-")
    (folder / "config.pbtxt").write_text(config)
    return folder
