"""What a run is resumed from, and what it is worth: written whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import TrainingError

if TYPE_CHECKING:
    import torch

LAST = "last.pt"
BEST = "best.safetensors"


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` write a file beside `path`, and put it in its place. Raises TrainingError; then nothing changed."""
    write_together({path: writer})


def write_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """The same for files that belong together: all are whole before the first is put in its place."""
    path = Path()
    try:
        for path, writer in writers.items():
            writer(partial_of(path))
            with partial_of(path).open("rb") as file:
                os.fsync(file.fileno())
        for path in writers:
            partial_of(path).replace(path)
    except BaseException as error:
        for other in writers:
            partial_of(other).unlink(missing_ok=True)
        if not isinstance(error, OSError | RuntimeError):  # torch reports a full disk as a RuntimeError
            raise
        kept = "; the one before it is kept" if path.exists() else ""
        raise TrainingError(f"{path} cannot be written: {_reason(error)}{kept}; make room and start again") from None


def partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def write_text(path: Path, text: str) -> None:
    write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Raises TrainingError."""
    import torch

    write(folder / LAST, lambda partial: torch.save(dict(state), partial))


def load(folder: Path) -> dict[str, Any] | None:
    """The state of the run in `folder`, as `save` was given it; None if there is none. Raises TrainingError."""
    import torch

    path = folder / LAST
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damage makes of a file
        raise TrainingError(f"the checkpoint {path} cannot be read: {_reason(error)}; --fresh begins anew") from None
    return state


def weights_writer(module: torch.nn.Module) -> Callable[[Path], object]:
    """A writer for `write`: the module's state dict, copied to the CPU, as a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def writer(partial: Path) -> None:
        state = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in module.state_dict().items()}
        try:
            save_file(state, partial)
        except SafetensorError as error:
            raise OSError(str(error)) from None

    return writer


def _reason(error: Exception) -> str:
    if "unexpected pos" in str(error):  # what torch makes of a write that came to an end
        return "the disk, or the size that a file may have, is at its end"
    return (getattr(error, "strerror", None) or str(error)).strip().split("\n", 1)[0]
