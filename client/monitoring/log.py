"""Frames as CSV: a row a model and interval, appended."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

from client.errors import UnwritableFile
from client.monitoring.frames import Frame, ModelFrame

MACHINE = ("cpu", "memory_used", "memory_total", "gpu_utilization", "gpu_memory_used")
COLUMNS = ("time", "interval", *(field.name for field in dataclasses.fields(ModelFrame)), *MACHINE)


class CsvLog:
    def __init__(self, path: Path) -> None:
        """Raises UnwritableFile, also if the file is there with other columns."""
        self._path = path
        try:
            self._file = path.open("a+", encoding="utf-8", newline="")
            self._file.seek(0)
            header = self._file.readline().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UnwritableFile(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        if header and header != ",".join(COLUMNS):
            self._file.close()
            raise UnwritableFile(f"{path} has other columns than these: {','.join(COLUMNS)}; name another file")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        if not header:
            self._writer.writeheader()

    def add(self, time: str, frame: Frame) -> None:
        try:
            for model in frame.models:
                self._writer.writerow({"time": time, **_rounded(dataclasses.asdict(model)), **_machine(frame)})
            self._file.flush()
        except OSError as error:
            raise UnwritableFile(f"{self._path}: {error.strerror}") from None

    def close(self) -> None:
        self._file.close()


def _machine(frame: Frame) -> dict[str, Any]:
    """Of GPUs the mean, and the sum of the memory."""
    rates = [gpu.utilization for gpu in frame.gpus if gpu.utilization is not None]
    used = [gpu.memory_used for gpu in frame.gpus if gpu.memory_used is not None]
    return _rounded(
        {
            "interval": frame.interval,
            "cpu": frame.cpu,
            "memory_used": frame.memory_used,
            "memory_total": frame.memory_total,
            "gpu_utilization": sum(rates) / len(rates) if rates else None,
            "gpu_memory_used": sum(used) if used else None,
        }
    )


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in record.items()}
