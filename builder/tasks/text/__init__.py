"""One text to a vector, or to the probabilities of its classes. The module is a `Task`."""

from __future__ import annotations

from builder.tasks.spec import ModelSpec
from builder.tasks.text.entries import calibration, require
from builder.tasks.text.pipeline import examples, pipeline
from builder.tasks.text.spec import TextSpec
from builder.tasks.text.study import head, study
from builder.tasks.text.verify import hold, verify

__all__ = ["HAS_STEPS", "SPEC", "calibration", "examples", "head", "hold", "pipeline", "require", "study", "verify"]

SPEC: type[ModelSpec] = TextSpec
HAS_STEPS = True
VERSIONED: tuple[str, ...] = ("tokenizers",)
"""Packages, beside the format's, whose versions decide what is published."""
