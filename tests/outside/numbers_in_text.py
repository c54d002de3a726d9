"""A step: "1, 2, 3" -> float32 [3], each number divided by `scale`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from builder.triton.signature import Signature, TensorSpec

ROLE = "preprocess"
MODEL_FILE = Path(__file__).with_name("numbers_in_text_model.py")
PACKAGES: tuple[str, ...] = ()


class Settings(BaseModel):
    count: int
    scale: float = 1.0


def signature(settings: Settings) -> Signature:
    return Signature((TensorSpec("LINE", "STRING", (1,)),), (TensorSpec("NUMBERS", "FP32", (settings.count,)),))


def function(settings: Settings) -> Callable[[bytes], Any]:
    return lambda line: np.array([float(part) for part in line.split(b",")], np.float32) / np.float32(settings.scale)
