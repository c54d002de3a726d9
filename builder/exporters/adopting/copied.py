"""Artifacts that are published as they are, byte for byte, under the name that the server looks for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from builder.errors import ExportError
from builder.triton.interface import Interface
from builder.types import AdoptRequest


@dataclass
class Copied:
    """An adopter of one kind of file, in which nothing can be changed."""

    SUFFIXES: tuple[str, ...]
    ALL: tuple[str, ...]
    """Precisions of the format, of which the entry names one where the file tells none."""
    ADDS_ACTIVATION: bool = False
    RUNS_WHERE_BUILT: bool = False

    def precisions(self, told: Interface) -> tuple[str, ...]:
        return (told.precision,) if told.precision else self.ALL

    def adopt(self, request: AdoptRequest) -> dict[str, str]:
        if request.activation != "none":
            raise ExportError(f"no {request.activation} can be put behind {request.source.name}")
        shutil.copyfile(request.source, request.path)
        return dict(request.interface.facts)
